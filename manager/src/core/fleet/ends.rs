//! What goes on while the journal takes nothing: ends.
//!
//! A journal without room must not keep anybody from stopping what fills it. So ends have room that is kept back for
//! them, and where even that is used up, signals are sent first and recorded later. Everything else waits.

use crate::core::effect::Effect;
use crate::core::fleet::{Change, Fleet};
use crate::core::input::{Ask, Input};
use crate::core::model::state::{State, Was};

impl Fleet {
    /// Whether `ask` is there to end something: it goes on while everything else waits for room.
    pub fn ends(&self, ask: &Ask) -> bool {
        match ask {
            // What is removed makes room.
            Ask::Stop(..) | Ask::Remove(_) | Ask::Shutdown => true,
            Ask::One(id, Input::Seen(..) | Input::Tick) => self.get(id).is_none_or(|session| {
                matches!(
                    session.state,
                    State::Stopping { .. } | State::Adopting { was: Was::Stopping, .. } | State::Stopped
                )
            }),
            Ask::One(_, Input::Shutdown) => true,
            Ask::One(
                _,
                Input::Command(_) | Input::CommandBy(..) | Input::Recovered { .. } | Input::OpenTasks(_),
            )
            | Ask::Create { .. }
            | Ask::Ensure { .. }
            | Ask::Subagent { .. }
            | Ask::ManagerStarted { .. } => false,
        }
    }
}

impl Change {
    /// Whether this may be done before it is recorded: it does nothing but tell processes to end, which the next
    /// manager, that knows nothing of it, finds dead and judges. A process that has ended is not let go before that is
    /// on record, and none is begun.
    pub fn may_act_first(&self) -> bool {
        let signals = |effect: &Effect| match effect {
            Effect::Terminate { .. } | Effect::Kill { .. } => true,
            Effect::Spawn { .. }
            | Effect::Welcome { .. }
            | Effect::Deliver { .. }
            | Effect::Abort { .. }
            | Effect::Answer { .. }
            | Effect::Driver { .. }
            | Effect::AnswerCall { .. }
            | Effect::Set { .. }
            | Effect::Reclaim { .. }
            | Effect::Release { .. } => false,
        };
        let kept = self.removed.is_none() && self.revived.is_none() && self.attached.is_empty();
        // Without a single signal there is no hurry.
        kept && !self.effects.is_empty() && self.effects.iter().all(|(_, effect)| signals(effect))
    }
}
