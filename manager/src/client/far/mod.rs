//! A daemon on another machine: one connection by HTTP/2 that carries all requests and streams of this process.
//!
//! By [`ssh`] it is the pipe of a process, by [`tls`] a connection of its own. When it ends, the next request has another one made;
//! after the first success, for as long as it takes.

mod open;
pub mod ssh;
mod streams;
pub mod tls;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use protocol::api::Problem;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use self::open::{Open, Terms};
use self::ssh::SshOptions;
use self::streams::Streams;
use self::tls::TlsOptions;
use super::ClientError;
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
/// While it pauses, the client looks this often whether the machine has slept.
const LOOK: Duration = Duration::from_secs(1);
/// Why a connection was given up.
const NOTHING_CAME: &str = "it carried nothing any more";
/// More than this, in milliseconds, and the machine has slept.
const SLEPT_MS: u64 = 2_000;

/// The other side's description of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Greeting {
    /// The version of its kennel; empty if it does not tell.
    pub version: String,
    /// The home directory of its user, where relative paths begin; empty if it does not tell.
    #[serde(default)]
    pub home: String,
    /// The state directory that it serves.
    pub state_dir: String,
    /// Warnings for a person, for example that logging out ends the daemon.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How a host is reached.
#[derive(Clone, Debug)]
pub struct FarOptions {
    /// The name under which a person knows the host.
    pub name: String,
    /// The way there.
    pub way: Way,
    /// Ask nobody for a password, and wait at most so long for the host.
    pub within: Option<Duration>,
}

/// A way to another machine.
#[derive(Clone, Debug)]
pub enum Way {
    /// Whoever can log in there can use the daemon of that account.
    Ssh(SshOptions),
    /// The daemon listens there, and takes this machine's key.
    Tls(TlsOptions),
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
pub struct Far {
    options: FarOptions,
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
    /// How streams of events have fared.
    streams: Streams,
}

/// Why a host is not reached.
#[derive(Clone, Debug)]
struct Unreached {
    what: String,
    hint: Option<String>,
    /// The reason that the host itself gives.
    problem: Option<Box<Problem>>,
    /// To try again is in vain, or harmful.
    for_good: bool,
    /// Before this time is over it refuses again.
    after: Duration,
}

impl Unreached {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, problem: None, for_good: false, after: Duration::ZERO }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn for_good(mut self) -> Self {
        self.for_good = true;
        self
    }
}

impl From<Unreached> for ClientError {
    fn from(Unreached { what, hint, problem, .. }: Unreached) -> Self {
        match problem {
            Some(problem) => Self::Problem(problem),
            None => Self::Host { what, hint },
        }
    }
}

/// A way to send requests over one connection.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub sender: http2::SendRequest<Full<Bytes>>,
    /// How requests are written there.
    pub terms: Arc<Terms>,
    /// The number of the connection.
    pub number: u64,
    pub far: Arc<Far>,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Far").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Tells when `ssh` may ask on the terminal, and when it no longer does.
struct Asks<'a>(&'a Tell);

impl<'a> Asks<'a> {
    fn begin(far: &'a Far) -> Option<Self> {
        matches!(far.options.way, Way::Ssh(_)).then(|| {
            (far.tell)(News::Asks(true));
            Self(&far.tell)
        })
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        (self.0)(News::Asks(false));
    }
}

impl Far {
    /// To a host that nobody has connected to yet.
    pub fn new(options: FarOptions, tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self { options, state: Mutex::default(), tell: Box::new(tell) }
    }

    /// The name of the host.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Returns true if the daemon there can be started and stopped from here.
    pub fn starts_daemons(&self) -> bool {
        matches!(self.options.way, Way::Ssh(_))
    }

    /// The way to the host.
    pub fn way(&self) -> &Way {
        &self.options.way
    }

    /// The host's description of itself; none before the first connection.
    pub fn greeting(&self) -> Option<Greeting> {
        self.state().greeting.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits before the next stream, if the machine has broken off the last ones at once.
    pub(super) async fn before_stream(&self) {
        let pause = self.state().streams.pause();
        pause_awake(pause).await;
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
                    let (sender, terms, number) = (open.sender.clone(), open.terms.clone(), state.count);
                    return Ok(Lane { sender, terms, number, far: self.clone() });
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
            None => NOTHING_CAME.to_owned(),
        };
        let _asks = Asks::begin(self);
        if self.greeting().is_none() {
            return self.open(self.options.within, false).await;
        }
        let deaf = {
            let mut state = self.state();
            state.deaf = if std::mem::take(&mut state.heard) { 0 } else { state.deaf + 1 };
            state.deaf
        };
        if deaf > MAX_DEAF {
            let what = format!("it is reached, and over {MAX_DEAF} connections it has answered nothing");
            return Err(Unreached::new(what).hint("try again, or look there"));
        }
        self.open_again(why, deaf).await
    }

    /// Connects again, however long it takes.
    ///
    /// # Errors
    /// The host refuses this machine, or is another one.
    async fn open_again(&self, mut why: String, deaf: u32) -> Result<Open, Unreached> {
        let mut pause = match deaf {
            0 => Duration::ZERO,
            deaf => doubled(deaf - 1),
        };
        // Every second attempt does without what others share, which may hang.
        let mut alone = false;
        let mut told = deaf > 0;
        if told {
            (self.tell)(News::Lost(std::mem::take(&mut why)));
        }
        loop {
            pause_awake(pause).await;
            let mut opening = pin!(self.open(Some(AGAIN), alone));
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    () = sleep(BRIEFLY), if !told => {
                        (self.tell)(News::Lost(std::mem::take(&mut why)));
                        told = true;
                    }
                }
            };
            let after = opened.as_ref().err().map_or(Duration::ZERO, |unreached| unreached.after);
            match opened {
                Ok(open) => {
                    if told {
                        (self.tell)(News::Back);
                    }
                    return Ok(open);
                }
                Err(unreached) if unreached.for_good => return Err(unreached),
                Err(Unreached { what, .. }) if !told => {
                    (self.tell)(News::Lost(if why.is_empty() { what } else { std::mem::take(&mut why) }));
                    told = true;
                }
                Err(_) => {}
            }
            alone = !alone;
            pause = jittered((pause * 2).clamp(PAUSE, MAX_PAUSE)).max(after);
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
        let Ok(sign) = self.terms.get(self.terms.sign) else { return false };
        timeout_at(Instant::now() + SIGN, sender.send_request(sign)).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Notes that the machine has answered something.
    pub fn heard(&self) {
        let mut state = self.far.state();
        if state.count == self.number {
            state.heard = true;
        }
    }

    /// Notes that the machine has ended a stream, which had lived so long and brought so many events.
    pub fn stream_ended(&self, lived: Duration, events: u64) {
        self.far.state().streams.ended(lived, events);
    }

    /// Ends a connection that carries nothing any more.
    pub fn give_up(&self) -> ClientError {
        let mut state = self.far.state();
        let open = if state.count == self.number { state.now.take() } else { None };
        drop(state);
        drop(open);
        ClientError::Lost(NOTHING_CAME.to_owned())
    }
}

/// The pause after so many attempts that were in vain.
fn doubled(times: u32) -> Duration {
    (PAUSE * 2u32.saturating_pow(times.min(16))).min(MAX_PAUSE)
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
