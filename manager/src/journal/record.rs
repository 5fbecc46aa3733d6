//! A committed event, as the journal stores it and as subscribers receive it.

use std::fmt::Write;
use std::sync::Arc;

use protocol::event::{Event, EventKind, Timestamp};
use protocol::{EventId, Incarnation, SessionId};

use crate::error::Error;

/// The end of a server-sent event, after its data.
pub(crate) const FRAME_END: &str = "\n\n";

/// A committed event as it is shown: written once, for the journal and for every subscriber.
#[derive(Clone, Debug)]
pub struct Record {
    /// Position in the journal.
    pub id: EventId,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The event is a session's last.
    pub(crate) last: bool,
    /// Not a `str`: that would copy what may be many megabytes once more.
    frame: Arc<String>,
    /// The offset of the JSON in the frame, in bytes.
    json: usize,
}

impl Record {
    pub(crate) fn new(event: &Event) -> Result<Self, serde_json::Error> {
        let name = event.kind.name();
        let mut frame = head_of(event.id, name).into_bytes();
        let json = frame.len();
        serde_json::to_writer(&mut frame, event)?;
        let frame = String::from_utf8(frame).map_err(serde::ser::Error::custom)?;
        Ok(Self::framed(event.id, event.session.clone(), name, frame, json))
    }

    /// From what the journal keeps.
    pub(crate) fn written(id: EventId, session: Option<SessionId>, name: &str, json: &str) -> Self {
        let mut frame = head_of(id, name);
        let begin = frame.len();
        frame.reserve_exact(json.len() + FRAME_END.len());
        frame += json;
        Self::framed(id, session, name, frame, begin)
    }

    fn framed(id: EventId, session: Option<SessionId>, name: &str, mut frame: String, json: usize) -> Self {
        frame += FRAME_END;
        // The ring counts a record by its length, not its capacity.
        frame.shrink_to_fit();
        Self { id, session, last: is_last(name), frame: Arc::new(frame), json }
    }

    /// The event's type.
    pub(crate) fn name(&self) -> &str {
        let head = self.frame[..self.json].lines().nth(1);
        head.and_then(|line| line.strip_prefix("event: ")).unwrap_or_default()
    }

    /// From what the journal keeps, whatever it is. What nobody can read (an earlier kennel took what is nested too deeply)
    /// gives its place to an event that says so, of the same id and time.
    pub(crate) fn stored(id: EventId, session: Option<SessionId>, name: &str, json: &str) -> Self {
        if protocol::json::is_readable(json) {
            return Self::written(id, session, name, json);
        }
        let event = unreadable(id, session.clone(), name, json);
        let json = serde_json::to_string(&event).unwrap_or_default();
        Self { last: is_last(name), ..Self::written(id, session, event.kind.name(), &json) }
    }

    /// The event as one line of JSON.
    pub fn json(&self) -> &str {
        &self.frame[self.json..self.frame.len() - FRAME_END.len()]
    }

    /// The event as a server-sent event.
    pub fn frame(&self) -> &str {
        &self.frame
    }

    /// The event itself; of one that this kennel cannot read, an event that says so.
    pub fn event(&self) -> Result<Event, Error> {
        let name = || self.frame.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default();
        let read = serde_json::from_str(self.json());
        Ok(read.unwrap_or_else(|_| unreadable(self.id, self.session.clone(), name(), self.json())))
    }
}

/// Returns true if an event of this type is its session's last.
pub(crate) fn is_last(name: &str) -> bool {
    name == "session.deleted"
}

/// Appends what the journal keeps as a server-sent event: the frame of [`Record::stored`], without memory of its own.
pub(crate) fn push_stored(
    frames: &mut String,
    id: EventId,
    session: impl FnOnce() -> Option<SessionId>,
    name: &str,
    json: &str,
) {
    if protocol::json::is_readable(json) {
        push_head(frames, id, name);
        *frames += json;
        *frames += FRAME_END;
    } else {
        *frames += Record::stored(id, session(), name, json).frame();
    }
}

/// Makes an event of the same id and time that stands for one that cannot be read.
fn unreadable(id: EventId, session: Option<SessionId>, name: &str, json: &str) -> Event {
    #[derive(serde::Deserialize)]
    struct Front {
        at: Timestamp,
        #[serde(default)]
        incarnation: Incarnation,
    }
    // The unreadable part is most often the data, which comes last.
    let front = json.split(",\"type\":").next().map(|front| format!("{front}}}")).unwrap_or_default();
    let front = serde_json::from_str(&front).unwrap_or(Front { at: Timestamp(0), incarnation: 0 });
    let text = format!("event {id} ({name}) cannot be read, and is left out");
    let kind = EventKind::SystemMessage { text };
    Event { id, at: front.at, session, incarnation: front.incarnation, kind }
}

/// The head of a server-sent event, before its JSON.
pub(crate) fn head_of(id: EventId, name: &str) -> String {
    let mut head = String::new();
    push_head(&mut head, id, name);
    head
}

fn push_head(frames: &mut String, id: EventId, name: &str) {
    // A string takes all that is written to it.
    let _ = write!(frames, "id: {id}");
    *frames += "\nevent: ";
    *frames += name;
    *frames += "\ndata: ";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_json_and_its_frame() {
        let json = r#"{"id":1,"type":"manager.stopping","data":{}}"#;
        let record = Record::written(1, None, "manager.stopping", json);
        assert_eq!(record.json(), json);
        assert_eq!(record.frame(), format!("id: 1\nevent: manager.stopping\ndata: {json}\n\n"));
        assert!(!record.last && Record::written(2, None, "session.deleted", "{}").last);
    }

    #[test]
    fn a_stored_event_that_nobody_can_read_says_so_under_its_id_and_time() {
        let of = |payload: &str| {
            format!(
                r#"{{"id":7,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":3,"type":"agent.updated","data":{{"prompt_id":null,"payload":{payload}}}}}"#
            )
        };
        let session: SessionId = "s".parse().unwrap();
        let record = |json: &str| Record::stored(7, Some(session.clone()), "agent.updated", json);
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let good = of(&nested(60));
        assert_eq!(record(&good).json(), good);
        assert_eq!(record(&good).event().unwrap().kind.name(), "agent.updated");
        let deep = [of(&nested(119)), of(&nested(127)), of(&nested(100_000))];
        let broken = [of("{"), of("\"a\nb\""), of("\"\u{0}\""), of("nul")];
        for json in deep.iter().chain(&broken) {
            let record = record(json);
            assert!(!record.json().contains('\n'));
            let read: serde_json::Value = serde_json::from_str(record.json()).unwrap();
            assert_eq!((&read["id"], &read["type"]), (&7.into(), &"system.message".into()));
            let event = record.event().unwrap();
            assert_eq!((event.id, event.at.0, event.incarnation), (7, 1_769_860_800_000, 3));
            let EventKind::SystemMessage { text } = event.kind else { panic!() };
            assert_eq!(text, "event 7 (agent.updated) cannot be read, and is left out");
        }
        // Of another kennel, perhaps: no error for whoever reads the others.
        let newer = good.replace("agent.updated", "agent.danced");
        let event = Record::stored(7, Some(session.clone()), "agent.danced", &newer).event().unwrap();
        assert!(matches!(event.kind, EventKind::SystemMessage { text } if text.contains("agent.danced")));
        assert!(Record::stored(7, None, "session.deleted", "{").last);
    }
}
