//! `kennel transcript` and `kennel export`: a conversation for people to read.

pub(in crate::cli) mod changes;
mod document;
pub(in crate::cli) mod parts;
#[cfg(test)]
mod tests;
pub(in crate::cli) mod text;

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};

use protocol::api::{PermissionInfo, SessionInfo};
use protocol::event::{Event, EventKind, Timestamp};
use protocol::{EventId, PromptId, SessionId};

use self::document::Form;
use self::parts::{Part, Reader};
use self::text::Text;
use crate::cli::args::{self, ExportForm, TranscriptForm};
use crate::cli::events;
use crate::cli::link::Link;
use crate::cli::question::in_full;
use crate::cli::show::called;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::pager::{self, Pager};
use crate::cli::ui::render;
use crate::client::Request;
use crate::client::sse::Frame;

/// Runs `kennel transcript`.
pub async fn transcript(link: &Link<'_>, args: args::Transcript) -> Outcome {
    let info = named(link, &args.id).await?;
    if let Some(at) = args.at {
        is_of(link, (&info.id, &called(&info)), at, "transcript").await?;
    }
    let pages = !args.follow && !args.no_pager && link.ui.out_is_terminal;
    let form = match args.format {
        Some(TranscriptForm::Json) => Shape::Json,
        Some(TranscriptForm::Md) => Shape::Document(Form::Markdown),
        Some(TranscriptForm::Html) => Shape::Document(Form::Html),
        None if link.ui.json => Shape::Json,
        None => Shape::Text(Text::new(link.ui.out_colour && (!pages || pager::passes_colours()))),
    };
    let pages = pages && matches!(form, Shape::Text(_));
    let to = match pages.then(|| Pager::start(link.ui)).flatten() {
        Some(pager) => To::Pager(pager),
        None => To::Output(link.ui),
    };
    let mut shown = Shown::new(form, to, args.part);
    shown.at = args.at.map(At::new);
    let done = tell(link, &info, args.follow, &mut shown).await;
    if done.is_ok() && !args.follow && matches!(shown.form, Shape::Text(_)) {
        let path = format!("/v1/sessions/{}/permissions", info.id);
        let waiting: Vec<PermissionInfo> = link.get(Request::get(path)).await?;
        for waits in &waiting {
            let (id, asked) = (waits.permission_id, in_full(waits));
            let asked = format!("{id}: {asked}; `kennel permissions allow {id}` or `deny` answers");
            shown.waits(&link.ui.addressed(&asked))?;
        }
    }
    if done.is_ok() && shown.is_empty && !link.ui.json && args.format.is_none() {
        let at = args.at.map(|at| format!(" at event {at} or after it")).unwrap_or_default();
        link.ui.note(&format!("{}: no turns{at}", called(&info)));
    }
    shown.end().and(done)
}

/// Refuses an event of another session than this one, by its id and as people read it. One that is gone, or of no session, is none of
/// them: what comes after it is shown. `command` shows it.
pub async fn is_of(link: &Link<'_>, (id, called): (&SessionId, &str), at: EventId, command: &str) -> Outcome {
    let (mut found, mut after) = (None, at.saturating_sub(1));
    let read = events::read(link, "/v1/events", &mut after, false, |frame| {
        found = serde_json::from_str::<Event>(&frame.data).ok().filter(|event| event.id == at);
        Ok(frame.event != "gap")
    });
    match read.await {
        // It is yet to come.
        Err(failure) if failure.is("invalid_cursor") => return Ok(()),
        read => read?,
    }
    match found.and_then(|event| event.session).filter(|session| session != id) {
        None => Ok(()),
        Some(other) => {
            let what = format!("event {at} is one of {other}, and none of {called}");
            Err(Failure::new(exit::NO_SUCH, "no_such_event", what)
                .hint(format!("`kennel {command} {other} --at {at}` shows it")))
        }
    }
}

/// Runs `kennel export`.
pub async fn export(link: &Link<'_>, args: args::Export) -> Outcome {
    let info = named(link, &args.id).await?;
    let form = match args.format {
        ExportForm::Jsonl if args.part.last.or(args.part.since.map(|_| 1)).is_some() => {
            return Err(Failure::usage("--last and --since are for documents; jsonl has all events"));
        }
        ExportForm::Jsonl => None,
        ExportForm::Md => Some(Form::Markdown),
        ExportForm::Html => Some(Form::Html),
    };
    let to = match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => To::File(NewFile::make(path)?),
        None => To::Output(link.ui),
    };
    match form {
        None => events_of(link, &info, to).await,
        Some(form) => {
            let mut shown = Shown::new(Shape::Document(form), to, args.part);
            tell(link, &info, false, &mut shown).await?;
            shown.end()
        }
    }
}

/// The events themselves, one a line.
async fn events_of(link: &Link<'_>, info: &SessionInfo, mut to: To<'_>) -> Outcome {
    events::read(link, &path(info), &mut 0, false, |frame| {
        if frame.event != "gap" {
            to.put(&format!("{}\n", render::json(&frame.data)))?;
        }
        Ok(frame.event == "session.deleted")
    })
    .await?;
    to.end()
}

async fn named(link: &Link<'_>, typed: &str) -> Outcome<SessionInfo> {
    let id = link.find(typed).await?;
    link.get(Request::get(format!("/v1/sessions/{id}"))).await
}

fn path(info: &SessionInfo) -> String {
    format!("/v1/sessions/{}/events", info.id)
}

/// Shows the conversation of a session.
async fn tell(link: &Link<'_>, info: &SessionInfo, follow: bool, shown: &mut Shown<'_>) -> Outcome {
    shown.begin(info)?;
    let (mut reader, mut after) = (Reader::default(), 0);
    let mut take = |frame: &Frame, shown: &mut Shown<'_>| -> Outcome<bool> {
        if frame.event == "gap" {
            events::show_gap(link.ui, &frame.data)?;
            return Ok(false);
        }
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { return Ok(false) };
        let deleted = frame.event == "session.deleted";
        let id = event.id;
        if let Some(at) = &mut shown.at {
            at.meet(&event);
        }
        for part in reader.take(event) {
            if !shown.part(part)? {
                return Ok(true);
            }
        }
        Ok(!shown.reach(id)? || deleted)
    };
    events::read(link, &path(info), &mut after, false, |frame| take(frame, shown)).await?;
    shown.all_is_read()?;
    if follow {
        events::read(link, &path(info), &mut after, true, |frame| take(frame, shown)).await?;
    }
    for part in reader.rest() {
        shown.part(part)?;
    }
    Ok(())
}

/// How parts are written.
enum Shape {
    Text(Text),
    Json,
    Document(Form),
}

/// Where they are written.
enum To<'a> {
    Output(&'a Ui),
    Pager(Pager),
    File(NewFile),
}

impl To<'_> {
    /// Returns false if nobody reads any more.
    fn put(&mut self, text: &str) -> Outcome<bool> {
        match self {
            Self::Output(ui) => ui.print(text).map(|()| true),
            Self::Pager(pager) => Ok(pager.put(text)),
            Self::File(file) => file.put(text).map(|()| true),
        }
    }

    fn end(self) -> Outcome {
        match self {
            Self::Output(_) => Ok(()),
            Self::Pager(pager) => {
                pager.end();
                Ok(())
            }
            Self::File(file) => file.end(),
        }
    }
}

/// A file that was not there before, and is there once it is whole.
struct NewFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    fn make(path: &Path) -> Outcome<Self> {
        let there = || std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        let made = match path.symlink_metadata() {
            Ok(_) => Err(there()),
            // With a mode of 0600.
            Err(_) => tempfile::NamedTempFile::new_in(match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            }),
        };
        let path = path.to_owned();
        match made {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(unmade(&path, &error)),
        }
    }

    fn put(&mut self, text: &str) -> Outcome {
        self.file.write_all(text.as_bytes()).map_err(|error| unmade(&self.path, &error))
    }

    fn end(self) -> Outcome {
        self.file.as_file().sync_all().map_err(|error| unmade(&self.path, &error))?;
        let Self { file, path } = self;
        file.persist_noclobber(&path).map(drop).map_err(|error| unmade(&path, &error.error))
    }
}

fn unmade(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot make {}: {error}; there is no new file", path.display());
    let failure = Failure::failed("export", what);
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => failure.hint("name a file that is not there yet"),
        _ => failure,
    }
}

/// The newest turns, while it is not known which are the last.
struct Last {
    most: usize,
    turns: VecDeque<Vec<Part>>,
}

impl Last {
    fn keep(&mut self, part: Part) {
        if matches!(part, Part::Prompt { .. }) || self.turns.is_empty() {
            self.turns.push_back(Vec::new());
        }
        if self.turns.len() > self.most {
            self.turns.pop_front();
        }
        if let Some(turn) = self.turns.back_mut() {
            turn.push(part);
        }
    }
}

/// The beginning of what is shown: the turn of an event.
struct At {
    event: EventId,
    /// The event is about a prompt that waits: it is the turn of this one.
    prompt: Option<PromptId>,
    /// The turn so far, while the event has not come.
    turn: Vec<Part>,
    reached: bool,
}

impl At {
    fn new(event: EventId) -> Self {
        Self { event, prompt: None, turn: Vec::new(), reached: false }
    }

    fn meet(&mut self, event: &Event) {
        if let EventKind::PromptAccepted { prompt_id, .. } | EventKind::PromptEdited { prompt_id, .. } =
            &event.kind
            && event.id == self.event
        {
            self.prompt = Some(*prompt_id);
        }
    }

    /// Keeps a part until the event comes. Returns what is to be shown.
    fn keep(&mut self, part: Part) -> Vec<Part> {
        if let Part::Prompt { prompt_id, .. } = &part {
            self.turn.clear();
            self.reached |= self.prompt == Some(*prompt_id);
        }
        self.turn.push(part);
        if self.reached { std::mem::take(&mut self.turn) } else { Vec::new() }
    }
}

/// The part of a conversation that is shown, and its form.
struct Shown<'a> {
    form: Shape,
    to: To<'a>,
    last: Option<Last>,
    since: Option<Timestamp>,
    at: Option<At>,
    /// The prompt of a turn that has shown nothing since then.
    prompt: Option<Part>,
    is_empty: bool,
}

impl<'a> Shown<'a> {
    fn new(form: Shape, to: To<'a>, args::Stretch { last, since }: args::Stretch) -> Self {
        let last = last.map(|most| Last { most, turns: VecDeque::new() });
        Self { form, to, last, since, at: None, prompt: None, is_empty: true }
    }

    fn begin(&mut self, info: &SessionInfo) -> Outcome {
        let title = info.title.as_ref().map(|title| format!(": {title}")).unwrap_or_default();
        if let Shape::Document(form) = self.form {
            self.to.put(&form.begin(&format!("{}{title}", info.id)))?;
        }
        Ok(())
    }

    /// Returns false if nobody reads any more.
    fn part(&mut self, part: Part) -> Outcome<bool> {
        if let Some(at) = self.at.as_mut().filter(|at| !at.reached) {
            return at.keep(part).into_iter().try_fold(true, |on, part| Ok(on && self.write(&part)?));
        }
        if self.since.is_some_and(|since| part.at() < since) {
            match &part {
                Part::Prompt { .. } => self.prompt = Some(part),
                Part::End { .. } => self.prompt = None,
                _ => {}
            }
            return Ok(true);
        }
        // A turn is shown with its prompt, which may be older.
        for part in self.prompt.take().into_iter().chain([part]) {
            if let Some(last) = &mut self.last {
                last.keep(part);
            } else if !self.write(&part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// This event has come. Returns false if nobody reads any more.
    fn reach(&mut self, event: EventId) -> Outcome<bool> {
        let Some(at) = self.at.as_mut().filter(|at| !at.reached && at.prompt.is_none() && event >= at.event)
        else {
            return Ok(true);
        };
        at.reached = true;
        let turn = std::mem::take(&mut at.turn);
        turn.iter().try_fold(true, |on, part| Ok(on && self.write(part)?))
    }

    fn write(&mut self, part: &Part) -> Outcome<bool> {
        self.is_empty = false;
        let text = match &mut self.form {
            Shape::Text(text) => text.part(part),
            Shape::Document(form) => form.part(part),
            Shape::Json => {
                let json = serde_json::to_string(part);
                let json = json.map_err(|error| Failure::failed("json", error.to_string()))?;
                format!("{}\n", render::json(&json))
            }
        };
        self.to.put(&text)
    }

    /// A question that waits, in one line.
    fn waits(&mut self, line: &str) -> Outcome {
        if let Shape::Text(text) = &mut self.form {
            self.is_empty = false;
            let line = format!("{}{}", text.end(), text.waits(line));
            self.to.put(&line)?;
        }
        Ok(())
    }

    /// The history has ended: the newest turns are the last ones.
    fn all_is_read(&mut self) -> Outcome {
        let kept = self.last.take().map(|last| last.turns).unwrap_or_default();
        for part in kept.into_iter().flatten() {
            if !self.write(&part)? {
                break;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Outcome {
        if let Shape::Text(text) = &mut self.form {
            let rest = text.end();
            self.to.put(rest)?;
        }
        self.to.end()
    }
}
