//! A session in a program of your own, without a daemon: manager/docs/api.md shows this.
#![allow(clippy::disallowed_macros, reason = "an example shows what it does")]

use manager::SessionManager;
use manager::protocol::api::{PromptRequest, SessionOpts};
use manager::protocol::event::EventKind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kennel = SessionManager::builder().state_dir("state").worker_path("session-worker").start().await?;
    let session = kennel.start_session(SessionOpts::default(), None).await?;
    let mut events = kennel.subscribe(None, Some(session.id.clone()));
    let prompt = PromptRequest { text: "echo hello".into(), ..Default::default() };
    kennel.send_prompt(&session.id, prompt, None).await?;
    'turn: while let Some(records) = events.next().await? {
        for record in records {
            match record.event()?.kind {
                EventKind::MessageChunk { text, .. } => print!("{text}"),
                EventKind::TurnCompleted { .. } => break 'turn,
                _ => {}
            }
        }
    }
    kennel.shutdown().await;
    Ok(())
}
