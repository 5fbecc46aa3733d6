//! The link of a worker to its manager on real processes: large messages, and no wait for a timer.

use std::time::Duration;

use harness::real::*;
use manager::WaitFor;
use manager::protocol::SessionId;
use manager::protocol::api::{Orphans, SessionOpts};
use manager::protocol::event::EventKind;
use manager::protocol::flow;

/// The output of one turn, in bytes.
const SAID: usize = 40 << 20;
/// The smallest recorded part of it, in bytes.
const RECORDED: usize = 30 << 20;
/// Far above what it takes, for machines under load. Nothing here is judged by time.
const PATIENCE: Duration = Duration::from_secs(120);

async fn host() -> Host {
    let host = Host::new().await;
    let command = format!("kind = \"acp\"\ncommand = [\"{}\"]", beside("acp-agent").display());
    std::fs::write(host.config(), format!("[agents.large]\n{command}\n")).unwrap();
    host
}

async fn session(host: &Host) -> SessionId {
    host.session_with(SessionOpts { agent: Some("large".into()), ..host.opts() }).await
}

/// Runs a turn with [`SAID`] bytes of output in messages of this size. Returns the number of recorded bytes,
/// and how often the worker was probed and sent a message meanwhile.
async fn record_turn(host: &Host, size: usize) -> (usize, u64, u64) {
    let id = session(host).await;
    let before = host.manager.work();
    host.send(&id, &format!("messages {} {size}", SAID / size)).await;
    host.manager.wait(&id, WaitFor::Idle, Some(PATIENCE)).await.unwrap();
    let after = host.manager.work();
    let mut stream = host.manager.subscribe(Some(0), Some(id.clone()));
    let (mut output, mut largest) = (0, 0);
    while let Some(records) = stream.ready().await.unwrap() {
        for record in records {
            if let EventKind::MessageChunk { text, .. } = record.event().unwrap().kind {
                output += text.len();
                largest = largest.max(text.len());
            }
        }
    }
    assert_eq!(largest, size, "it came in pieces of another size");
    host.manager.stop_session(&id, Orphans::default()).await.unwrap();
    (output, after.probes - before.probes, after.acknowledgements - before.acknowledgements)
}

#[tokio::test]
async fn forty_megabytes_in_messages_of_any_size_wait_for_no_timer() {
    let host = host().await;
    for size in [1 << 10, 64 << 10, 280 << 10, 1 << 20, 7 << 20] {
        let (output, probes, received) = record_turn(&host, size).await;
        // The core puts 64 MiB of a turn on record, and counts both the text and the message that it came in.
        assert!(output >= RECORDED - size, "messages of {size}: {output} bytes are on record");
        // A worker that waits for an acknowledgement is silent, and who is silent is probed: that is what would free it.
        assert_eq!(probes, 0, "messages of {size}: the worker was silent in the middle of its turn");
        // It never kept more than its bound and one message.
        let most = u64::try_from(flow::KEPT + 3 * size).unwrap();
        assert!(received >= output as u64 / most, "messages of {size}: told only {received} times");
    }
}
