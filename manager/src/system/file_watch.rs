//! Changes of files and directories, as the kernel reports them (inotify(7)).
//!
//! All watches share one inotify instance, because a user may have few of them. The instance and the task that reads from it
//! exist as long as there is a watch. At rest nothing wakes.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::waiting;

/// Pause after each reading of reports: a file that is written without end wakes nobody more often.
const PAUSE: Duration = Duration::from_millis(10);
/// The most reports that one reading takes.
const REPORTS: usize = 4096;

/// The watches of this process.
#[derive(Clone, Default)]
pub struct FileWatches(Arc<Mutex<Option<Running>>>);

/// The instance, while anything is watched.
struct Running {
    instance: Arc<AsyncFd<OwnedFd>>,
    task: AbortHandle,
    /// By the kernel's number of the watch, which belongs to an inode.
    watched: HashMap<i32, Holders>,
}

/// The holders of one watch.
struct Holders {
    count: usize,
    tell: watch::Sender<()>,
}

/// A watch on one file or directory. Dropping it ends the watch.
pub struct Watched {
    number: i32,
    told: watch::Receiver<()>,
    of: FileWatches,
}

impl FileWatches {
    /// Watches an open file for writes. `path` leads to the file: that of its descriptor in `/proc`.
    ///
    /// # Errors
    /// The kernel has no room for one more watch. Needs a runtime.
    pub fn file(&self, path: &Path) -> io::Result<Watched> {
        self.watch(path, WatchFlags::MODIFY)
    }

    /// Watches a directory for names that appear, move or vanish.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn directory(&self, path: &Path) -> io::Result<Watched> {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        self.watch(path, names | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW)
    }

    fn watch(&self, path: &Path, flags: WatchFlags) -> io::Result<Watched> {
        let mut running = self.running();
        let has = match running.take() {
            Some(has) => has,
            None => self.begin()?,
        };
        let has = running.insert(has);
        let number = match inotify::add_watch(&*has.instance, path, flags) {
            Ok(number) => number,
            Err(error) => {
                end_if_idle(&mut running);
                return Err(error.into());
            }
        };
        let holders =
            has.watched.entry(number).or_insert_with(|| Holders { count: 0, tell: watch::Sender::new(()) });
        holders.count += 1;
        Ok(Watched { number, told: holders.tell.subscribe(), of: self.clone() })
    }

    fn begin(&self) -> io::Result<Running> {
        let instance =
            Arc::new(waiting::readable(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?);
        let task = tokio::spawn(read(instance.clone(), self.clone())).abort_handle();
        Ok(Running { instance, task, watched: HashMap::new() })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of watches in the kernel.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.running().as_ref().map_or(0, |has| has.watched.len())
    }
}

/// Ends the instance if nothing is watched.
fn end_if_idle(running: &mut Option<Running>) {
    if let Some(has) = running.take_if(|has| has.watched.is_empty()) {
        has.task.abort();
    }
}

/// Passes the reports of an instance on, until it is aborted.
async fn read(instance: Arc<AsyncFd<OwnedFd>>, watches: FileWatches) {
    loop {
        let Ok(mut ready) = instance.readable().await else { return };
        let (mut numbers, mut lost, mut emptied) = (Vec::new(), false, false);
        {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut reports = Reader::new(ready.get_inner(), &mut space);
            while numbers.len() < REPORTS {
                match reports.next() {
                    Ok(report) => {
                        lost |= report.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        numbers.push(report.wd());
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => {
                        emptied = error == Errno::AGAIN;
                        // Nobody is to wait for reports that do not come.
                        lost |= !emptied;
                        break;
                    }
                }
            }
        }
        if emptied {
            ready.clear_ready();
        }
        drop(ready);
        {
            let running = watches.running();
            let Some(has) = &*running else { return };
            numbers.sort_unstable();
            numbers.dedup();
            let told = has.watched.iter().filter(|(number, _)| lost || numbers.binary_search(number).is_ok());
            told.for_each(|(_, holders)| holders.tell.send_replace(()));
        }
        sleep(PAUSE).await;
    }
}

impl Watched {
    /// Takes all changes so far as seen.
    pub fn seen(&mut self) {
        self.told.mark_unchanged();
    }

    /// Returns once something has changed since [`Self::seen`]. Safe to cancel.
    pub async fn changed(&mut self) {
        // The sender lives as long as this.
        if self.told.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut running = self.of.running();
        let Some(has) = &mut *running else { return };
        let Some(holders) = has.watched.get_mut(&self.number) else { return };
        holders.count -= 1;
        if holders.count > 0 {
            return;
        }
        has.watched.remove(&self.number);
        // The kernel has ended it if the file is gone.
        let _ = inotify::remove_watch(&*has.instance, self.number);
        end_if_idle(&mut running);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn writes_and_names_are_reported_and_nothing_is_left_when_nobody_watches() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = fs::File::create(&path).unwrap();
        let watches = FileWatches::default();
        let opened = fs::File::open(&path).unwrap();
        let by_descriptor = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let mut one = watches.file(by_descriptor.as_ref()).unwrap();
        let mut two = watches.file(&path).unwrap();
        let mut names = watches.directory(dir.path()).unwrap();
        assert_eq!(watches.count(), 2, "one inode is watched once");
        assert!(one.changed().now_or_never().is_none() && names.changed().now_or_never().is_none());
        file.write_all(b"x").unwrap();
        timeout(BOUND, one.changed()).await.unwrap();
        timeout(BOUND, two.changed()).await.unwrap();
        assert!(names.changed().now_or_never().is_none(), "a write changes no name");
        drop(two);
        // Under whatever name it is by now.
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        timeout(BOUND, names.changed()).await.unwrap();
        one.seen();
        file.write_all(b"y").unwrap();
        timeout(BOUND, one.changed()).await.unwrap();
        let instance = Arc::downgrade(&watches.running().as_ref().unwrap().instance);
        drop((one, names));
        assert!(watches.running().is_none());
        timeout(BOUND, async {
            while instance.strong_count() > 0 {
                tokio::task::yield_now().await
            }
        })
        .await
        .unwrap();
        assert!(watches.file(&path).is_err() && watches.running().is_none());
    }
}
