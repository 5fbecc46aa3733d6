//! Files and commands that an agent reaches through its worker.

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome};

use super::{completed, host, session};

#[tokio::test]
async fn files_and_commands_go_by_way_of_the_worker_and_reach_what_the_agents_own_shell_reaches() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let here = host.dir.path().canonicalize().unwrap();
    let here = here.display();
    assert_eq!(
        host.run(&id, &format!("write {here}/a.txt some words; read {here}/a.txt")).await,
        "writtensome words"
    );
    assert!(host.run(&id, "read /etc/passwd").await.contains("root:"));
    assert!(host.run(&id, "read none.txt").await.contains("Resource not found: none.txt"));
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("new/er.txt");
    assert_eq!(host.run(&id, &format!("write {} far", outside.display())).await, "written");
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "far");
    assert_eq!(host.run(&id, "run echo out && false").await, "out\n{\"exitCode\":1}");
    assert_eq!(host.run(&id, "run kill -9 $$").await, "{\"signal\":\"SIGKILL\"}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn commands_of_an_agent_end_with_its_session() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let file = host.dir.path().join("pid");
    host.send(&id, &format!("start touch {} && exec sleep 1001; sleep 60s", file.display())).await;
    let worker = host.pid(&id).await;
    let is_it = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001001\0")
    };
    let pid = until("the command", || below(worker).into_iter().find(is_it));
    assert!(lives(pid) && file.exists());
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    assert!(!lives(pid));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn commands_of_an_agent_end_with_the_turn_that_started_them_however_it_ends() {
    let host = host().await;
    let config = std::fs::read_to_string(host.config()).unwrap();
    let bare = config.replacen("[agents.plain]", "[agents.bare]\ncontainment = \"subreaper\"", 1);
    let bare = &bare[..bare.find("\n\n").unwrap() + 2];
    std::fs::write(host.config(), format!("{config}{bare}")).unwrap();
    for agent in ["plain", "bare"] {
        let id = session(&host, agent).await;
        let worker = host.pid(&id).await;
        let named = |seconds: u32| {
            let line = format!("sleep\0{seconds}\0");
            let is_it = |pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line.as_bytes())
            };
            below(worker).into_iter().filter(is_it).filter(|pid| lives(*pid)).count()
        };
        for (end, outcome, seconds) in [
            ("stop end_turn", Outcome::Completed, 2001),
            ("fail no", Outcome::Completed, 2002),
            ("sleep 60s", Outcome::Aborted, 2003),
        ] {
            // One that waits, one that its command leaves behind, and one that escapes.
            let all = format!("sleep {seconds} & (setsid sleep {seconds} &) ; exec sleep {seconds}");
            let left = format!("(setsid sleep {seconds} &) ; sleep {seconds} & true");
            // ';' separates the steps of the script.
            let [all, left] = [all, left].map(|line| line.replace(';', "\n"));
            let prompt = host.send(&id, &format!("start {all}; run {left}; say up; {end}")).await;
            let up = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { prompt_id, text, .. } if *prompt_id == prompt && text == "up");
            host.event(&id, "its commands", up).await;
            if outcome == Outcome::Aborted {
                until("its commands", || (named(seconds) == 3).then_some(()));
                host.manager.abort(&id).await.unwrap();
            }
            assert_eq!(completed(&host, &id, prompt).await.0, outcome, "{agent}");
            until("the end of its commands", || (named(seconds) == 0).then_some(()));
        }
        let info = host.manager.get_session(&id).await.unwrap();
        assert_eq!((info.incarnation, info.pid), (1, Some(worker)), "{agent}: the agent lives");
        let output = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("1 process"));
        host.event(&id, "what was left behind", output).await;
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_asks_without_reading_waits_and_its_worker_does_not_grow() {
    let host = host().await;
    let here = host.dir.path().to_owned();
    std::fs::write(here.join("big.txt"), "x".repeat(1 << 20)).unwrap();
    let id = session(&host, "plain").await;
    let info = host.manager.get_session(&id).await.unwrap();
    let (worker, agent) = (info.pid.unwrap(), info.agent_pid.unwrap());
    let prompt = host.send(&id, &format!("greedy 64 big.txt {}", here.join("go").display())).await;
    let stopped = move || {
        // The pipe to the agent is full, and the worker waits.
        let stdin = std::fs::File::open(format!("/proc/{agent}/fd/0")).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let full = rustix::io::ioctl_fionread(&stdin).unwrap() >= 64 * 1024 - 4096;
        (full && status.contains("State:\tS")).then_some(status)
    };
    let status = tokio::task::spawn_blocking(move || until("that the worker waits", stopped)).await.unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 32 * 1024, "the worker has taken {peak} KiB for an agent that reads nothing");
    std::fs::write(here.join("go"), "").unwrap();
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, format!("64 answers of {} bytes", 64 << 20));
    host.manager.shutdown().await;
}
