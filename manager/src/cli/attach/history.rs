//! Events of a session that are not news: older ones, read from the journal backwards in stretches, and those around an event.

use std::collections::VecDeque;

use protocol::event::Event;
use protocol::{EventId, SessionId};

use super::conversation::Conversation;
use crate::cli::events;
use crate::cli::link::Link;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::{ClientError, Request};

/// The events of a stretch.
const MOST: usize = 2_000;
/// With fewer events a stretch is too short, if there are more.
const LEAST: usize = 100;
/// The bytes of the events of a stretch, as they are sent.
const MOST_BYTES: usize = 2 << 20;
/// Ids of the first stretch. Most of them may be other sessions'.
pub const IDS: u64 = 1_500;
/// Connections that may be lost while one stretch is read.
const LOSSES: u32 = 5;
/// So much longer is a stretch with too few events read again, and so much shorter one with too many.
const FACTOR: u64 = 4;

/// A stretch of a session's history.
pub struct Stretch {
    /// Its conversation.
    pub chat: Conversation,
    /// The number of ids in which the next stretch may be found.
    pub ids: u64,
}

/// Reads the events of a session that come directly before `end`. `ids` is the number of ids in which they are looked for first.
pub async fn before(link: &Link<'_>, session: &SessionId, end: EventId, ids: u64) -> Outcome<Stretch> {
    let (mut ids, mut may_grow, mut losses) = (ids.max(MOST as u64 / 2), true, 0);
    loop {
        let begin = end.saturating_sub(1).saturating_sub(ids);
        match read(link, session, begin, end).await {
            Ok(Read::TooMany) => (ids, may_grow) = (ids / FACTOR, false),
            Ok(Read::Events { events, from, .. })
                if may_grow && events.len() < LEAST && begin > 0 && from == begin =>
            {
                ids = ids.saturating_mul(FACTOR);
            }
            Ok(Read::Events { events, from, pruned }) => {
                let mut chat = Conversation::default();
                if pruned {
                    chat.note(from, "events before this were pruned");
                }
                events.iter().for_each(|event| chat.take(event));
                (chat.from, chat.whole) = (from, from == 0);
                return Ok(Stretch { chat, ids });
            }
            Err(Unread::Lost) if losses < LOSSES => losses += 1,
            Err(Unread::Lost) => {
                return Err(Failure::unreachable("the connection was lost; nothing was loaded"));
            }
            Err(Unread::Failed(failure)) => return Err(failure),
        }
    }
}

/// Reads the part of a conversation around an event: what comes before it, and what follows.
pub async fn around(link: &Link<'_>, session: &SessionId, event: EventId) -> Outcome<Conversation> {
    let mut chat = before(link, session, event.saturating_add(1), IDS).await?.chat;
    let (events, is_end) = after(link, session, event).await?;
    chat.append(&events, is_end);
    Ok(chat)
}

/// Reads the events of a session that come directly after one, and whether these are all.
pub async fn after(link: &Link<'_>, session: &SessionId, event: EventId) -> Outcome<(Vec<Event>, bool)> {
    let (mut events, mut place, mut bytes, mut is_end) = (Vec::new(), event, 0, true);
    let path = format!("/v1/sessions/{session}/events");
    let reading = events::read(link, &path, &mut place, false, |frame| {
        events.extend(serde_json::from_str::<Event>(&frame.data));
        bytes += frame.data.len();
        is_end = events.len() < MOST / 2 && bytes < MOST_BYTES;
        Ok(!is_end)
    });
    reading.await?;
    Ok((events, is_end))
}

/// Why a stretch was not read.
enum Unread {
    /// The connection was lost.
    Lost,
    Failed(Failure),
}

enum Read {
    /// More than can be kept, by far.
    TooMany,
    Events {
        events: VecDeque<Event>,
        /// All events after this one are there.
        from: EventId,
        pruned: bool,
    },
}

async fn read(link: &Link<'_>, session: &SessionId, begin: EventId, end: EventId) -> Result<Read, Unread> {
    let path = format!("/v1/sessions/{session}/events?after={begin}&follow=false");
    let mut stream = link.stream(&Request::get(path)).await.map_err(Unread::Failed)?;
    let (mut events, mut sizes) = (VecDeque::new(), VecDeque::new());
    let (mut bytes, mut lost, mut from, mut pruned) = (0, 0, begin, false);
    loop {
        let frame = match stream.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(ClientError::Lost(_)) => return Err(Unread::Lost),
            Err(error) => return Err(Unread::Failed(link.failure(error))),
        };
        if frame.id.is_some_and(|id| id >= end) {
            break;
        }
        if frame.event == "problem" {
            return Err(Unread::Lost);
        }
        pruned |= frame.event == "gap";
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { continue };
        bytes += frame.data.len();
        sizes.push_back(frame.data.len());
        events.push_back(event);
        while events.len() > MOST || bytes > MOST_BYTES && events.len() > 1 {
            bytes -= sizes.pop_front().unwrap_or_default();
            from = events.pop_front().map_or(from, |event: Event| event.id);
            lost += 1;
        }
        if lost > 4 * MOST {
            return Ok(Read::TooMany);
        }
    }
    Ok(Read::Events { events, from, pruned })
}
