//! What a state wants done.
//!
//! Effects belong to states, not to transitions: a step's effects are what the new state wants and the old one
//! did not. So they can be issued again at any time from the journal alone, after the manager died between
//! commit and act, and each must do nothing when it was done already.

use protocol::wire::{CallAnswer, Offer, Setting};
use protocol::{EventId, Identity, Incarnation, PromptId};

use super::session::{Session, State};
use crate::core::rules::calls::Told;
use crate::core::rules::permissions::Answer;
use crate::core::rules::turns::Phase;

/// Something to be done outside the core, for one session. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Spawn this incarnation's worker; answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// Which.
        incarnation: Incarnation,
    },
    /// Its identity is in the journal: let it begin.
    Welcome {
        /// Whom.
        incarnation: Incarnation,
    },
    /// Hand it the running turn's prompt.
    Deliver {
        /// To whom.
        incarnation: Incarnation,
        /// Which prompt.
        prompt: PromptId,
    },
    /// Tell it to end the running turn.
    Abort {
        /// Whom.
        incarnation: Incarnation,
        /// Which prompt's turn.
        prompt: PromptId,
    },
    /// Tell it what was decided about a permission.
    Answer {
        /// Whom.
        incarnation: Incarnation,
        /// The worker's number of the question.
        request: u64,
        /// The option chosen; none: the question is cancelled.
        option: Option<String>,
    },
    /// Tell it what the client that drives can do for its agent.
    Driver {
        /// Whom.
        incarnation: Incarnation,
        /// The client, if it can do anything.
        client: Option<EventId>,
        /// What it can do.
        offers: Vec<Offer>,
    },
    /// Tell it what has become of a call.
    AnswerCall {
        /// Whom.
        incarnation: Incarnation,
        /// The worker's number of the call.
        request: u64,
        /// What.
        answer: CallAnswer,
    },
    /// Have the agent set something.
    Set {
        /// Whose.
        incarnation: Incarnation,
        /// The setting's number.
        request: u64,
        /// What, and to what.
        setting: Setting,
    },
    /// Ask it to end its tree and leave: SIGTERM.
    Terminate {
        /// Whom.
        incarnation: Incarnation,
    },
    /// SIGKILL, again in each round.
    Kill {
        /// Whom.
        incarnation: Incarnation,
        /// Counts the rounds from 1.
        round: u32,
    },
    /// A process that an earlier manager left: take it over and say `Linked`, or wait for its end, sweep what it
    /// left, and say `Gone`. What it said meanwhile is told before either.
    Reclaim {
        /// Which.
        incarnation: Incarnation,
        /// The process.
        worker: Identity,
    },
    /// Let go of this incarnation and all before: reap, close the link.
    Release {
        /// The last that is over.
        incarnation: Incarnation,
    },
}

impl Effect {
    /// Its name, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::Spawn { .. } => "spawn",
            Effect::Welcome { .. } => "welcome",
            Effect::Deliver { .. } => "deliver",
            Effect::Abort { .. } => "abort",
            Effect::Answer { .. } => "answer",
            Effect::Driver { .. } => "driver",
            Effect::AnswerCall { .. } => "respond",
            Effect::Set { .. } => "set",
            Effect::Terminate { .. } => "terminate",
            Effect::Kill { .. } => "kill",
            Effect::Reclaim { .. } => "reclaim",
            Effect::Release { .. } => "release",
        }
    }
}

fn answers(incarnation: Incarnation, all: &[Answer]) -> impl Iterator<Item = Effect> {
    all.iter().map(move |answer| Effect::Answer {
        incarnation,
        request: answer.request,
        option: answer.option.clone(),
    })
}

impl Session {
    /// What this state wants done, by whoever holds it: the whole of it, to be issued on every start.
    pub fn effects(&self) -> Vec<Effect> {
        let incarnation = self.incarnation;
        match &self.state {
            State::Starting { worker: None, .. } => {
                let mut effects = self.released(incarnation - 1);
                effects.push(Effect::Spawn { incarnation });
                effects
            }
            State::Starting { worker: Some(_), .. } => vec![Effect::Welcome { incarnation }],
            State::Ready { .. } => {
                let mut effects = Vec::new();
                if self.had_offers {
                    let (client, offers) = self.offered();
                    effects.push(Effect::Driver { incarnation, client, offers });
                }
                effects.extend(self.settings.asked.iter().map(|asked| Effect::Set {
                    incarnation,
                    request: asked.number,
                    setting: asked.setting.clone(),
                }));
                effects.extend(answers(incarnation, &self.turns.asked.answers));
                let Some(turn) = &self.turns.running else {
                    return effects;
                };
                let prompt = turn.prompt.id;
                effects.push(Effect::Deliver { incarnation, prompt });
                effects.extend(answers(incarnation, &turn.answers));
                match turn.phase {
                    Phase::Sent { .. } | Phase::Started { .. } => {}
                    Phase::Aborting { .. } => effects.push(Effect::Abort { incarnation, prompt }),
                }
                effects
            }
            State::Adopting { worker, .. } => {
                vec![Effect::Reclaim { incarnation, worker: worker.clone() }]
            }
            State::Stopping { worker: None, .. } => Vec::new(),
            State::Stopping { worker: Some(_), kills: 0, .. } => vec![Effect::Terminate { incarnation }],
            State::Stopping { worker: Some(_), kills, .. } => {
                vec![Effect::Kill { incarnation, round: *kills }]
            }
            // What cannot be killed is not over; it is let go once it is.
            State::Failed(failure) if !failure.survivors.is_empty() => Vec::new(),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {
                self.released(incarnation)
            }
        }
    }

    /// What was decided about calls. Of a step, and not of the state after it: there are file contents and secrets in
    /// it, which are not for the journal. A worker that outlives the manager that would have told it asks again.
    pub(super) fn answers_to_calls(&self, told: Vec<Told>) -> impl Iterator<Item = Effect> {
        let incarnation = self.incarnation;
        let ready = matches!(self.state, State::Ready { .. });
        let told = told.into_iter().filter(move |_| ready);
        told.map(move |Told { request, answer }| Effect::AnswerCall { incarnation, request, answer })
    }

    fn released(&self, incarnation: Incarnation) -> Vec<Effect> {
        if incarnation == 0 { Vec::new() } else { vec![Effect::Release { incarnation }] }
    }

    /// What this state wants and `before` did not.
    pub(super) fn new_effects(&self, before: &Session) -> Vec<Effect> {
        let done = before.effects();
        self.effects().into_iter().filter(|effect| !done.contains(effect)).collect()
    }
}
