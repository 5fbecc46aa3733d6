//! Full-text search over the conversations of sessions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Timestamp;
use crate::{EventId, SessionId, SessionName};

/// Kind of a text that a search finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchKind {
    /// Title of a session.
    Title,
    /// Text of a prompt.
    Prompt,
    /// Text of an agent, or the standard output of its program.
    Message,
    /// Standard error of an agent's program.
    Stderr,
    /// Thoughts of an agent.
    Thought,
    /// Title, command line and output of a tool call.
    Tool,
}

impl SearchKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Title, Self::Prompt, Self::Message, Self::Stderr, Self::Thought, Self::Tool];

    /// Returns the name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Prompt => "prompt",
            Self::Message => "message",
            Self::Stderr => "stderr",
            Self::Thought => "thought",
            Self::Tool => "tool",
        }
    }
}

/// Search request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchRequest {
    /// Words that one text must all have. `"..."` is a phrase; `word*` the beginning of a word.
    pub text: String,
    /// Only this session. `None`: all sessions.
    pub session: Option<SessionId>,
    /// Only sessions of this agent. `None`: all agents.
    pub agent: Option<String>,
    /// Only texts of this kind. `None`: all kinds.
    pub kind: Option<SearchKind>,
    /// Only texts that end at this time or later. `None`: all times.
    pub since: Option<Timestamp>,
    /// Number of hits at most, 1 to 200. `None`: 50.
    pub limit: Option<usize>,
}

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchReply {
    /// The texts that were found, newest first.
    pub hits: Vec<SearchHit>,
    /// There are more hits than the limit.
    pub more: bool,
    /// kennel has searched all events up to `last_event_id`, within the time limit.
    pub complete: bool,
    /// kennel has indexed the events up to this one, and searched no later ones.
    pub searched_to: EventId,
    /// The newest event at the time of the request.
    pub last_event_id: EventId,
    /// Reason why the search is not complete, for a person; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The sessions of the hits.
    pub sessions: Vec<SearchedSession>,
}

/// A session with hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchedSession {
    /// The session.
    pub id: SessionId,
    /// Its name; absent from a daemon that knows no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SessionName>,
    /// Its title; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its agent.
    pub agent: String,
}

/// A text that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchHit {
    /// Session of the text.
    pub session: SessionId,
    /// The event with which the text begins.
    pub event: EventId,
    /// Kind of the text.
    pub kind: SearchKind,
    /// Time of the text's last event.
    pub at: Timestamp,
    /// A part of the text around its first match. Runs of white space are one space, and control sequences of terminals are left out.
    pub snippet: String,
    /// Matches in the snippet, in order.
    pub matches: Vec<SearchMatch>,
}

/// Position of a match in a snippet, in characters (Unicode code points) from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchMatch {
    /// The first character of the match.
    pub start: u32,
    /// The first character after the match.
    pub end: u32,
}
