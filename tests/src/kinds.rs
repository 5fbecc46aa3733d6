//! Every variant of the core's enums by name, so that a table or a simulation can prove that it leaves none
//! out.
//!
//! A match without a wildcard arm makes each list. So a new variant does not compile until it is named here.
//! Once it is named, the tests demand that it occurs.

use manager::core::{Command, Effect, Input, Phase, Seen, State, Why};
use protocol::event::EventKind;

macro_rules! kinds {
    ($(#[$doc:meta])* $all:ident, $name_of:ident: $type:ty { $($pattern:pat => $name:literal,)+ }) => {
        $(#[$doc])*
        pub const $all: &[&str] = &[$($name),+];

        /// The name of a value's variant.
        pub fn $name_of(value: &$type) -> &'static str {
            match value {
                $($pattern => $name,)+
            }
        }
    };
}

kinds! {
    /// The states of a session.
    STATES, state: State {
        State::Starting { .. } => "starting",
        State::Ready { .. } => "ready",
        State::Adopting { .. } => "adopting",
        State::Stopping { .. } => "stopping",
        State::Restarting { .. } => "restarting",
        State::Hibernated => "hibernated",
        State::Stopped => "stopped",
        State::Failed(_) => "failed",
    }
}

kinds! {
    /// The phases of a turn.
    PHASES, phase: Phase {
        Phase::Sent { .. } => "sent",
        Phase::Started { .. } => "started",
        Phase::Aborting { .. } => "aborting",
    }
}

kinds! {
    /// The reasons for the end of a process.
    WHYS, why: Why {
        Why::Stop => "stop",
        Why::Hibernate => "hibernate",
        Why::Restart => "restart",
        Why::Shutdown => "shutdown",
        Why::Lost => "lost",
        Why::Outdated => "outdated",
        Why::Fault(_) => "fault",
        Why::AgentDied(_) => "agent died",
        Why::NotRun { .. } => "not run",
        Why::Hopeless(_) => "hopeless",
    }
}

kinds! {
    /// The effects of a state.
    EFFECTS, effect: Effect {
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

kinds! {
    /// The inputs of a session.
    INPUTS, input: Input {
        Input::Command(_) => "command",
        Input::CommandBy(..) => "command by a client",
        Input::Seen(..) => "seen",
        Input::Recovered { .. } => "recovered",
        Input::Shutdown => "shutdown",
        Input::Tick => "tick",
        Input::OpenTasks(_) => "open tasks",
    }
}

kinds! {
    /// The commands of a session.
    COMMANDS, command: Command {
        Command::Up => "up",
        Command::Stop => "stop",
        Command::Restart => "restart",
        Command::Prompt(_) => "prompt",
        Command::Abort => "abort",
        Command::AbortOnly(_) => "abort one",
        Command::Pin(_) => "pin",
        Command::Edit(..) => "edit",
        Command::Remove(_) => "remove",
        Command::Clear => "clear",
        Command::Resolve(..) => "resolve",
        Command::Permit(..) => "permit",
        Command::Attach { .. } => "attach",
        Command::Detach(_) => "detach",
        Command::Leave { .. } => "leave",
        Command::AnswerCall(..) => "answer call",
        Command::Set { .. } => "set",
        Command::AddServers { .. } => "add servers",
    }
}

kinds! {
    /// The observations of a process.
    SEEN, seen: Seen {
        Seen::Spawned(_) => "spawned",
        Seen::SpawnFailed { .. } => "spawn failed",
        Seen::SpareLost => "spare lost",
        Seen::Ready { .. } => "ready",
        Seen::TurnStarted { .. } => "turn started",
        Seen::Output { .. } => "output",
        Seen::TurnEnded { .. } => "turn ended",
        Seen::AgentSession(_) => "agent session",
        Seen::Introduced(_) => "introduced",
        Seen::Contained(_) => "contained",
        Seen::Sandboxed(_) => "sandboxed",
        Seen::Limited(_) => "limited",
        Seen::OutOfMemory { .. } => "out of memory",
        Seen::Linked { .. } => "linked",
        Seen::Handed(_) => "handed",
        Seen::Heard(_) => "heard",
        Seen::Updated { .. } => "updated",
        Seen::PermissionAsked { .. } => "permission asked",
        Seen::CallAsked { .. } => "call asked",
        Seen::SettingAnswered { .. } => "setting answered",
        Seen::Alive { .. } => "alive",
        Seen::Notice(_) => "notice",
        Seen::AgentDied(_) => "agent died",
        Seen::NotRun { .. } => "not run",
        Seen::Program(_) => "program",
        Seen::LoginNeeded(_) => "login needed",
        Seen::Faulted(_) => "faulted",
        Seen::Gone { .. } => "gone",
    }
}

kinds! {
    /// The events that the core records.
    EVENTS, event: EventKind {
        EventKind::SessionCreated { .. } => "session.created",
        EventKind::SessionStarted { .. } => "session.started",
        EventKind::SessionReady { .. } => "session.ready",
        EventKind::SessionRestarting { .. } => "session.restarting",
        EventKind::SessionRestarted { .. } => "session.restarted",
        EventKind::SessionHibernated {} => "session.hibernated",
        EventKind::SettingChanged { .. } => "setting.changed",
        EventKind::SettingRefused { .. } => "setting.refused",
        EventKind::SessionStalled { .. } => "session.stalled",
        EventKind::SessionOomKilled { .. } => "session.oom_killed",
        EventKind::SessionAdopted { .. } => "session.adopted",
        EventKind::SessionWoken {} => "session.woken",
        EventKind::SessionStopped { .. } => "session.stopped",
        EventKind::SessionFailed { .. } => "session.failed",
        EventKind::SessionUpdated { .. } => "session.updated",
        EventKind::SessionDeleted {} => "session.deleted",
        EventKind::PromptAccepted { .. } => "prompt.accepted",
        EventKind::PromptQueued { .. } => "prompt.queued",
        EventKind::PromptEdited { .. } => "prompt.edited",
        EventKind::PromptStarted { .. } => "prompt.started",
        EventKind::PromptRemoved { .. } => "prompt.removed",
        EventKind::PromptResolved { .. } => "prompt.resolved",
        EventKind::TurnStarted { .. } => "turn.started",
        EventKind::TurnCompleted { .. } => "turn.completed",
        EventKind::TurnInterrupted { .. } => "turn.interrupted",
        EventKind::MessageChunk { .. } => "message.chunk",
        EventKind::ThoughtChunk { .. } => "thought.chunk",
        EventKind::ToolCallStarted { .. } => "tool_call.started",
        EventKind::ToolCallUpdated { .. } => "tool_call.updated",
        EventKind::ToolCallInterrupted { .. } => "tool_call.interrupted",
        EventKind::PlanUpdated { .. } => "plan.updated",
        EventKind::UsageUpdated { .. } => "usage.updated",
        EventKind::AgentUpdated { .. } => "agent.updated",
        EventKind::PermissionRequested { .. } => "permission.requested",
        EventKind::PermissionResolved { .. } => "permission.resolved",
        EventKind::PermissionExpired { .. } => "permission.expired",
        EventKind::CallRequested { .. } => "call.requested",
        EventKind::CallAnswered { .. } => "call.answered",
        EventKind::CallExpired { .. } => "call.expired",
        EventKind::ClientAttached { .. } => "client.attached",
        EventKind::ClientDetached { .. } => "client.detached",
        EventKind::DriverChanged { .. } => "driver.changed",
        EventKind::SubagentStarted { .. } => "subagent.started",
        EventKind::SubagentCompleted { .. } => "subagent.completed",
        EventKind::SubagentLost { .. } => "subagent.lost",
        EventKind::AccessRefused(_) => "access.refused",
        EventKind::SystemMessage { .. } => "system.message",
        EventKind::ManagerStarted { .. } => "manager.started",
        EventKind::ManagerStopping {} => "manager.stopping",
    }
}
