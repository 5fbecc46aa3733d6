//! The agent's questions to an attached person: permissions, answered by the number of an option, and forms.

use std::time::Duration;

use protocol::api::{AnswerRequest, CallRequest, PermissionAnswer, PermissionInfo};
use protocol::event::Decider;
use protocol::wire::PermissionOption;
use protocol::{CallId, PermissionId};
use tokio::time::Instant;

use super::permission::{Asked, answered};
use super::view::{Entered, View};
use crate::cli::permissions::offer;
use crate::cli::question::in_full;
use crate::cli::ui::form::Form;
use crate::client::Request;

/// The time for which a permission is not shown, because a policy may answer it. The policy's answer comes
/// with the same commit.
const BRIEFLY: Duration = Duration::from_millis(100);

/// The time that a person needs at least to see that something asks. A number that is sent earlier answers nothing.
const NOTICED: Duration = Duration::from_millis(500);

/// Words that answer a question, in small letters, beside the names of its options.
const ANSWERS: [&str; 10] = ["yes", "y", "no", "n", "ok", "allow", "deny", "always", "never", "reject"];

impl View<'_> {
    pub(super) fn permission(&mut self, id: PermissionId, title: String, options: Vec<PermissionOption>) {
        // It was found on coming here, too.
        if self.open.iter().any(|open| open.id == id) {
            return;
        }
        self.open.push(Asked { id, title, options, first: None, offered: None, shown: false });
        // Of the past those are shown that still wait, once the present is reached.
        if self.live {
            self.due = Some(Instant::now() + BRIEFLY);
        }
    }

    /// Of all permissions that waited when this client came. Those that were offered keep their numbers.
    pub(super) fn permissions(&mut self, waiting: Vec<PermissionInfo>) {
        let waits = |open: &Asked| waiting.iter().any(|waits| waits.permission_id == open.id);
        // The event that tells how one ended is yet to be shown, and tells no question.
        (self.open, self.over) = std::mem::take(&mut self.open).into_iter().partition(waits);
        // A client that looked on until now has no numbers to answer by.
        let drives = self.drives && !self.mute;
        self.open
            .iter_mut()
            .filter(|open| drives && open.first.is_none())
            .for_each(|open| open.shown = false);
        for waits in waiting {
            let title = in_full(&waits);
            self.permission(waits.permission_id, title, waits.options);
        }
        self.show_due_now();
    }

    /// Takes a permission out that waits, or that has just ended.
    pub(super) fn take_permission(&mut self, id: PermissionId) -> Option<Asked> {
        let out_of =
            |asked: &mut Vec<Asked>| asked.iter().position(|asked| asked.id == id).map(|at| asked.remove(at));
        out_of(&mut self.open).or_else(|| out_of(&mut self.over))
    }

    pub(super) fn permission_ended(&mut self, id: PermissionId, option: &str, by: Decider) {
        let known = self.take_permission(id);
        self.tell(&answered(id, known.as_ref(), option, by));
    }

    pub(super) fn permission_expired(&mut self, id: PermissionId, reason: &str) {
        match self.take_permission(id) {
            Some(open) if !open.shown => {
                self.tell(&format!("{id}: the agent asked: {}; expired: {reason}", open.title));
            }
            _ => self.tell(&format!("{id} expired: {reason}")),
        }
    }

    /// Shows the permissions that no policy has answered.
    pub fn show_due(&mut self) {
        if self.due.is_some() {
            self.show_due_now();
        }
    }

    fn show_due_now(&mut self) {
        self.due = None;
        if !self.live {
            return;
        }
        for at in 0..self.open.len() {
            if self.open[at].shown {
                continue;
            }
            match self.forms.is_empty() {
                true => self.show_permission(at),
                false => {
                    let id = self.open[at].id;
                    self.tell(&format!("{id} waits until the form is done"));
                }
            }
        }
    }

    fn show_permission(&mut self, at: usize) {
        let Asked { id, title, options, first, offered, shown } = &mut self.open[at];
        *shown = true;
        let asked = format!("{id}: the agent asks: {title}");
        let lines = if self.mute {
            vec![format!("{asked}; `kennel permissions allow {id}` or `deny`")]
        } else if !self.drives {
            vec![format!("{asked}; it is for the one who drives to answer")]
        } else {
            let first = *first.get_or_insert(self.numbered + 1);
            offered.get_or_insert_with(Instant::now);
            self.numbered = self.numbered.max(first + options.len() - 1);
            let options =
                options.iter().enumerate().map(|(at, option)| format!("  {}) {}", first + at, offer(option)));
            std::iter::once(asked).chain(options).collect()
        };
        lines.iter().for_each(|line| self.tell(line));
    }

    /// The permission with an option of this number, if it was not there yet when somebody began to type at `began`, or hardly is now:
    /// the number may have been meant for something else.
    pub(super) fn came_later(&self, number: usize, began: Instant) -> Option<PermissionId> {
        let has = |open: &&Asked| {
            open.first.is_some_and(|first| (first..first + open.options.len()).contains(&number))
        };
        let open = self.open.iter().find(has)?;
        let too_early = |offered| began < offered || Instant::now() < offered + NOTICED;
        open.offered.is_some_and(too_early).then_some(open.id)
    }

    /// Says that a number was typed before its permission was there.
    pub(super) fn says_too_early(&mut self, id: PermissionId, number: usize) {
        self.note(&format!(
            "{id} came while you typed, and `{number}` was not sent: read it, then send the number again"
        ));
    }

    /// Answers the permission that has an option of this number.
    pub(super) fn choose(&mut self, number: usize) -> Entered {
        let found = self.open.iter().find_map(|open| {
            let option = open.options.get(number.checked_sub(open.first?)?)?;
            Some((open.id, option.id.clone()))
        });
        let Some((id, option)) = found else {
            let why = if (1..=self.numbered).contains(&number) { "waits any more" } else { "is there" };
            self.note(&format!("no option {number} {why}; a space before it makes it a prompt"));
            return Entered::Unsent;
        };
        let path = format!("/v1/sessions/{}/permissions/{id}", self.session);
        let answer = AnswerRequest { answer: PermissionAnswer::Option(option) };
        Entered::request(Request::post(path).json(&answer).repeatable())
    }

    /// Returns true if a line is a word that answers, and a permission waits. The line is neither an answer nor a prompt then: it may
    /// have been typed before the permission was there. A note says how to make it one or the other.
    pub(super) fn is_like_an_answer(&mut self, line: &str) -> bool {
        let word = line.trim_end().to_lowercase();
        let names = |option: &PermissionOption| {
            [&option.name, &option.id].iter().any(|name| name.to_lowercase() == word)
        };
        let offered = self.open.iter().filter(|open| open.shown);
        let found = offered
            .filter_map(|open| Some((open, open.first?)))
            .find(|(open, _)| ANSWERS.contains(&word.as_str()) || open.options.iter().any(names));
        let Some((open, first)) = found else { return false };
        let choices: Vec<String> = open
            .options
            .iter()
            .enumerate()
            .map(|(at, option)| format!("{} {}", first + at, option.name))
            .collect();
        let note = format!(
            "{} waits, and `{line}` was not sent: type a number to answer ({}); a space before a word makes it a prompt",
            open.id,
            choices.join(", ")
        );
        self.note(&note);
        true
    }

    pub(super) fn form(&mut self, id: CallId, method: &str, payload: &serde_json::Value) {
        let asks = method == "elicitation/create" && self.shows_forms();
        if !asks || self.forms.iter().any(|(known, _)| *known == id) {
            return;
        }
        let form = Form::new(payload);
        let asked = format!("{id}: the agent asks: {}", form.message());
        if !self.live {
            return self.tell(&asked);
        }
        if !self.drives {
            return self.tell(&format!("{asked}; it is for the one who drives to answer"));
        }
        if self.mute {
            self.tell(&format!("{asked}; nobody is here to answer"));
            let request = self.answers(id, serde_json::json!({ "action": "cancel" }));
            return self.owed.push(request);
        }
        self.forms.push_back((id, form));
        match self.forms.len() {
            1 => self.show_form(),
            _ => self.tell(&format!("{id} waits until the form before it is done")),
        }
    }

    fn show_form(&mut self) {
        let Some((id, form)) = self.forms.front() else { return };
        let mut lines = vec![format!("{id}: the agent asks: {}", form.message())];
        lines.extend(form.lines());
        lines.extend(form.question());
        lines.iter().for_each(|line| self.tell(line));
    }

    /// Removes a form that another client has answered, or that needs no answer any more.
    pub(super) fn form_ended(&mut self, id: CallId, why: &str) {
        let known = self.forms.iter().position(|(known, _)| *known == id);
        if let Some(at) = known {
            self.forms.remove(at);
            self.tell(&format!("{id} is over: {why}"));
            if at == 0 {
                self.show_next();
            }
        }
    }

    /// After a form: what has waited for its end.
    fn show_next(&mut self) {
        match self.forms.is_empty() {
            true => (0..self.open.len()).for_each(|at| self.show_permission(at)),
            false => self.show_form(),
        }
    }

    pub(super) fn fill_in(&mut self, line: &str) -> Entered {
        let Some((id, form)) = self.forms.front_mut() else { return Entered::Nothing };
        let (id, taken) = (*id, form.take(line));
        let question = form.question();
        match taken {
            Ok(Some(answer)) => {
                // The next line belongs to no form that is complete, even if the daemon refuses its answer.
                self.forms.pop_front();
                let request = self.answers(id, answer);
                self.show_next();
                return Entered::request(request);
            }
            Ok(None) => question.iter().for_each(|question| self.tell(question)),
            Err(why) => {
                self.note(&why);
                question.iter().for_each(|question| self.tell(question));
            }
        }
        Entered::Nothing
    }

    fn answers(&self, id: CallId, answer: serde_json::Value) -> Request {
        let path = format!("/v1/sessions/{}/calls/{id}", self.session);
        Request::post(path).json(&CallRequest { result: Some(answer), error: None })
    }

    /// Cancels the forms at the end of the input. Prints how other clients can answer a permission.
    pub fn input_ended(&mut self) {
        self.mute = true;
        for (id, _) in std::mem::take(&mut self.forms) {
            let request = self.answers(id, serde_json::json!({ "action": "cancel" }));
            self.owed.push(request);
        }
        if self.live {
            (0..self.open.len()).for_each(|at| self.show_permission(at));
        }
    }
}
