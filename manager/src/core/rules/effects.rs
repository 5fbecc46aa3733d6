//! The effects that each state wants.

use protocol::Incarnation;

use crate::core::effect::{AnsweredCall, Effect};
use crate::core::model::session::Session;
use crate::core::model::state::State;
use crate::core::model::turn::{Answer, Phase};

fn answers(incarnation: Incarnation, all: &[Answer]) -> impl Iterator<Item = Effect> {
    all.iter().map(move |answer| Effect::Answer {
        incarnation,
        request: answer.request,
        option: answer.option.clone(),
    })
}

impl Session {
    /// All effects of this state, which are issued again at every start.
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
            // A session with processes that cannot be killed keeps them, and lets them go once they are dead.
            State::Failed(failure) if !failure.survivors.is_empty() => Vec::new(),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {
                self.released(incarnation)
            }
        }
    }

    /// Answers to calls. They belong to a step and not to the state after it, because they hold file contents and secrets,
    /// which the journal must not keep. A worker whose manager died before it answered calls again.
    pub(in crate::core) fn answers_to_calls(
        &self,
        answered: Vec<AnsweredCall>,
    ) -> impl Iterator<Item = Effect> {
        let incarnation = self.incarnation;
        let ready = matches!(self.state, State::Ready { .. });
        let answered = answered.into_iter().filter(move |_| ready);
        answered.map(move |AnsweredCall { request, answer }| Effect::AnswerCall {
            incarnation,
            request,
            answer,
        })
    }

    fn released(&self, incarnation: Incarnation) -> Vec<Effect> {
        if incarnation == 0 { Vec::new() } else { vec![Effect::Release { incarnation }] }
    }

    /// The effects of this state that `before` had not.
    pub(in crate::core) fn new_effects(&self, before: &Session) -> Vec<Effect> {
        let done = before.effects();
        self.effects().into_iter().filter(|effect| !done.contains(effect)).collect()
    }
}
