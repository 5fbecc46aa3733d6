//! The end of a turn as `send` tells it: a word and an exit code for each stop reason.

use protocol::PromptId;
use protocol::event::Outcome as Ended;

use crate::cli::ui::error::{Failure, Outcome, exit};

/// Returns the outcome of the command whose prompt's turn ended so.
pub fn completed(
    prompt: PromptId,
    outcome: Ended,
    stop_reason: &str,
    exit: Option<protocol::Exit>,
) -> Outcome {
    match (outcome, exit) {
        (Ended::Aborted, _) if stop_reason == "timeout" => {
            let what = format!("{prompt} was aborted: its turn took longer than the session's turn timeout");
            Err(Failure::new(exit::ABORTED, "aborted", what))
        }
        (Ended::Aborted, _) => {
            Err(Failure::new(exit::ABORTED, "aborted", format!("{prompt} was aborted ({stop_reason})")))
        }
        (Ended::Interrupted, _) => {
            Err(Failure::new(exit::CUT_OFF, "interrupted", format!("{prompt} was interrupted")))
        }
        (Ended::Completed, Some(exit)) if !exit.is_success() => {
            Err(Failure::failed("agent_failed", format!("the agent failed: {exit}")))
        }
        (Ended::Completed, _) if stop_reason == "end_turn" => Ok(()),
        (Ended::Completed, _) if stop_reason == "error" => {
            Err(Failure::failed("agent_failed", "the turn ended with an error, which stands above"))
        }
        (Ended::Completed, _) => Err(match early(stop_reason) {
            Some((code, what)) => Failure::new(code, stop_reason, what),
            None => Failure::failed("ended_otherwise", format!("the turn ended otherwise: {stop_reason}")),
        }),
    }
}

/// Returns the exit code and the explanation of a stop reason of ACP's that ends a turn early; none for other reasons.
pub fn early(stop_reason: &str) -> Option<(u8, &'static str)> {
    match stop_reason {
        "refusal" => Some((exit::REFUSED, "the agent refused to go on (refusal)")),
        "max_tokens" => Some((
            exit::MAX_TOKENS,
            "the turn ended early: the model's limit of tokens was reached (max_tokens)",
        )),
        "max_turn_requests" => Some((
            exit::MAX_TURN_REQUESTS,
            "the turn ended early: the limit of requests in a turn was reached (max_turn_requests)",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::Exit;

    use super::*;

    fn exit_of(outcome: Ended, stop_reason: &str, exit: Option<Exit>) -> u8 {
        completed(PromptId(1), outcome, stop_reason, exit).err().map_or(0, |failure| failure.exit())
    }

    #[test]
    fn each_end_of_a_turn_has_an_exit_code_of_its_own() {
        for (outcome, stop_reason, agent, code) in [
            (Ended::Completed, "end_turn", Some(Exit::Code(0)), 0),
            (Ended::Completed, "end_turn", None, 0),
            (Ended::Completed, "end_turn", Some(Exit::Code(3)), 1),
            (Ended::Completed, "error", None, 1),
            (Ended::Completed, "_of_a_later_version", None, 1),
            (Ended::Completed, "max_tokens", None, 10),
            (Ended::Completed, "max_turn_requests", None, 11),
            (Ended::Completed, "refusal", None, 12),
            (Ended::Aborted, "cancelled", None, 13),
            (Ended::Aborted, "timeout", None, 13),
            (Ended::Interrupted, "", None, 14),
        ] {
            assert_eq!(exit_of(outcome, stop_reason, agent), code, "{outcome:?} {stop_reason}");
        }
    }
}
