//! Requests of the agent that the driving client can answer better than the worker. Each goes to the manager and
//! returns with an answer, or the worker answers it.

use std::collections::BTreeMap;

use protocol::wire::{CallAnswer, Offer, Report};
use protocol::{EventId, PromptId, bounds, json as lenient};
use serde_json::{Value, json};

use super::files::{self, For, Place};
use super::message::{Do, INTERNAL, INVALID_PARAMS, error, error_about, result, text_at};

/// Limit of all waiting requests together, in bytes.
const HELD: usize = 16 * 1024 * 1024;
/// Terminals of clients that may be open at once.
const TERMINALS: usize = 64;
/// The turn in which it was asked is over (JSON-RPC of the Language Server Protocol, which ACP follows).
const CANCELLED: i64 = -32800;

/// A request of the agent.
#[derive(Debug)]
pub struct Asked {
    /// The agent's id of it.
    pub id: Value,
    /// Method of the request.
    pub method: String,
    /// Parameters of the request.
    pub params: Value,
}

/// A request that waits. As text: what JSON becomes in memory is many times as large.
#[derive(Debug)]
struct Open {
    id: Value,
    method: String,
    payload: String,
}

impl Open {
    fn asked(self) -> Asked {
        // It was written by us.
        let params = serde_json::from_str(&self.payload).unwrap_or_default();
        Asked { id: self.id, method: self.method, params }
    }

    fn bytes(&self) -> usize {
        self.payload.len() + self.method.len() + bounds::ID
    }
}

/// A terminal that is not the worker's.
#[derive(Debug)]
struct Elsewhere {
    client: EventId,
    /// The client's id of the terminal.
    id: String,
}

/// Requests that are not the worker's to answer.
#[derive(Debug, Default)]
pub struct Calls {
    client: Option<EventId>,
    offers: Vec<Offer>,
    /// Waiting requests, by the worker's number.
    open: BTreeMap<u64, Open>,
    /// Size of `open`, in bytes.
    held: usize,
    /// A request was refused because too many wait, or too large ones.
    full: bool,
    last: u64,
    /// Terminals of clients, by the agent's name for each.
    terminals: BTreeMap<String, Elsewhere>,
    opened: u64,
}

/// The next action for a request.
#[derive(Debug)]
pub enum Next {
    /// The worker does this, and is done with the request.
    Do(Do),
    /// The worker answers the request itself.
    Own(Asked),
}

impl Calls {
    /// Sets the client that drives, and its abilities; `None`: no client drives.
    pub fn driven_by(&mut self, client: Option<EventId>, offers: Vec<Offer>) {
        (self.client, self.offers) = (client, offers);
    }

    /// Hands a request over if the client must answer it. `turn` is the prompt whose turn runs.
    pub fn ask(&mut self, place: &Place, turn: Option<PromptId>, asked: Asked) -> Next {
        let Some(needs) = Offer::of(&asked.method) else { return Next::Own(asked) };
        if needs == Offer::Elicitation {
            let form = asked.params["mode"].as_str().is_none_or(|mode| mode == "form");
            return Next::Do(match turn {
                _ if !form => error(asked.id, INVALID_PARAMS, "only forms can be shown"),
                Some(prompt) => self.report(prompt, None, asked),
                None => unanswered(asked),
            });
        }
        let name = text_at(&asked.params, "terminalId").unwrap_or_default();
        if let Some(terminal) = self.terminals.get(&name) {
            return Next::Do(self.at_terminal(terminal.client, turn, &name, asked));
        }
        let fits = asked.method.starts_with("fs/") || asked.method == "terminal/create";
        if asked.method == "terminal/create" && self.terminals.len() >= TERMINALS {
            let why = format!("{TERMINALS} terminals are open; release one first");
            return Next::Do(error(asked.id, INTERNAL, &why));
        }
        match (self.client, turn) {
            (Some(client), Some(prompt)) if fits && self.offers.contains(&needs) => {
                self.hand_over(place, client, prompt, needs, asked)
            }
            _ => Next::Own(asked),
        }
    }

    fn hand_over(
        &mut self,
        place: &Place,
        client: EventId,
        prompt: PromptId,
        needs: Offer,
        mut asked: Asked,
    ) -> Next {
        if needs != Offer::Terminal {
            // An agent reaches no file through a client that the worker may not touch.
            match files::whose(place, &asked.params) {
                Ok(For::Client(path)) => asked.params["path"] = json!(path),
                Ok(For::Worker) => return Next::Own(asked),
                Err(refused) => return Next::Do(refused.error(asked.id)),
            }
        }
        Next::Do(self.report(prompt, Some(client), asked))
    }

    fn at_terminal(&mut self, client: EventId, turn: Option<PromptId>, name: &str, mut asked: Asked) -> Do {
        let released = asked.method == "terminal/release";
        let there = self.terminals.get(name).map(|terminal| terminal.id.clone()).unwrap_or_default();
        if released {
            self.terminals.remove(name);
        }
        match turn {
            Some(prompt) if self.client == Some(client) => {
                asked.params["terminalId"] = json!(there);
                self.report(prompt, Some(client), asked)
            }
            _ if released => result(asked.id, json!({})),
            _ => error(asked.id, INTERNAL, "the client that had this terminal cannot be reached any more"),
        }
    }

    fn report(&mut self, prompt: PromptId, client: Option<EventId>, asked: Asked) -> Do {
        let Asked { id, method, params } = asked;
        let open = Open { id, method, payload: params.to_string() };
        if self.open.len() >= bounds::CALLS
            || open.payload.len() > bounds::PAYLOAD
            || self.held + open.bytes() > HELD
        {
            self.full = true;
            return error(open.id, INTERNAL, "too many requests wait already, or this one is too large");
        }
        self.last += 1;
        let (request, method, payload) = (self.last, open.method.clone(), open.payload.clone());
        self.held += open.bytes();
        self.open.insert(request, open);
        Do::Report(Report::CallAsked { prompt, request, client, method, payload })
    }

    /// Takes out one that waits.
    fn take(&mut self, request: u64) -> Option<Asked> {
        let open = self.open.remove(&request)?;
        self.held -= open.bytes();
        Some(open.asked())
    }

    /// Returns true if a request was refused since the last call, because too many wait or they are too large.
    pub fn was_full(&mut self) -> bool {
        std::mem::take(&mut self.full)
    }

    /// Size of the agent's requests that wait here, in bytes.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Handles the manager's answer to a request; `None` if the request no longer waits.
    pub fn answered(&mut self, request: u64, answer: CallAnswer) -> Option<Next> {
        let asked = self.take(request)?;
        let own = asked.method.starts_with("fs/");
        Some(match answer {
            CallAnswer::Result { json } => Next::Do(match lenient::read(json.as_bytes()) {
                Ok(read) => self.done(asked, read.value),
                Err(unread) => {
                    error(asked.id, INTERNAL, &format!("the client's answer cannot be read: {}", unread.why))
                }
            }),
            CallAnswer::Error { json } => {
                let why: Value = serde_json::from_str(&json).unwrap_or_default();
                let code = why["code"].as_i64().unwrap_or(INTERNAL);
                let message = why["message"].as_str().unwrap_or("the client could not do it");
                Next::Do(error_about(asked.id, code, message, why["data"].clone()))
            }
            CallAnswer::NotAsked { .. } if own || asked.method == "terminal/create" => Next::Own(asked),
            // To read or write a file a second time does no harm. A command is another matter.
            CallAnswer::GivenUp { .. } if own => Next::Own(asked),
            CallAnswer::NotAsked { reason } | CallAnswer::GivenUp { reason } => {
                Next::Do(error(asked.id, INTERNAL, &reason))
            }
        })
    }

    /// The manager is gone, and its clients with it: what one of them was to do may be done, and is seen to as if that one
    /// had not answered. Questions to the user wait for the next manager.
    pub fn left_alone(&mut self) -> Vec<Next> {
        self.driven_by(None, Vec::new());
        let asks = |asked: &Open| Offer::of(&asked.method) == Some(Offer::Elicitation);
        let open: Vec<u64> =
            self.open.iter().filter(|(_, asked)| !asks(asked)).map(|(number, _)| *number).collect();
        let reason = || "kennel's manager was replaced while a client was asked".to_owned();
        open.into_iter()
            .filter_map(|request| self.answered(request, CallAnswer::GivenUp { reason: reason() }))
            .collect()
    }

    /// Repeats all open requests to a new manager, because their answers may be lost.
    pub fn taken_over(&mut self, turn: Option<PromptId>) -> Vec<Report> {
        let again = |(request, asked): (&u64, &Open)| {
            let (prompt, method, payload) = (turn?, asked.method.clone(), asked.payload.clone());
            Some(Report::CallAsked { prompt, request: *request, client: None, method, payload })
        };
        self.open.iter().filter_map(again).collect()
    }

    fn done(&mut self, asked: Asked, mut value: Value) -> Do {
        if asked.method != "terminal/create" {
            return result(asked.id, value);
        }
        let (Some(id), Some(client)) = (text_at(&value, "terminalId"), self.client) else {
            return error(asked.id, INTERNAL, "the client opened a terminal without an id");
        };
        if !bounds::fits(&id, bounds::ID) {
            return error(asked.id, INTERNAL, "the client opened a terminal under an id that is too long");
        }
        self.opened += 1;
        // Not to be taken for one of the worker's own.
        let name = format!("client-terminal-{}", self.opened);
        value["terminalId"] = json!(name);
        self.terminals.insert(name, Elsewhere { client, id });
        result(asked.id, value)
    }

    /// The turn is over, or is to end: whatever waits is answered, for agents wait for that, some for ever.
    pub fn close(&mut self) -> Vec<Do> {
        self.held = 0;
        std::mem::take(&mut self.open).into_values().map(Open::asked).map(unanswered).collect()
    }
}

fn unanswered(asked: Asked) -> Do {
    match asked.method.as_str() {
        "elicitation/create" => result(asked.id, json!({ "action": "cancel" })),
        _ => error(asked.id, CANCELLED, "the turn was ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Place {
        Place::open("/", None, 0o022)
    }

    const TURN: Option<PromptId> = Some(PromptId(7));

    fn asked(method: &str, params: Value) -> Asked {
        Asked { id: json!(1), method: method.to_owned(), params }
    }

    fn sent(next: Next) -> Value {
        match next {
            Next::Do(Do::Send(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The number under which it was handed over, and with what.
    fn handed(next: Next) -> (u64, Option<EventId>, Value) {
        match next {
            Next::Do(Do::Report(Report::CallAsked { request, client, payload, .. })) => {
                (request, client, serde_json::from_str(&payload).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn terminal_at_client(calls: &mut Calls) -> String {
        calls.driven_by(Some(20), vec![Offer::Terminal]);
        let (request, client, _) = handed(calls.ask(&root(), TURN, asked("terminal/create", json!({}))));
        assert_eq!(client, Some(20));
        let answer = CallAnswer::Result { json: r#"{"terminalId":"terminal-1"}"#.into() };
        let message = sent(calls.answered(request, answer).unwrap());
        message["result"]["terminalId"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_terminal_of_the_client_is_not_taken_for_one_of_the_worker() {
        let mut calls = Calls::default();
        let name = terminal_at_client(&mut calls);
        assert_ne!(name, "terminal-1");
        let own = calls.ask(&root(), TURN, asked("terminal/output", json!({ "terminalId": "terminal-1" })));
        assert!(matches!(own, Next::Own(_)));
        let (_, client, params) =
            handed(calls.ask(&root(), TURN, asked("terminal/output", json!({ "terminalId": name }))));
        assert_eq!((client, &params["terminalId"]), (Some(20), &json!("terminal-1")));
    }

    #[test]
    fn a_terminal_of_a_client_that_went_is_an_error_and_can_be_released() {
        let mut calls = Calls::default();
        let name = terminal_at_client(&mut calls);
        calls.driven_by(Some(30), vec![Offer::Terminal]);
        let message = sent(calls.ask(&root(), TURN, asked("terminal/output", json!({ "terminalId": name }))));
        assert!(message["error"]["message"].as_str().unwrap().contains("cannot be reached"));
        let message =
            sent(calls.ask(&root(), TURN, asked("terminal/release", json!({ "terminalId": name }))));
        assert!(message["result"].is_object());
    }

    #[test]
    fn a_command_that_may_have_been_started_is_not_started_again() {
        let mut calls = Calls::default();
        calls.driven_by(Some(20), vec![Offer::Terminal]);
        let mut ask = || handed(calls.ask(&root(), TURN, asked("terminal/create", json!({})))).0;
        let (one, two) = (ask(), ask());
        let reason = || "the client went".to_owned();
        let given_up = calls.answered(one, CallAnswer::GivenUp { reason: reason() }).unwrap();
        assert_eq!(sent(given_up)["error"]["message"], "the client went");
        let not_asked = calls.answered(two, CallAnswer::NotAsked { reason: reason() }).unwrap();
        assert!(matches!(not_asked, Next::Own(_)));
        assert!(calls.answered(two, CallAnswer::NotAsked { reason: reason() }).is_none());
    }

    #[test]
    fn what_a_client_was_asked_is_seen_to_when_the_manager_is_gone_and_a_form_is_asked_again_of_the_next() {
        let mut calls = Calls::default();
        calls.driven_by(Some(20), Offer::ALL.to_vec());
        let (form, ..) = handed(calls.ask(&root(), TURN, asked("elicitation/create", json!({}))));
        handed(calls.ask(&root(), TURN, asked("terminal/create", json!({}))));
        let mut next = calls.left_alone();
        assert!(sent(next.pop().unwrap())["error"]["message"].as_str().unwrap().contains("replaced"));
        assert!(next.is_empty());
        // The earlier driver gets no more requests.
        assert!(matches!(calls.ask(&root(), TURN, asked("terminal/create", json!({}))), Next::Own(_)));
        let mut again = calls.taken_over(TURN);
        assert_eq!(handed(Next::Do(Do::Report(again.pop().unwrap()))).0, form);
        assert!(again.is_empty());
        let answer = || CallAnswer::Result { json: r#"{"action":"decline"}"#.into() };
        assert_eq!(sent(calls.answered(form, answer()).unwrap())["result"]["action"], "decline");
        assert!(calls.answered(form, answer()).is_none(), "a second answer is dropped");
        assert!(calls.taken_over(TURN).is_empty());
    }

    #[test]
    fn whatever_waits_is_answered_at_the_end_of_the_turn() {
        let mut calls = Calls::default();
        let (request, client, _) = handed(calls.ask(&root(), TURN, asked("elicitation/create", json!({}))));
        assert_eq!(client, None);
        let all = calls.close();
        assert!(matches!(&all[..], [Do::Send(message)] if message["result"]["action"] == "cancel"));
        assert!(calls.answered(request, CallAnswer::Result { json: "{}".into() }).is_none());
        let between_turns = calls.ask(&root(), None, asked("elicitation/create", json!({})));
        assert_eq!(sent(between_turns)["result"]["action"], "cancel");
    }
}
