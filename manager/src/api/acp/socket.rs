//! A WebSocket's end: frames to lines and lines to frames, pings, and the bounds of both.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::budget::{Held, MAX_MESSAGE, Metered, Part};
use crate::acp::{Weight, Weights, Written};
use crate::api::connections::Origin;
use crate::jsonrpc::{Line, understood};

/// The bytes that are read at once, and kept for each connection.
const READ: usize = 16 * 1024;
/// The interval between pings.
const PING: Duration = Duration::from_secs(15);
/// A client of which not one byte comes for so long is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// A message that is not whole after so long is given up with its connection.
const DRIP: Duration = Duration::from_secs(600);
/// The time for the first request, `initialize`.
const OPENING: Duration = Duration::from_secs(30);
/// The most frames between two pings that are no messages: pings, pongs, binary frames.
const CONTROLS: usize = 100;
/// The time for the last frame, and for the client to close its side.
const FAREWELL: Duration = Duration::from_secs(1);

/// The reason that a client is given when its front has ended.
const ENDED: &str = "kennel has ended the conversation";

/// The other ends of a front's lines.
pub struct Ends {
    pub to_front: mpsc::Sender<io::Result<String>>,
    pub from_front: mpsc::Receiver<String>,
    pub written: Arc<Written>,
    pub weights: Arc<Weights>,
}

/// How a connection ends: with a frame that says why, or without one.
type Last = Option<(CloseCode, &'static str)>;

/// Carries messages until the connection ends, or the daemon, which `stopped` tells. Dropping `ends` ends the front.
pub async fn carry(
    upgrade: OnUpgrade,
    origin: Option<Origin>,
    part: Part,
    mut ends: Ends,
    stopped: impl Future<Output = ()>,
) {
    // The answer may never be sent.
    let Ok(Ok(upgraded)) = timeout(OPENING, upgrade).await else { return };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let stream = Metered::new(TokioIo::new(upgraded), part);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (whole, weights) = (Instant::now(), ends.weights.clone());
    let mut carrier = Carrier { origin, weights, controls: 0, whole, begun: false, pending: None };
    let last = carrier.run(&mut socket, &mut ends, pin!(stopped)).await;
    // The front need not wait for the farewell.
    drop(ends);
    let Some((code, reason)) = last else { return };
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = timeout(FAREWELL, async {
        let _ = socket.close(Some(frame)).await;
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
}

struct Carrier {
    origin: Option<Origin>,
    weights: Arc<Weights>,
    /// Frames since the last ping that were no messages.
    controls: usize,
    /// The instant of the last whole frame, or at which the client could not be read.
    whole: Instant,
    /// `initialize` has come.
    begun: bool,
    /// A message for which the front has no room yet. No other is read meanwhile.
    pending: Option<String>,
}

type Socket = WebSocketStream<Metered<TokioIo<Upgraded>>>;

impl Carrier {
    async fn run(
        &mut self,
        socket: &mut Socket,
        ends: &mut Ends,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Last {
        let mut tick = interval_at(Instant::now() + PING, PING);
        let opening = Instant::now() + OPENING;
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => {
                    return Some((CloseCode::Restart, "the daemon ends; connect again"));
                }
                permit = ends.to_front.reserve(), if self.pending.is_some() => {
                    let (Ok(permit), Some(message)) = (permit, self.pending.take()) else {
                        return Some((CloseCode::Error, ENDED));
                    };
                    permit.send(Ok(message));
                }
                line = ends.from_front.recv() => {
                    let Some(line) = line else { return Some((CloseCode::Error, ENDED)) };
                    if socket.send(Message::text(line.as_str())).await.is_err() {
                        return None;
                    }
                    ends.written.wrote(&line);
                    self.answered(&line);
                    // In turn: a client that never reads is not read either, and one that is told much can still cancel it.
                    if self.pending.is_none()
                        && let Some(message) = socket.next().now_or_never()
                        && let Some(last) = self.take(socket, message).await
                    {
                        return last;
                    }
                }
                message = socket.next(), if self.pending.is_none() => {
                    if let Some(last) = self.take(socket, message).await {
                        return last;
                    }
                }
                _ = tick.tick() => {
                    if socket.get_ref().is_slow() {
                        return Some((CloseCode::Policy, "the message comes too slowly"));
                    }
                    if self.pending.is_some() || socket.get_ref().waits() {
                        // It may have sent what is not read yet.
                        self.whole = Instant::now();
                    }
                    if self.is_gone() || socket.send(Message::Ping(Default::default())).await.is_err() {
                        return None;
                    }
                    self.controls = 0;
                }
                () = sleep_until(opening), if !self.begun => {
                    return Some((CloseCode::Policy, "`initialize` did not come in time"));
                }
            }
        }
    }

    /// Takes a frame from the client. Returns how the connection ends, if it does.
    async fn take(&mut self, socket: &mut Socket, message: Option<Result<Message, Error>>) -> Option<Last> {
        match self.hear(socket, message) {
            Heard::Nothing => None,
            Heard::Answer(answer) => socket.send(Message::text(answer)).await.is_err().then_some(None),
            Heard::Last(last) => Some(last),
        }
    }

    /// Nothing was heard for too long. A message that is under way counts by its bytes, for a while.
    fn is_gone(&self) -> bool {
        let bytes = self.origin.as_ref().map_or(self.whole, Origin::heard_at);
        bytes.max(self.whole).elapsed() >= SILENCE || self.whole.elapsed() >= DRIP
    }

    fn hear(&mut self, socket: &mut Socket, message: Option<Result<Message, Error>>) -> Heard {
        self.whole = Instant::now();
        let (text, held) = match message {
            Some(Ok(Message::Text(text))) => {
                let held = socket.get_mut().whole(text.len());
                (text, held)
            }
            Some(Ok(
                other @ (Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_)),
            )) => {
                if let Message::Binary(bytes) = other {
                    drop(socket.get_mut().whole(bytes.len()));
                }
                self.controls += 1;
                return match self.controls > CONTROLS {
                    true => Heard::Last(Some((CloseCode::Policy, "too many frames that are no messages"))),
                    false => Heard::Nothing,
                };
            }
            Some(Ok(Message::Close(_))) => return Heard::Last(Some((CloseCode::Normal, ""))),
            Some(Err(error)) => return Heard::Last(reason(&error)),
            None => return Heard::Last(None),
        };
        match understood(text.as_bytes().to_vec()) {
            Line::Message(text) | Line::Repaired(text) => {
                if let Some(held) = held
                    && let Err(instead) = self.weigh(&text, held)
                {
                    return instead;
                }
                self.begun = self.begun || is_initialize(&text);
                self.pending = Some(text);
                Heard::Nothing
            }
            Line::Answer(answer) => Heard::Answer(answer),
            Line::Nothing => Heard::Nothing,
        }
    }

    /// Notes the memory of a large message, until the front is done with it. Returns what becomes of a message that the front
    /// waits for no longer, or that is none.
    fn weigh(&self, text: &str, held: Held) -> Result<(), Heard> {
        let head = serde_json::from_str::<Head>(text);
        match head {
            Ok(Head { id: Some(id), method: Some(_) }) => {
                self.weights.request(&id, Weight::of(held));
                Ok(())
            }
            Ok(Head { id: Some(id), method: None }) if self.weights.answer(&id, Weight::of(held)) => Ok(()),
            Ok(Head { id: Some(_), method: None }) => Err(Heard::Nothing),
            Ok(Head { id: None, .. }) | Err(_) => {
                Err(Heard::Last(Some((CloseCode::Size, "a large message is a request or an answer"))))
            }
        }
    }

    /// A line was written. If it answers a large request that the front never took up, its memory is free.
    fn answered(&self, line: &str) {
        if self.weights.has_requests()
            && let Ok(Head { id: Some(id), method: None }) = serde_json::from_str(line)
        {
            drop(self.weights.take(&id));
        }
    }
}

/// The outside of a message.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    method: Option<IgnoredAny>,
}

/// The next step for a frame.
enum Heard {
    Nothing,
    Answer(String),
    Last(Last),
}

fn is_initialize(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        method: String,
    }
    serde_json::from_str::<Asked>(text).is_ok_and(|asked| asked.method == "initialize")
}

/// The reason that the client is given for the end of its connection; none if it cannot be told.
fn reason(error: &Error) -> Last {
    match error {
        Error::Capacity(_) => Some((CloseCode::Size, "a message has at most 16 MiB")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "a text frame is UTF-8")),
        Error::Protocol(_) | Error::AttackAttempt => {
            Some((CloseCode::Protocol, "these are no frames of a WebSocket"))
        }
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => None,
    }
}
