//! The page's port on loopback: plain HTTP for browsers of this machine, opened when `kennel web` first asks.
//!
//! The state directory keeps the address, so the next daemon opens the same one and an open tab goes on. An orderly restart hands
//! the listening socket over ([`web_handover`]): the address is never free. An address that another program has taken
//! meanwhile is told and not exchanged for another: tabs and cookies belong to the address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::WebInfo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::super::connections::{FAREWELL, Inlet};
use super::super::stop::{Leave, Stop};
use super::bound::bind;
use super::door::Limits;
use super::{Front, SUCCESSION, Way, is_tried_again};
use crate::keys::Keys;
use crate::session_manager::SessionManager;
use crate::system::blocking;
use crate::{web_files, web_handover};

/// Reason for which the port cannot be opened or closed.
#[derive(Debug)]
pub enum Unavailable {
    /// The address cannot be had.
    Address(String),
    /// The address cannot be kept or forgotten.
    File(io::Error),
}

/// The port, open or not.
#[derive(Clone)]
pub struct Loopback(Arc<Shared>);

struct Shared {
    manager: SessionManager,
    keys: Keys,
    inlet: Inlet,
    leaving: Stop,
    closed: Stop,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// The kept address is tried again: the daemon before may still have it.
    Waiting,
    Open {
        address: SocketAddr,
        front: Arc<Front>,
        /// Ends once no client is accepted any more, and returns the listener. None: the daemon leaves and has let go of it.
        accepting: Option<JoinHandle<TcpListener>>,
        /// Ends with the last connection.
        connections: JoinHandle<()>,
    },
}

fn origin(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Says why an address cannot be had.
fn why(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("another program has {address}"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

impl Loopback {
    /// A port that is not open. It closes when the daemon is `leaving`; connections go on until `closed`.
    pub fn new(manager: &SessionManager, keys: Keys, inlet: Inlet, leaving: Stop, closed: Stop) -> Self {
        let (manager, state) = (manager.clone(), Mutex::default());
        Self(Arc::new(Shared { manager, keys, inlet, leaving, closed, state }))
    }

    /// Opens the address that a daemon before has opened, if one has. Whoever asks this daemon first hears where it is.
    pub async fn resume(&self) {
        let mut state = self.0.state.lock().await;
        let address = match self.kept().await {
            Ok(Some(address)) => address,
            Ok(None) => return,
            Err(error) => {
                return tracing::warn!("the page's address is not known: {error}; no port is opened for it");
            }
        };
        match self.succeed(address).await {
            Ok(listener) => self.serve(&mut state, listener, address),
            Err(error) => {
                self.tell(address, Some(why(address, &error)));
                *state = State::Waiting;
                let port = self.clone();
                tokio::spawn(async move { port.try_again(address, error).await });
            }
        }
    }

    /// The listener of the daemon before, if a command keeps it, else a new one.
    async fn succeed(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let directory = self.0.manager.state_dir().to_owned();
        match blocking::run(move || web_handover::take(&directory, address)).await.flatten() {
            Some(listener) => TcpListener::from_std(listener),
            None => bind(address),
        }
    }

    /// Tries an address again for as long as the daemon before may have it.
    async fn try_again(&self, address: SocketAddr, mut error: io::Error) {
        let until = Instant::now() + SUCCESSION;
        while is_tried_again(&error) && Instant::now() < until && !self.0.leaving.is_requested() {
            sleep(Duration::from_millis(50)).await;
            let mut state = self.0.state.lock().await;
            // Somebody has opened or closed it meanwhile.
            if !matches!(*state, State::Waiting) {
                return;
            }
            match self.succeed(address).await {
                Ok(listener) => return self.serve(&mut state, listener, address),
                Err(again) => error = again,
            }
        }
        tracing::warn!("the page is not served: {}", why(address, &error));
    }

    /// Opens the port, and returns its origin. The address is the one that is kept, else a new one.
    ///
    /// # Errors
    /// The address cannot be had, or not be kept. The port is not open then.
    pub async fn open(&self) -> Result<String, Unavailable> {
        let mut state = self.0.state.lock().await;
        if let State::Open { address, .. } = &*state {
            return Ok(origin(*address));
        }
        let kept = self.kept().await.map_err(Unavailable::File)?;
        let (listener, address) = match kept {
            Some(address) => {
                let bound = bind(address);
                (bound.map_err(|error| Unavailable::Address(why(address, &error)))?, address)
            }
            None => {
                let (listener, address) = self.bind_new()?;
                let directory = self.0.manager.state_dir().to_owned();
                let written = blocking::run(move || web_files::keep_address(&directory, address)).await;
                written.unwrap_or_else(|| Err(io::ErrorKind::Other.into())).map_err(Unavailable::File)?;
                (listener, address)
            }
        };
        self.serve(&mut state, listener, address);
        Ok(origin(address))
    }

    /// Listens on an address of this state directory's own, or on the usual one, at a port of the kernel's choice.
    fn bind_new(&self) -> Result<(TcpListener, SocketAddr), Unavailable> {
        let own = SocketAddr::from((web_files::own_address(self.0.manager.state_dir()), 0));
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = bind(own).or_else(|_| bind(usual));
        let with_address =
            bound.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
        with_address.map_err(|error| Unavailable::Address(why(usual, &error)))
    }

    /// Closes the port, and forgets its address. Open connections have a second to end.
    ///
    /// # Errors
    /// The address cannot be forgotten. The port stays as it is then.
    pub async fn close(&self) -> Result<(), Unavailable> {
        let mut state = self.0.state.lock().await;
        let directory = self.0.manager.state_dir().to_owned();
        let forgotten = blocking::run(move || web_files::forget(&directory)).await;
        forgotten.unwrap_or_else(|| Err(io::ErrorKind::Other.into())).map_err(Unavailable::File)?;
        if let State::Open { address, front, accepting, .. } = std::mem::take(&mut *state) {
            front.shut.request(Leave::HandOver);
            // Whoever is answered finds nothing there.
            if let Some(accepting) = accepting {
                drop(accepting.await);
            }
            tracing::info!("the page is no longer served on {}", origin(address));
        }
        self.0.manager.port().set_web(None);
        Ok(())
    }

    /// Lets go of the address of a daemon that is leaving. A command that restarts the daemon gets the listener for the next one, and
    /// clients that connect meanwhile wait for that.
    pub async fn leave(&self, how: Leave) {
        let mut state = self.0.state.lock().await;
        let State::Open { accepting, .. } = &mut *state else { return };
        let Some(accepting) = accepting.take() else { return };
        let Ok(listener) = accepting.await else { return };
        if how == Leave::HandOver {
            let directory = self.0.manager.state_dir().to_owned();
            let given = blocking::run(move || web_handover::give(&directory, &listener)).await;
            if let Some(Err(error)) = given {
                tracing::debug!("no command keeps the page's address for the next daemon: {error}");
            }
        }
    }

    /// Returns when the last connection has ended, after the daemon has closed them.
    pub async fn gone(&self) {
        let state = std::mem::take(&mut *self.0.state.lock().await);
        if let State::Open { connections, .. } = state {
            let _ = connections.await;
        }
    }

    async fn kept(&self) -> io::Result<Option<SocketAddr>> {
        let directory = self.0.manager.state_dir().to_owned();
        let read = blocking::run(move || web_files::address(&directory)).await;
        read.unwrap_or_else(|| Err(io::ErrorKind::Other.into()))
    }

    fn tell(&self, address: SocketAddr, problem: Option<String>) {
        self.0.manager.port().set_web(Some(WebInfo { origin: origin(address), problem }));
    }

    /// Serves a listener until the daemon leaves or somebody closes the port.
    fn serve(&self, state: &mut MutexGuard<'_, State>, listener: TcpListener, address: SocketAddr) {
        let Shared { manager, keys, inlet, leaving, closed, .. } = &*self.0;
        let limits = Limits::loopback(manager.connections());
        let front = Front::new(Way::Loopback(address), limits, manager, keys.clone(), inlet.clone());
        let front = Arc::new(front);
        let ending = watch::Sender::new(false);
        // Each connection has one sender; the receiver ends when the last is gone.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let (takes, leaving, ends) = (front.clone(), leaving.clone(), ending.subscribe());
        let accepting = tokio::spawn(async move {
            tokio::select! {
                _ = leaving.requested() => {}
                _ = takes.shut.requested() => {}
                () = takes.accept(&listener, &ends, &alive) => {}
            }
            listener
        });
        let (ended, closed) = (front.clone(), closed.clone());
        let connections = tokio::spawn(async move {
            tokio::select! {
                _ = closed.requested() => {
                    ending.send_replace(true);
                }
                _ = ended.shut.requested() => {
                    ending.send_replace(true);
                    // Streams have no end of their own.
                    sleep(FAREWELL).await;
                    ended.door.close_all();
                }
            }
            all_gone.recv().await;
        });
        self.tell(address, None);
        tracing::info!("the page is served on {}", origin(address));
        **state = State::Open { address, front, accepting: Some(accepting), connections };
    }
}
