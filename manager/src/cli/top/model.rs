//! State of the screen: the sessions, which of them are shown in which order, and what a person is doing.

use std::collections::{BTreeMap, VecDeque};

use protocol::api::{LastLine, Need, NeedKind, PermissionInfo, SessionInfo, SessionLoad};
use protocol::event::{Event, EventKind};

use crate::cli::show::{name, says};
use crate::cli::ui::render;

/// Minutes in the line of restarts.
pub const MINUTES: usize = 10;
const MINUTE: u64 = 60_000;
/// Characters that are kept of the last line.
const LINE: usize = 400;

/// The division of the list into groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Group {
    /// One list.
    #[default]
    None,
    /// By working directory.
    Dir,
    /// By agent.
    Agent,
    /// By the value of this label.
    Label(String),
}

/// An act that a person is asked about first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Ends the turn that runs.
    Abort,
    /// Stops the session, and what is below it.
    Stop,
    /// Restarts it, and cuts the turn that runs.
    Restart,
}

/// The occupation of the person at the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Looks at the list.
    #[default]
    List,
    /// Types a filter.
    Filter,
    /// Types a name for the session that is chosen.
    Rename(String),
    /// Reads a permission from this line on, and chooses an option by its number.
    Answer(Box<PermissionInfo>, u16),
    /// Is asked whether this is to be done to the session with this id.
    Sure(Deed, String),
    /// Reads which key does what, from this line on.
    Help(usize),
}

/// A session on the screen.
#[derive(Clone, Debug)]
pub struct Row {
    /// The session.
    pub info: SessionInfo,
    /// Processor time in percent of one processor. None until it was looked at twice.
    pub cpu: Option<f64>,
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// Processor time at the last look, and the time of the look, in milliseconds.
    looked: Option<(u64, u64)>,
    /// The last line that the agent said.
    pub line: String,
    /// The line is whole: what comes next begins another.
    is_whole: bool,
    /// Number of restarts in each of the last minutes that this screen has seen, the newest last.
    restarts: VecDeque<u64>,
    /// The minute of the newest, in minutes of Unix time.
    minute: u64,
}

impl Row {
    fn new(info: SessionInfo) -> Self {
        Self {
            info,
            cpu: None,
            memory: None,
            looked: None,
            line: String::new(),
            is_whole: true,
            restarts: VecDeque::new(),
            minute: 0,
        }
    }

    /// The need to be met first, and the number of others: what an agent waits for comes before what is left of an earlier turn.
    pub fn needs(&self) -> Option<(&Need, usize)> {
        let needs = &self.info.needs;
        let asks = |need: &&Need| matches!(need.kind, NeedKind::Permission | NeedKind::Form);
        let first = needs.iter().find(asks).or(needs.first())?;
        Some((first, needs.len() - 1))
    }

    /// Restarts in each of the last [`MINUTES`] minutes, the oldest first. `now` is Unix time in milliseconds.
    pub fn restarts(&self, now: u64) -> Vec<u64> {
        let since = (now / MINUTE).saturating_sub(self.minute);
        let mut all: VecDeque<u64> = self.restarts.clone();
        all.extend(std::iter::repeat_n(
            0,
            usize::try_from(since).map_or(MINUTES, |since| since.min(MINUTES)),
        ));
        let all: Vec<u64> = all.into_iter().collect();
        let missing = MINUTES.saturating_sub(all.len());
        let newest = all.len().saturating_sub(MINUTES);
        std::iter::repeat_n(0, missing).chain(all[newest..].iter().copied()).collect()
    }

    fn restarted(&mut self, at: u64) {
        let minute = at / MINUTE;
        if self.restarts.is_empty() {
            self.minute = minute;
            self.restarts.push_back(0);
        }
        // A clock that was set back counts in the newest minute.
        let later =
            usize::try_from(minute.saturating_sub(self.minute)).map_or(MINUTES, |later| later.min(MINUTES));
        self.restarts.extend(std::iter::repeat_n(0, later));
        self.minute = self.minute.max(minute);
        while self.restarts.len() > MINUTES {
            self.restarts.pop_front();
        }
        if let Some(newest) = self.restarts.back_mut() {
            *newest += 1;
        }
    }

    fn said(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            if self.is_whole && !piece.trim().is_empty() {
                self.line.clear();
                self.is_whole = false;
            }
            let room = LINE.saturating_sub(self.line.chars().count());
            if !self.is_whole {
                self.line.extend(piece.trim_end_matches('\n').chars().take(room));
            }
            self.is_whole |= piece.ends_with('\n');
        }
    }
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The head of a group, and the number of its sessions.
    Head(String, usize),
    /// A session, by its id.
    Session(&'a str),
}

/// All that the screen shows.
#[derive(Debug, Default)]
pub struct Model {
    rows: BTreeMap<String, Row>,
    /// Ids, the oldest session first.
    order: Vec<String>,
    /// The session that is chosen.
    pub chosen: Option<String>,
    /// Words of a session that is shown.
    pub filter: String,
    /// The division into groups.
    pub group: Group,
    /// The label that was asked for as a group.
    pub label: Option<String>,
    /// The occupation of the person.
    pub mode: Mode,
    /// The outcome of what was asked for last.
    pub note: String,
    /// The connection is lost, and is being made again.
    pub lost: bool,
}

impl Model {
    /// No sessions yet, which will be in these groups.
    pub fn grouped(group: Group) -> Self {
        let label = match &group {
            Group::Label(label) => Some(label.clone()),
            Group::None | Group::Dir | Group::Agent => None,
        };
        Self { group, label, ..Self::default() }
    }

    /// Takes the sessions as the daemon has them now.
    pub fn sessions(&mut self, sessions: Vec<SessionInfo>) {
        self.order = sessions.iter().map(|session| session.id.to_string()).collect();
        let mut before = std::mem::take(&mut self.rows);
        for info in sessions {
            let id = info.id.to_string();
            let row = match before.remove(&id) {
                Some(row) => Row { info, ..row },
                None => Row::new(info),
            };
            self.rows.insert(id, row);
        }
        self.keep_choice();
    }

    /// Takes an event. Returns true if it may have changed more of a session than its last line.
    pub fn heard(&mut self, event: &Event) -> bool {
        let Some(id) = &event.session else { return false };
        let Some(row) = self.rows.get_mut(id.as_str()) else { return true };
        match &event.kind {
            EventKind::MessageChunk { text, .. } => {
                row.said(text);
                false
            }
            EventKind::ThoughtChunk { .. } | EventKind::ToolCallUpdated { .. } => false,
            EventKind::ToolCallStarted { title, .. } => {
                row.line = title.chars().take(LINE).collect();
                row.is_whole = true;
                false
            }
            EventKind::SessionRestarted { .. } => {
                row.restarted(event.at.0);
                true
            }
            _ => true,
        }
    }

    /// Takes what agents said before the screen began. What has been heard since is newer.
    pub fn said_before(&mut self, lines: Vec<LastLine>) {
        for said in lines {
            if let Some(row) = self.rows.get_mut(said.session_id.as_str()).filter(|row| row.line.is_empty()) {
                row.line = said.line;
            }
        }
    }

    /// Takes processor time and memory, read at `at`, in milliseconds. Returns true if a session's processes used a hundredth of
    /// a processor since the last look, or if this was the first.
    pub fn loads(&mut self, loads: &[SessionLoad], at: u64) -> bool {
        let mut at_work = false;
        let by_id: BTreeMap<&str, &SessionLoad> =
            loads.iter().map(|load| (load.session_id.as_str(), load)).collect();
        for (id, row) in &mut self.rows {
            let Some(load) = by_id.get(id.as_str()) else {
                (row.cpu, row.memory, row.looked) = (None, None, None);
                continue;
            };
            let before = row.looked.replace((load.cpu_ms, at));
            at_work |=
                before.is_none_or(|(cpu, then)| cpu.abs_diff(load.cpu_ms) * 100 > at.saturating_sub(then));
            row.memory = Some(load.memory_bytes);
            row.cpu = before.filter(|(_, then)| at > *then).map(|(cpu, then)| {
                // Processes that have ended have taken theirs along.
                load.cpu_ms.saturating_sub(cpu) as f64 * 100.0 / (at - then) as f64
            });
        }
        at_work
    }

    /// Number of all sessions.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// Number of sessions that wait for somebody, shown or not.
    pub fn waiting(&self) -> usize {
        self.rows.values().filter(|row| !row.info.needs.is_empty()).count()
    }

    /// A session.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    /// The session that is chosen.
    pub fn chosen(&self) -> Option<&Row> {
        self.rows.get(self.chosen.as_deref()?)
    }

    /// The permission that the chosen session waits for.
    pub fn permission(&self) -> Option<&str> {
        let needs = &self.chosen()?.info.needs;
        needs.iter().find(|need| need.kind == NeedKind::Permission)?.id.as_deref()
    }

    /// The lines of the list: sessions in the order in which they were made, in their groups.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let shown = self.order.iter().filter_map(|id| Some((id.as_str(), self.rows.get(id)?)));
        let shown: Vec<(&str, &Row)> = shown.filter(|(_, row)| self.is_shown(row)).collect();
        if self.group == Group::None {
            return shown.into_iter().map(|(id, _)| Line::Session(id)).collect();
        }
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (id, row) in shown {
            groups.entry(self.group_of(row)).or_default().push(id);
        }
        let lines = groups.into_iter().flat_map(|(head, ids)| {
            std::iter::once(Line::Head(head, ids.len())).chain(ids.into_iter().map(Line::Session))
        });
        lines.collect()
    }

    fn group_of(&self, row: &Row) -> String {
        match &self.group {
            Group::None => String::new(),
            Group::Dir => row.info.workdir.clone(),
            Group::Agent => row.info.agent.clone(),
            Group::Label(label) => match row.info.labels.get(label) {
                Some(value) => format!("{label}={value}"),
                None => format!("without {label}"),
            },
        }
    }

    fn is_shown(&self, row: &Row) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let info = &row.info;
        let labels = info.labels.iter().map(|(label, value)| format!("{label}={value}"));
        let needs = info.needs.iter().map(says);
        let texts = [name(info), info.id.as_str(), &info.agent, &info.workdir, info.status.as_str()];
        let title = info.title.iter().chain(&info.first_prompt).cloned();
        let all: Vec<String> =
            texts.into_iter().map(str::to_owned).chain(title).chain(labels).chain(needs).collect();
        let all = all.join("\n").to_lowercase();
        self.filter.to_lowercase().split_whitespace().all(|word| all.contains(word))
    }

    /// Chooses the session that is `by` sessions further down, or up.
    pub fn step(&mut self, by: isize) {
        let ids: Vec<String> = self.shown_ids();
        let at = self.chosen.as_ref().and_then(|chosen| ids.iter().position(|id| id == chosen)).unwrap_or(0);
        let last = ids.len().saturating_sub(1);
        self.chosen = ids.get(at.saturating_add_signed(by).min(last)).cloned();
    }

    /// Chooses the session that has waited longest for somebody. Returns false if none waits.
    pub fn choose_waiting(&mut self) -> bool {
        let ids = self.shown_ids();
        let since = |id: &String| self.rows.get(id)?.info.needs.first().map(|need| need.since);
        let longest = ids.iter().filter(|id| since(id).is_some()).min_by_key(|id| since(id)).cloned();
        let found = longest.is_some();
        self.chosen = longest.or(self.chosen.take());
        found
    }

    /// Keeps the choice on a session that is shown.
    pub fn keep_choice(&mut self) {
        let ids = self.shown_ids();
        if !self.chosen.as_ref().is_some_and(|chosen| ids.contains(chosen)) {
            self.chosen = ids.into_iter().next();
        }
    }

    /// The next division into groups.
    pub fn regroup(&mut self) {
        self.group = match (&self.group, &self.label) {
            (Group::None, _) => Group::Dir,
            (Group::Dir, _) => Group::Agent,
            (Group::Agent, Some(label)) => Group::Label(label.clone()),
            (Group::Agent, None) | (Group::Label(_), _) => Group::None,
        };
    }

    fn shown_ids(&self) -> Vec<String> {
        let ids = self.lines().into_iter().filter_map(|line| match line {
            Line::Session(id) => Some(id.to_owned()),
            Line::Head(..) => None,
        });
        ids.collect()
    }

    /// Notes the outcome of what was asked for.
    pub fn note(&mut self, text: &str) {
        self.note = render::line(text);
    }
}
