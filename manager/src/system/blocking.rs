//! Work that waits for the disk: on a thread of its own, so that what hangs there holds up one request and not all.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Runs `work` and gives its result. None if it panicked where a panic unwinds, as in tests; in a release it ends the process.
///
/// Where the machine has no room for one more thread it is done on this one. (tokio's `spawn_blocking` panics then.)
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let work = Arc::new(Mutex::new(Some(work)));
    let (done, result) = oneshot::channel();
    let there = {
        let work = work.clone();
        move || {
            if let Some(work) = take(&work) {
                // The caller may have gone.
                let _ = done.send(work());
            }
        }
    };
    match std::thread::Builder::new().name("disk".into()).spawn(there) {
        Ok(_) => result.await.ok(),
        Err(error) => {
            tracing::debug!(%error, "no thread");
            take(&work).map(|work| work())
        }
    }
}

/// Begins `work`, whose result comes when it comes. An error: the machine has no room for one more thread.
pub fn begin<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    // The caller may have gone.
    std::thread::Builder::new().name("disk".into()).spawn(move || drop(done.send(work())))?;
    Ok(result)
}

thread_local! {
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the loop's.
pub fn this_is_the_loop() {
    IS_LOOP.set(true);
}

/// To be said by all work that grows with what is on record: the loop, which everybody waits for, does none of it.
pub fn never_on_the_loop() {
    debug_assert!(!IS_LOOP.get(), "history is read on the loop's thread");
}

fn take<F>(work: &Mutex<Option<F>>) -> Option<F> {
    work.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_of_it_stays_there() {
        let here = std::thread::current().id();
        assert_ne!(run(move || std::thread::current().id()).await, Some(here));
        let fell = run(|| panic!("on purpose, in a test")).await;
        assert_eq!(fell, None::<()>);
    }

    #[test]
    #[should_panic(expected = "history is read on the loop's thread")]
    fn the_loop_reads_no_history() {
        this_is_the_loop();
        never_on_the_loop();
    }
}
