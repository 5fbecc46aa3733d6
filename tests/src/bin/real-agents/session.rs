//! A session of an agent's: what is asked of it, and what it leaves.

use std::time::Duration;

use harness::real::{kennel, lives, marked, mentioning, until, uuid, worker};
use manager::protocol::api::{Accepted, PermissionInfo};
use manager::protocol::event::{Event, EventKind};
use manager::protocol::{PromptId, Restore, Stream};

use crate::agents::Housed;

/// A session of an agent's.
pub struct Session<'a> {
    housed: &'a Housed,
    /// Its id.
    pub id: String,
}

/// None of these is left, of an agent that is replaced or stopped.
pub fn assert_dead(processes: &[u32]) {
    let left: Vec<u32> = processes.iter().copied().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "these were left behind: {left:?} {:?}", shown(&left));
}

fn shown(processes: &[u32]) -> Vec<String> {
    let command = |pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    processes.iter().map(|pid| command(pid).replace('\0', " ")).collect()
}

/// Looks until there is something. Each look is a `kennel` command that prints all events: without a pause they would take the
/// processors from the agent that is waited for.
pub fn slowly<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until(what, || {
        let found = look();
        if found.is_none() {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        found
    })
}

impl<'a> Session<'a> {
    /// The session of this id.
    pub fn new(housed: &'a Housed, id: &str) -> Self {
        Self { housed, id: id.to_owned() }
    }

    /// Returns the part that the markers below its manager share.
    pub fn uuid(&self) -> String {
        uuid(self.housed.daemon.idle(&self.id).pid.unwrap())
    }

    /// Returns all events of the session.
    pub fn events(&self) -> Vec<Event> {
        let events = self.housed.daemon.events().into_iter();
        events.filter(|event| event.session.as_ref().is_some_and(|id| id.as_str() == self.id)).collect()
    }

    /// Runs a prompt to its end, and returns the agent's text.
    pub fn send(&self, text: &str) -> String {
        self.housed.daemon.ok(&["send", &self.id, text])
    }

    /// Sends a prompt, and does not wait.
    pub fn begin(&self, text: &str) -> PromptId {
        self.housed.daemon.json::<Accepted>(&["send", "--no-wait", &self.id, text]).prompt_id
    }

    /// The newest prompt.
    pub fn newest(&self) -> PromptId {
        let accepted = |event: Event| match event.kind {
            EventKind::PromptAccepted { prompt_id, .. } => Some(prompt_id),
            _ => None,
        };
        self.events().into_iter().filter_map(accepted).next_back().expect("a prompt")
    }

    /// Returns the agent's text in a prompt's turn.
    pub fn printed(&self, prompt: PromptId) -> String {
        let events = self.events();
        let chunks = events.iter().filter_map(|event| match &event.kind {
            EventKind::MessageChunk { prompt_id, stream: Stream::Stdout, text, .. }
                if *prompt_id == prompt =>
            {
                Some(text.as_str())
            }
            _ => None,
        });
        chunks.collect()
    }

    /// Waits until the agent has sent this text in a prompt's turn.
    pub fn until_printed(&self, prompt: PromptId, text: &str) {
        slowly(&format!("{text:?} in the turn"), || {
            let ended = self.ended(prompt);
            let printed = self.printed(prompt);
            assert!(ended.is_none() || printed.contains(text), "{ended:?} without {text:?}: {printed:?}");
            printed.contains(text).then_some(())
        });
    }

    fn open(&self) -> Vec<PermissionInfo> {
        self.housed.daemon.json(&["permissions", "ls", &self.id])
    }

    /// Waits until the agent asks for a permission.
    pub fn asked(&self) {
        slowly("a question", || (!self.open().is_empty()).then_some(()));
    }

    /// Allows what is asked until there is something; gives how often, and that.
    pub fn allow_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> (usize, T) {
        let mut allowed = 0;
        let found = slowly("what was allowed", || {
            for question in self.open() {
                // It may have ended meanwhile; then the next look shows it.
                let output =
                    self.housed.daemon.run(&["permissions", "allow", &question.permission_id.to_string()]);
                allowed += usize::from(output.code == Some(0));
            }
            look()
        });
        (allowed, found)
    }

    /// Allows what is asked until the turn ends; gives how often.
    pub fn allow_until_end(&self, prompt: PromptId) -> usize {
        self.allow_until(|| self.ended(prompt)).0
    }

    fn ended(&self, prompt: PromptId) -> Option<EventKind> {
        let ended = |kind: &EventKind| match kind {
            EventKind::TurnCompleted { prompt_id, .. } | EventKind::TurnInterrupted { prompt_id, .. } => {
                *prompt_id == prompt
            }
            _ => false,
        };
        self.events().into_iter().map(|event| event.kind).find(ended)
    }

    /// Waits for the end of a prompt's turn.
    pub fn end_of(&self, prompt: PromptId) -> EventKind {
        slowly("the end of the turn", || self.ended(prompt))
    }

    /// Waits until the session is back after its `nth` crash, which must have interrupted the prompt. Returns
    /// the restore level of the event.
    pub fn restored(&self, prompt: PromptId, nth: usize) -> Restore {
        let end = self.end_of(prompt);
        assert!(matches!(end, EventKind::TurnInterrupted { .. }), "{end:?}");
        let level = slowly("the restore", || {
            let events = self.events();
            let mut levels = events.iter().filter_map(|event| match &event.kind {
                EventKind::SessionRestarted { restore, .. } => Some(*restore),
                _ => None,
            });
            levels.nth(nth - 1)
        });
        self.housed.daemon.idle(&self.id);
        level
    }

    /// The agent and all that it has started.
    pub fn agents_processes(&self) -> Vec<u32> {
        let processes = self.of_the_agent();
        assert!(!processes.is_empty(), "an agent that runs has its home in its environment");
        processes
    }

    /// Every process with the agent's home in its environment, but the daemon and the workers.
    fn of_the_agent(&self) -> Vec<u32> {
        let exe = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let daemon = self.housed.daemon.run(&["daemon", "status", "--json"]);
        let daemon: serde_json::Value = serde_json::from_str(&daemon.stdout).unwrap_or_default();
        let kennels =
            |pid: u32| exe(pid) == *worker() || (exe(pid) == *kennel() && daemon["pid"] == u64::from(pid));
        let all = mentioning(&self.housed.home.display().to_string());
        all.into_iter().filter(|pid| !kennels(*pid)).collect()
    }

    /// No process of the session's is left.
    pub fn nothing_left(&self, uuid: &str) {
        let left = [marked(uuid), self.of_the_agent()].concat();
        assert!(left.is_empty(), "left behind: {left:?} {:?}", shown(&left));
    }
}
