//! A daemon on another machine: HTTP/2 over the standard input and output of `ssh -T HOST kennel connect-stdio`.
//!
//! `ssh` is the system's, so that keys, agents, jumps, known hosts and shared connections work as configured. One process carries all
//! requests and streams. When it ends, the next request has another one started; after the first success, for as long as it
//! takes.

mod command;
mod open;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

pub use self::command::BELOW;
use self::open::Open;
pub use self::open::{HELLO, PROTOCOL};
use super::host::HostAddress;
use super::{ClientError, relay};
use crate::pass::AUTHORITY;
use crate::system::clock;

/// The pause before the second attempt to reconnect, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The most connections in a row over which nothing is heard but the greeting.
const MAX_DEAF: u32 = 5;
/// After so long without an answer the other end is asked for a sign, which it gives within the second time: a request that is being
/// sent over a slow line may be in the way.
const SILENT: Duration = Duration::from_secs(10);
/// See [`SILENT`].
const SIGN: Duration = Duration::from_secs(35);
/// A connection that is back sooner is not worth a word.
const BRIEFLY: Duration = Duration::from_secs(1);
/// The longest that one attempt to reconnect takes. Nobody is asked for a password then: the terminal may be in use.
const AGAIN: Duration = Duration::from_secs(20);
/// The longest wait for a host where there is no terminal on which anybody could be asked.
const UNATTENDED: Duration = Duration::from_secs(60);
/// While it pauses, the client looks this often whether the machine has slept.
const LOOK: Duration = Duration::from_secs(1);
/// More than this, in milliseconds, and the machine has slept.
const SLEPT_MS: u64 = 2_000;

/// The other side's description of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The version of its kennel.
    pub version: String,
    /// The home directory of its user: relative paths begin there.
    pub home: String,
    /// The state directory that it serves.
    pub state_dir: String,
    /// Warnings for a person, for example that logging out ends the daemon.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How `ssh` is started.
#[derive(Clone, Debug)]
pub struct SshOptions {
    /// The name under which a person knows the host.
    pub name: String,
    /// Where it is. Its path is the state directory.
    pub address: HostAddress,
    /// The path of `kennel` on the host; none: it is looked for.
    pub kennel: Option<String>,
    /// Ask nobody for a password, and wait at most so long for the host.
    pub within: Option<Duration>,
    /// The program kennel of this machine, which ends `ssh` together with this process; none: `ssh` ends by itself.
    pub below: Option<PathBuf>,
}

/// News of the connection, for a person.
#[derive(Clone, Debug)]
pub enum News {
    /// It is lost, and is made anew.
    Lost(String),
    /// It is there again.
    Back,
    /// `ssh` connects, and may ask on the terminal; or is done with that.
    Asks(bool),
    /// The host is reached for the first time, and describes itself.
    Reached(Greeting),
}

type Tell = Box<dyn Fn(News) + Send + Sync>;

/// The connection to one host.
pub struct Ssh {
    options: SshOptions,
    state: Mutex<State>,
    tell: Tell,
}

/// The state of the connection.
#[derive(Default)]
struct State {
    now: Option<Open>,
    /// Whoever waits for the next connection looks here: it is made by a task of its own, and not by those who wait.
    opening: Option<watch::Receiver<Option<Result<(), Unreached>>>>,
    greeting: Option<Greeting>,
    /// The number of connections so far.
    count: u64,
    /// Something was heard over the last one, beside the greeting.
    heard: bool,
    /// The number of connections in a row over which nothing was.
    deaf: u32,
}

/// Why a host is not reached.
#[derive(Clone, Debug)]
struct Unreached {
    what: String,
    hint: Option<String>,
}

impl From<Unreached> for ClientError {
    fn from(Unreached { what, hint }: Unreached) -> Self {
        Self::Host { what, hint }
    }
}

/// A way to send requests over one connection.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub sender: http2::SendRequest<Full<Bytes>>,
    /// The number of the connection.
    pub number: u64,
    pub ssh: Arc<Ssh>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Tells when `ssh` may ask on the terminal, and when it no longer does.
struct Asks<'a>(&'a Tell);

impl<'a> Asks<'a> {
    fn begin(tell: &'a Tell) -> Self {
        tell(News::Asks(true));
        Self(tell)
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        (self.0)(News::Asks(false));
    }
}

impl Ssh {
    /// To a host that nobody has connected to yet.
    pub fn new(options: SshOptions, tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self { options, state: Mutex::default(), tell: Box::new(tell) }
    }

    /// The name of the host.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The host's description of itself; none before the first connection.
    pub fn greeting(&self) -> Option<Greeting> {
        self.state().greeting.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that works as far as is known. Connects if there is none; if there was one before, until there is one again.
    ///
    /// # Errors
    /// [`ClientError::Host`] if the first attempt fails, or if nothing is heard over one connection after the other.
    pub(super) async fn lane(self: &Arc<Self>) -> Result<Lane, ClientError> {
        loop {
            let mut opened = {
                let mut state = self.state();
                if let Some(open) = state.now.as_ref().filter(|open| !open.sender.is_closed()) {
                    let (sender, number) = (open.sender.clone(), state.count);
                    return Ok(Lane { sender, number, ssh: self.clone() });
                }
                match &state.opening {
                    Some(opening) => opening.clone(),
                    None => {
                        let (told, opening) = watch::channel(None);
                        state.opening = Some(opening.clone());
                        let (me, before) = (self.clone(), state.now.take());
                        tokio::spawn(async move {
                            let opened = me.anew(before).await;
                            let mut state = me.state();
                            state.opening = None;
                            let opened = opened.map(|open| {
                                state.now = Some(open);
                                state.count += 1;
                            });
                            drop(state);
                            // Nobody may wait any more.
                            let _ = told.send(Some(opened));
                        });
                        opening
                    }
                }
            };
            match opened.wait_for(Option::is_some).await.map(|opened| opened.clone()) {
                Ok(Some(Err(unreached))) => return Err(unreached.into()),
                Ok(_) => {}
                Err(_) => return Err(ClientError::Lost("the connection is given up".to_owned())),
            }
        }
    }

    /// The next connection, after `before`.
    async fn anew(&self, before: Option<Open>) -> Result<Open, Unreached> {
        let why = match before {
            Some(open) => open.end().await,
            None => String::new(),
        };
        let _asks = Asks::begin(&self.tell);
        if self.greeting().is_none() {
            let unattended = || (!command::has_terminal()).then_some(UNATTENDED);
            return self.open(self.options.within.or_else(unattended)).await;
        }
        let deaf = {
            let mut state = self.state();
            state.deaf = if std::mem::take(&mut state.heard) { 0 } else { state.deaf + 1 };
            state.deaf
        };
        if deaf > MAX_DEAF {
            let what = format!("it is reached, and over {MAX_DEAF} connections it has answered nothing");
            return Err(Unreached { what, hint: Some("try again, or look there".to_owned()) });
        }
        Ok(self.open_again(why, deaf).await)
    }

    /// Connects again, however long it takes.
    async fn open_again(&self, mut why: String, deaf: u32) -> Open {
        let mut pause = match deaf {
            0 => Duration::ZERO,
            deaf => (PAUSE * 2u32.saturating_pow(deaf - 1)).min(MAX_PAUSE),
        };
        let mut told = deaf > 0;
        if told {
            (self.tell)(News::Lost(std::mem::take(&mut why)));
        }
        loop {
            pause_awake(pause).await;
            let mut opening = pin!(self.open(Some(AGAIN)));
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    () = sleep(BRIEFLY), if !told => {
                        (self.tell)(News::Lost(std::mem::take(&mut why)));
                        told = true;
                    }
                }
            };
            match opened {
                Ok(open) => {
                    if told {
                        (self.tell)(News::Back);
                    }
                    return open;
                }
                Err(Unreached { what, .. }) if !told => {
                    (self.tell)(News::Lost(if why.is_empty() { what } else { std::mem::take(&mut why) }));
                    told = true;
                }
                Err(_) => {}
            }
            pause = jittered((pause * 2).clamp(PAUSE, MAX_PAUSE));
        }
    }
}

impl Lane {
    /// Does what needs an answer over this connection, for as long as the machine gives signs over it.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if it does not: the connection is given up, and the next request makes another.
    pub async fn watched<T>(
        &self,
        mut work: impl Future<Output = Result<T, ClientError>> + Unpin,
    ) -> Result<T, ClientError> {
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(SILENT) => {}
            }
            tokio::select! {
                done = &mut work => return done,
                alive = self.is_alive() => if !alive {
                    return Err(self.give_up());
                }
            }
        }
    }

    /// Asks the other end for a sign.
    async fn is_alive(&self) -> bool {
        let mut sender = self.sender.clone();
        let sign =
            hyper::Request::builder().uri(format!("http://{AUTHORITY}{}", relay::SIGN)).body(Full::default());
        let Ok(sign) = sign else { return false };
        timeout_at(Instant::now() + SIGN, sender.send_request(sign)).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Notes that the machine has answered something.
    pub fn heard(&self) {
        let mut state = self.ssh.state();
        if state.count == self.number {
            state.heard = true;
        }
    }

    /// Ends a connection that carries nothing any more.
    pub fn give_up(&self) -> ClientError {
        let mut state = self.ssh.state();
        let open = if state.count == self.number { state.now.take() } else { None };
        drop(state);
        drop(open);
        ClientError::Lost("the connection carried nothing any more".to_owned())
    }
}

/// Waits, and no longer than until the machine wakes up from a sleep.
async fn pause_awake(pause: Duration) {
    let (before, mut left) = (clock::asleep_ms(), pause);
    while !left.is_zero() {
        let part = left.min(LOOK);
        sleep(part).await;
        left -= part;
        if clock::asleep_ms() > before + SLEPT_MS {
            return;
        }
    }
}

/// Up to a quarter more or less, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = crate::system::random::bytes::<1>().map_or(128, |[byte]| u32::from(byte));
    pause * (192 + random / 2) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_stay_near() {
        for _ in 0..100 {
            let pause = jittered(PAUSE);
            assert!(pause >= PAUSE * 3 / 4 && pause <= PAUSE * 5 / 4, "{pause:?}");
        }
    }
}
