//! Limits of the core, in milliseconds where a name ends in `_MS`.

/// Prompts that may wait in one session.
pub const QUEUE: usize = 100;
/// Interrupted prompts that are remembered. One more drops the oldest, with an event.
pub const INTERRUPTED: usize = 100;
/// Characters of the first prompt in lists.
pub const FIRST_PROMPT_CHARS: usize = 200;
/// Time from spawn to ready.
pub const START_MS: u64 = 20_000;
/// The same for ACP agents, which may load a conversation.
pub const START_ACP_MS: u64 = 120_000;
/// Time without a sign of work after which a turn stalls. Agents were seen to wait 10 minutes for their model.
pub const STALL_ACP_MS: u64 = 20 * 60_000;
/// Starts in a row that may fail before an agent's conversation is given up.
pub const LOST_STARTS: u32 = 2;
/// The time for which the seat of a driver is kept whose connection was lost, in milliseconds.
pub const SEAT_MS: u64 = 30_000;
/// Clients that may be attached to one session.
pub const CLIENTS: usize = 1_000;
/// Permissions that may wait at once.
pub const PERMISSIONS: usize = protocol::bounds::PERMISSIONS;
/// The most that they may have together in the session's document, in bytes.
pub const PERMISSIONS_BYTES: usize = 128 << 10;
/// The room beside it for the command lines that these are about. Each gets a quarter of what is left: the first 16 KiB. Its event
/// has the whole.
pub const COMMANDS_BYTES: usize = 64 << 10;
/// Settings that may wait for the agent's answer.
pub const SETTINGS: usize = 16;
/// Settings that are remembered, to be set again in the agent's next process.
pub const SET: usize = 64;
/// Calls that may wait at once.
pub const CALLS: usize = protocol::bounds::CALLS;
/// Time that the driver has to answer a call.
pub const CALL_MS: u64 = 30_000;
/// Answers to permission requests that are kept after they were sent, so that they can be sent again.
pub const ANSWERS: usize = 16;
/// Labels of one session.
pub const LABELS: usize = 32;
/// Open tool calls of one turn that are remembered.
pub const TOOL_CALLS: usize = 1_000;
/// The most that their ids may have together, in bytes.
pub const TOOL_CALLS_BYTES: usize = 64 << 10;
/// The largest size to which a session's workers can grow its document, in bytes. Their reports are bounded
/// in it.
pub const DOCUMENT: usize = 384 << 10;
/// Limit of an agent's messages on record in one turn, in bytes of text and payloads.
pub const TURN_BYTES: u64 = 64 << 20;
/// Limit of permission requests and calls on record after `TURN_BYTES`, in bytes, without their payloads. Later ones are
/// denied: what is not on record is not allowed.
pub const ASKS_BYTES: u64 = 8 << 20;
/// Limit of an agent's messages on record between two turns, in bytes.
pub const BETWEEN_BYTES: u64 = 4 << 20;
/// Time in which a worker must confirm a prompt. It also finds a worker that hangs while idle.
pub const TAKE_PROMPT_MS: u64 = 10_000;
/// Time to read a prompt's attachments and history from the journal.
pub const READ_PROMPT_MS: u64 = 60_000;
/// Time to end an aborted turn, beside the agent's grace.
pub const ABORT_SLACK_MS: u64 = 5_000;
/// Time to end a worker's tree and exit, beside the agent's grace.
pub const STOP_SLACK_MS: u64 = 3_000;
/// Time between two rounds of SIGKILL.
pub const KILL_MS: u64 = 1_000;
/// Time from the first SIGKILL until a process counts as unkillable.
pub const UNKILLABLE_MS: u64 = 10_000;
/// Time in which workers of a dead manager must answer the next one, or exit.
pub const ADOPT_MS: u64 = 5_000;
