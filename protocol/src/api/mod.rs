//! The HTTP API's bodies. `manager/openapi.json` is generated from these.

mod agent;
mod client;
mod disk;
mod files;
mod fork;
mod key;
mod last_line;
mod load;
mod log;
mod log_in;
mod manager;
mod mcp;
mod opts;
mod permission;
mod prompt;
mod prune;
mod search;
mod session;
mod subagent;
mod web;

pub use crate::common::{AttachmentInfo, ClientOrigin, ForkedFrom, Role, ToldTurn, Usage};
pub use agent::{AgentInfo, AgentKind, SettingReply, SettingRequest, SettingsInfo};
pub use client::{CallInfo, CallRequest, ClientInfo};
pub use disk::{DiskUsage, FileUsage, JournalUsage, SessionUsage, WorktreeUsage};
pub use files::{FileChange, FileContent, FileDiff, FileInfo, FileList};
pub use fork::ForkRequest;
pub use key::{
    IssuedKey, KeyInfo, KeyRequest, KeyRole, KeySessions, PairRequest, PairedKey, PairingInfo,
    PairingRequest, PairingState, StartedPairing,
};
pub use last_line::LastLine;
pub use load::SessionLoad;
pub use log::{LogEnd, LogEnded, LogGap, LogPiece};
pub use log_in::{LogInEnd, LogInInfo, LogInInput, LogInPiece, LogInVisit, VisitAnswer};
pub use manager::{Bootstrap, BootstrapRequest, ListenInfo, ManagerInfo, Problem, TokenReply};
pub use mcp::{McpRemoteServerOpts, McpServerOpts, McpServersReply, McpServersRequest};
pub use opts::{EditSessionRequest, OnCrash, RestartType, SessionOpts};
pub use permission::{AnswerRequest, PermissionAnswer, PermissionInfo, PermissionPolicy};
pub use prompt::{
    Aborted, Accepted, AttachmentRequest, Cleared, EditRequest, PromptRequest, PromptState, QueuedPrompt,
    ResolveRequest, Resolved, TurnResult, WhenBusy,
};
pub use prune::{Gap, PruneReport, PruneRequest, PrunedSession, PrunedWorktree};
pub use search::{SearchHit, SearchKind, SearchMatch, SearchReply, SearchRequest, SearchedSession};
pub use session::{
    ChildInfo, Failure, Need, NeedKind, Orphans, Restarts, SessionInfo, Status, SubagentTools,
};
pub use subagent::{SubagentHandle, SubagentRequest};
pub use web::{WebCaller, WebInfo, WebLink, WebLogIn, WebLoggedIn, WebRequest};
