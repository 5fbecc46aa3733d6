//! A session's conversation as items, out of its events: a window of the journal that grows at its end, and at its
//! beginning when older events are loaded. Its memory is bounded: a window that is full loses its far end.

mod item;
mod join;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use protocol::event::{Decider, Event, EventKind, Outcome, Timestamp};
use protocol::{EventId, Exit, PromptId, Stream};
use serde_json::Value;

pub use self::item::{Item, Kind, Permission, Source, Text, Tool};
use crate::attachments;
use crate::cli::transcript::parts::Part;
use crate::cli::{events, question};

/// The bytes of items that are held, about.
const MOST_BYTES: usize = 16 << 20;
/// The items that are held.
const MOST_ITEMS: usize = 20_000;
/// Bytes of news that are kept for the part that comes before them.
const MOST_AHEAD: usize = 2 << 20;
/// More items than a part of a conversation has.
const WINDOW: i64 = 1 << 32;
/// Texts of prompts that have not begun, in bytes: as many as a queue can hold may be larger, and are then shown without text.
const MOST_WAITING: usize = 4 << 20;

/// The items of a conversation.
#[derive(Debug, Default)]
pub struct Conversation {
    items: VecDeque<Item>,
    /// The number of the next item.
    next: i64,
    /// All events of the session after this one, and up to the newest that was taken, are in the items.
    pub from: EventId,
    /// The items begin with the session.
    pub whole: bool,
    /// The newest event that is in the items.
    pub last: EventId,
    /// There are newer events, which are not loaded: news are not taken.
    pub cut: bool,
    /// News that were not taken, the newest, with their sizes: they follow once what is before them is loaded.
    ahead: VecDeque<(Event, usize)>,
    ahead_bytes: usize,
    /// The newest event that was given up.
    missed: EventId,
    /// Texts of prompts that have not begun.
    texts: BTreeMap<PromptId, String>,
    waiting: usize,
    /// A turn's beginning was taken, so that a tool that nobody knows was never begun.
    began: bool,
    /// The beginning of the turn.
    begun: Option<Timestamp>,
    /// Tools in use, by the agent's ids: the number of their items.
    tools: HashMap<String, i64>,
    /// Ids of tools that were used in a turn whose beginning is not loaded.
    partial: HashSet<String>,
    /// The item of the turn's plan.
    plan: Option<i64>,
    /// The turn whose beginning is not loaded has told a plan.
    planned: bool,
    /// A turn ended whose beginning is not loaded.
    ended: bool,
    /// Permissions that wait: the number of their items.
    asked: BTreeMap<u64, i64>,
    bytes: usize,
}

impl Conversation {
    /// The items, the oldest first.
    pub fn items(&self) -> &VecDeque<Item> {
        &self.items
    }

    /// The index of the item with this number, or of the next one that there is.
    pub fn index(&self, number: i64) -> usize {
        self.items.partition_point(|item| item.number < number)
    }

    /// Shows the newest part of the conversation instead. No number is given again, because drawn lines are kept by it.
    pub fn replace(&mut self, part: Self) {
        *self = Self {
            next: self.next + WINDOW,
            texts: std::mem::take(&mut self.texts),
            waiting: self.waiting,
            ahead: std::mem::take(&mut self.ahead),
            ahead_bytes: self.ahead_bytes,
            missed: self.missed,
            ..Self::default()
        };
        self.prepend(part);
        self.catch_up(true);
    }

    /// Adds the events that follow those that are loaded. `is_end`: there were no more when they were read.
    pub fn append(&mut self, events: &[Event], is_end: bool) {
        self.cut = false;
        events.iter().for_each(|event| self.take(event));
        self.catch_up(is_end);
    }

    /// Takes the news that were kept, if nothing is missing between them and what is loaded.
    fn catch_up(&mut self, is_end: bool) {
        self.cut |= !is_end || self.last < self.missed;
        if self.cut {
            return;
        }
        self.ahead_bytes = 0;
        for (event, _) in std::mem::take(&mut self.ahead) {
            self.take(&event);
        }
    }

    /// Takes an event that happens now, of so many bytes.
    pub fn news(&mut self, event: &Event, bytes: usize) {
        if !self.cut {
            return self.take(event);
        }
        self.ahead.push_back((event.clone(), bytes));
        self.ahead_bytes += bytes;
        while self.ahead_bytes > MOST_AHEAD
            && let Some((given_up, bytes)) = self.ahead.pop_front()
        {
            self.ahead_bytes -= bytes;
            self.missed = given_up.id;
        }
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        // What was read from the journal comes as news, too.
        if event.id <= self.last {
            return;
        }
        self.last = event.id;
        match event.kind.late_text() {
            Some(text) => self.write(event, Source::Answer, text),
            None => self.prompt(event),
        }
        self.lose_oldest();
    }

    /// Adds a note that is no event's.
    pub fn note(&mut self, at: EventId, text: &str) {
        self.push(at, Timestamp(0), Kind::Note(text.to_owned()));
    }

    /// The text of a prompt that has not begun.
    pub fn waits(&mut self, id: PromptId, text: &str) {
        self.waiting += text.len();
        if self.waiting <= MOST_WAITING {
            self.texts.insert(id, text.to_owned());
        }
    }

    /// Returns the texts of prompts that have begun, the newest first.
    pub fn prompts(&self) -> impl Iterator<Item = &str> {
        self.items.iter().rev().filter_map(|item| match &item.kind {
            Kind::Prompt(_, text) => text.as_deref(),
            _ => None,
        })
    }

    fn push(&mut self, first: EventId, at: Timestamp, kind: Kind) -> i64 {
        let number = self.next;
        self.next += 1;
        self.bytes += kind.bytes();
        self.items.push_back(Item { number, first, at, kind, revision: 0 });
        number
    }

    /// Changes the item with this number, if it is there.
    fn change(&mut self, number: i64, change: impl FnOnce(&mut Kind)) {
        let at = self.index(number);
        let Some(item) = self.items.get_mut(at).filter(|item| item.number == number) else { return };
        let before = item.kind.bytes();
        change(&mut item.kind);
        item.revision = item.revision.wrapping_add(1);
        self.bytes = self.bytes + item.kind.bytes() - before;
    }

    fn remove(&mut self, number: i64) -> Option<Item> {
        let at = self.index(number);
        self.items.get(at).filter(|item| item.number == number)?;
        let item = self.items.remove(at)?;
        self.bytes -= item.kind.bytes();
        Some(item)
    }

    fn write(&mut self, event: &Event, source: Source, text: &str) {
        let last =
            self.items.back().filter(|item| matches!(&item.kind, Kind::Text(text) if text.source == source));
        let number = match last {
            Some(item) => item.number,
            None => self.push(event.id, event.at, Kind::Text(Text::new(source, false))),
        };
        self.change(number, |kind| {
            if let Kind::Text(written) = kind {
                written.write(text);
            }
        });
        loop {
            let mut rest = None;
            let Some(last) = self.items.back().map(|item| item.number) else { return };
            self.change(last, |kind| {
                if let Kind::Text(text) = kind {
                    rest = text.divide();
                }
            });
            let Some(rest) = rest else { return };
            self.push(event.id, event.at, Kind::Text(rest));
        }
    }

    fn prompt(&mut self, event: &Event) {
        match &event.kind {
            EventKind::PromptAccepted { prompt_id, text, attachments, .. } => {
                let text = attachments::told(text, attachments.iter().map(|it| &*it.name));
                self.waits(*prompt_id, &text);
            }
            EventKind::PromptEdited { prompt_id, text } => self.waits(*prompt_id, text),
            EventKind::PromptRemoved { prompt_id, .. } => self.forget(*prompt_id),
            EventKind::PromptStarted { prompt_id } => {
                // A prompt that is tried again has begun before.
                let text = self.texts.get(prompt_id).cloned().or_else(|| self.begun_text(*prompt_id));
                self.forget(*prompt_id);
                self.push(event.id, event.at, Kind::Prompt(*prompt_id, text));
                self.began = true;
            }
            EventKind::TurnStarted { .. } => {
                (self.began, self.begun, self.plan) = (true, Some(event.at), None);
            }
            EventKind::TurnCompleted { turn, prompt_id, outcome, stop_reason, exit } => {
                self.end(event, (*turn, *prompt_id), Some(*outcome), stop_reason.clone(), *exit);
            }
            EventKind::TurnInterrupted { turn, prompt_id, reason, will_retry } => {
                let again = if *will_retry { "; it is tried again" } else { "" };
                self.end(event, (*turn, *prompt_id), None, format!("{reason}{again}"), None);
            }
            _ => self.agent(event),
        }
    }

    /// The text of a prompt that has begun.
    pub fn begun_text(&self, prompt: PromptId) -> Option<String> {
        self.items.iter().rev().find_map(|item| match &item.kind {
            Kind::Prompt(id, text) if *id == prompt => text.clone(),
            _ => None,
        })
    }

    fn forget(&mut self, prompt: PromptId) {
        if let Some(text) = self.texts.remove(&prompt) {
            self.waiting = self.waiting.saturating_sub(text.len());
        }
    }

    fn end(
        &mut self,
        event: &Event,
        (turn, prompt_id): (u64, PromptId),
        outcome: Option<Outcome>,
        reason: String,
        exit: Option<Exit>,
    ) {
        let open: Vec<String> = self.tools.keys().cloned().collect();
        open.iter().for_each(|id| self.end_tool(event.at, id, "not ended"));
        let ms = self.begun.take().map(|begun| event.at.0.saturating_sub(begun.0));
        self.ended |= !self.began;
        self.began = true;
        self.plan = None;
        let part = Part::End { at: event.at, prompt_id, turn, outcome, reason, ms, exit };
        self.push(event.id, event.at, Kind::End(part));
    }

    fn agent(&mut self, event: &Event) {
        match &event.kind {
            EventKind::MessageChunk { stream: Stream::Stdout, text, payload, .. } => {
                let source = if payload.is_some() { Source::Answer } else { Source::Output };
                self.write(event, source, text);
            }
            EventKind::MessageChunk { stream: Stream::Stderr, text, .. } => {
                self.write(event, Source::Errors, text)
            }
            EventKind::ThoughtChunk { text, .. } => self.write(event, Source::Thoughts, text),
            EventKind::ToolCallStarted { tool_call_id, title, payload, .. } => {
                let mut tool = Tool { id: tool_call_id.clone(), begun: Some(event.at), ..Tool::default() };
                tool.told(payload);
                tool.title = Some(title.clone());
                // An agent that uses an id again has left the tool before.
                self.end_tool(event.at, tool_call_id, "not ended");
                let number = self.push(event.id, event.at, Kind::Tool(tool));
                self.tools.insert(tool_call_id.clone(), number);
                if !self.began {
                    self.partial.insert(tool_call_id.clone());
                }
            }
            EventKind::ToolCallUpdated { tool_call_id, payload, .. } => {
                self.update_tool(event, tool_call_id, payload)
            }
            EventKind::ToolCallInterrupted { tool_call_id, .. } => {
                self.update_tool(event, tool_call_id, &serde_json::json!({ "status": "interrupted" }));
                self.end_tool(event.at, tool_call_id, "interrupted");
            }
            EventKind::PlanUpdated { payload, .. } => {
                if let Some(before) = self.plan.take() {
                    self.take_out(before);
                }
                self.planned |= !self.began;
                let steps = payload["entries"].as_array().into_iter().flatten();
                let word = |step: &Value, name: &str| step[name].as_str().unwrap_or_default().to_owned();
                let steps = steps.map(|step| (word(step, "content"), word(step, "status"))).collect();
                self.plan = Some(self.push(event.id, event.at, Kind::Plan(steps)));
            }
            _ => self.question(event),
        }
    }

    fn update_tool(&mut self, event: &Event, id: &str, payload: &Value) {
        let number = match self.tools.get(id) {
            Some(number) => *number,
            // Of a tool that has ended, or never began.
            None if self.began || self.partial.contains(id) => return,
            None => {
                let tool = Tool { id: id.to_owned(), ..Tool::default() };
                let number = self.push(event.id, event.at, Kind::Tool(tool));
                self.partial.insert(id.to_owned());
                self.tools.insert(id.to_owned(), number);
                number
            }
        };
        self.change(number, |kind| {
            if let Kind::Tool(tool) = kind {
                tool.told(payload);
            }
        });
        if matches!(payload["status"].as_str(), Some("completed" | "failed")) {
            self.end_tool(event.at, id, "completed");
        }
    }

    fn end_tool(&mut self, at: Timestamp, id: &str, otherwise: &str) {
        let Some(number) = self.tools.remove(id) else { return };
        self.change(number, |kind| {
            if let Kind::Tool(tool) = kind {
                tool.end(at, otherwise);
            }
        });
    }

    fn question(&mut self, event: &Event) {
        match &event.kind {
            EventKind::PermissionRequested { permission_id, title, options, payload, .. } => {
                let options = options.iter().map(|option| (option.id.clone(), option.name.clone())).collect();
                let title = Some(question::of_event(title, payload));
                let asked = Permission { id: *permission_id, title, options, answer: None, chosen: None };
                let number = self.push(event.id, event.at, Kind::Permission(asked));
                self.asked.insert(permission_id.0, number);
            }
            EventKind::PermissionResolved { permission_id, option_id, by } => {
                let policy = if *by == Decider::Policy { " (by the session's policy)" } else { "" };
                self.answer(event, permission_id.0, Some(option_id.clone()), policy.to_owned());
            }
            EventKind::PermissionExpired { permission_id, reason } => {
                self.answer(event, permission_id.0, None, format!("no answer: {reason}"));
            }
            kind => {
                if let Some(mut text) = events::words(kind) {
                    if let EventKind::SessionFailed { .. } = kind {
                        text += "; `kennel restart SESSION` tries again";
                    }
                    self.push(event.id, event.at, Kind::Note(text));
                }
                let told = match kind {
                    EventKind::SessionCreated { told, .. } => told.clone(),
                    kind => {
                        kind.loaded_turns().filter(|_| !self.began && !self.knows_told()).unwrap_or_default()
                    }
                };
                for turn in told {
                    self.push(event.id, event.at, Kind::Told(turn.prompt, turn.reply));
                }
            }
        }
    }

    /// Returns true if turns from before the session's own are there.
    fn knows_told(&self) -> bool {
        self.items.iter().any(|item| matches!(item.kind, Kind::Told(..)))
    }

    fn answer(&mut self, event: &Event, id: u64, chosen: Option<String>, answer: String) {
        let is_it = |item: &&Item| matches!(&item.kind, Kind::Permission(asked) if asked.id.0 == id);
        let known =
            self.asked.remove(&id).or_else(|| self.items.iter().rev().find(is_it).map(|item| item.number));
        let number = known.unwrap_or_else(|| {
            let (id, options) = (protocol::PermissionId(id), Vec::new());
            let asked = Permission { id, title: None, options, answer: None, chosen: None };
            self.push(event.id, event.at, Kind::Permission(asked))
        });
        self.change(number, |kind| {
            if let Kind::Permission(asked) = kind {
                (asked.chosen, asked.answer) = (chosen, Some(answer));
            }
        });
    }

    fn is_full(&self) -> bool {
        self.bytes > MOST_BYTES || self.items.len() > MOST_ITEMS
    }

    /// Gives up the oldest items of a window that is full. They can be loaded again.
    fn lose_oldest(&mut self) {
        while self.is_full() && self.items.len() > 1 {
            let Some(item) = self.items.pop_front() else { return };
            self.bytes -= item.kind.bytes();
            self.whole = false;
            self.from = self.items.front().map_or(self.from, |item| item.first.saturating_sub(1));
        }
    }
}
