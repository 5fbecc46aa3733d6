//! The watchdog of a turn: it looks for evidence that the agent works, and reports a stall after the
//! profile's time without any.

use protocol::event::{EventKind, StallStep};

use crate::core::at::At;
use crate::core::model::session::Session;
use crate::core::model::turn::{Phase, Quiet};
use crate::core::out::Out;

/// A process works if it uses at least one part in so many of a processor. Agents that wait wake up now and then, and use
/// less.
const BUSY: u64 = 100;

/// The reason of a turn that was cut off because it stalled, in its event.
pub(in crate::core) const STALLED: &str = "its agent showed no sign of work and was told to end the turn";

impl Quiet {
    /// Returns true if the processes have used the processor since the last observation. The first
    /// observation counts as work.
    fn is_busy(&mut self, now: u64, cpu_ms: u64) -> bool {
        let Some((before, at)) = self.cpu.replace((cpu_ms, now)) else { return true };
        // Less is more: some of them have ended, and their time with them.
        cpu_ms < before || (cpu_ms - before).saturating_mul(BUSY) > now.saturating_sub(at)
    }
}

impl Session {
    /// The agent showed that it works.
    pub(in crate::core) fn worked(&mut self, at: At, out: &mut Out) {
        if self.spec.stall_ms() == 0 {
            return;
        }
        let Some(turn) = &mut self.turns.running else { return };
        let quiet = &mut turn.quiet;
        let quiet_ms = std::mem::take(&mut quiet.ms);
        quiet.looked_at = Some(at.mono);
        if quiet.step == Some(StallStep::Noticed) {
            let step = StallStep::Resumed;
            quiet.step = Some(step);
            let (turn, prompt_id) = (turn.number, turn.prompt.id);
            out.emit(EventKind::SessionStalled { turn, prompt_id, step, quiet_ms });
        }
    }

    /// Handles a worker's answer to a probe: the processor time of its processes so far, in milliseconds, and how many
    /// commands it runs for its agent.
    pub(in crate::core) fn alive(&mut self, at: At, cpu_ms: u64, commands: u32, out: &mut Out) {
        let (limit, most) = (self.spec.stall_ms(), self.spec.worker_timeout_ms);
        let Some(turn) = &mut self.turns.running else { return };
        if limit == 0 || !matches!(turn.phase, Phase::Started { .. }) {
            return;
        }
        let busy = turn.quiet.is_busy(at.mono, cpu_ms);
        if busy || commands > 0 || !turn.tools.is_empty() || turn.waits_for_somebody() {
            return self.worked(at, out);
        }
        let quiet = &mut turn.quiet;
        let since = quiet.looked_at.replace(at.mono).map_or(0, |before| at.mono.saturating_sub(before));
        quiet.ms = quiet.ms.saturating_add(since.min(most));
        let noticed = quiet.step == Some(StallStep::Noticed);
        let step = match noticed {
            false if quiet.ms >= limit => StallStep::Noticed,
            // Half as long again: time to look at it, or for it to go on.
            true if quiet.ms >= limit.saturating_add(limit / 2) => StallStep::Cancelled,
            _ => return,
        };
        quiet.step = Some(step);
        let (turn, prompt_id, quiet_ms) = (turn.number, turn.prompt.id, quiet.ms);
        out.emit(EventKind::SessionStalled { turn, prompt_id, step, quiet_ms });
        if step == StallStep::Cancelled {
            self.abort_turn(at, out);
        }
    }
}
