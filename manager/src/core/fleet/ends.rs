//! Ends: the inputs that are taken while the journal takes nothing else.
//!
//! A full journal must not keep anybody from stopping the sessions that fill it. So a reserve is kept for ends. Where even
//! that is used up, signals are sent first and recorded later. Everything else waits.

use crate::core::effect::Effect;
use crate::core::fleet::{Change, Fleet};
use crate::core::input::{Ask, Input};
use crate::core::model::state::{State, Was};

impl Fleet {
    /// Returns true if `ask` ends something. The manager accepts such inputs while all others wait for room
    /// in the journal.
    pub fn ends(&self, ask: &Ask) -> bool {
        match ask {
            // A removal makes room.
            Ask::Stop(..) | Ask::Remove(_) | Ask::Shutdown => true,
            Ask::One(id, Input::Seen(..) | Input::Tick) => self.get(id).is_none_or(|session| {
                matches!(
                    session.state,
                    State::Stopping { .. } | State::Adopting { was: Was::Stopping, .. } | State::Stopped
                )
            }),
            Ask::ByClient { ask, .. } => self.ends(ask),
            Ask::One(_, Input::Shutdown) => true,
            Ask::One(
                _,
                Input::Command(_) | Input::CommandBy(..) | Input::Recovered { .. } | Input::OpenTasks(_),
            )
            | Ask::Create { .. }
            | Ask::ByKey { .. }
            | Ask::Ensure { .. }
            | Ask::Fork(_)
            | Ask::Subagent { .. }
            | Ask::Edit(..)
            | Ask::ManagerStarted { .. }
            // It is told again later.
            | Ask::AccessRefused(_)
            // Both wait, so that neither passes the other.
            | Ask::SpareReady(_)
            | Ask::SpareGone(_) => false,
        }
    }
}

impl Change {
    /// Returns true if the change may be done before it is recorded: it only signals processes. The next
    /// manager has no record of the change, finds the processes dead and judges. Nothing is reaped or spawned
    /// before the record.
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
