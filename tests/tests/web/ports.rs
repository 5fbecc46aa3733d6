//! The port on loopback: opened when asked, kept by the state directory, closed when asked; at rest nothing wakes.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

#[test]
fn nothing_listens_until_somebody_asks_and_a_tab_goes_on_with_the_next_daemons() {
    let daemon = Daemon::new();
    daemon.ok(&["daemon", "start"]);
    assert_eq!(page(&daemon), None);
    let browser = Browser::new(&daemon, &[]);
    let origin = format!("http://{}", browser.address);
    assert_eq!(page(&daemon).unwrap().origin, origin);
    for round in 0..3 {
        let stream = browser.stream();
        match round {
            0 => {
                daemon.ok(&["daemon", "restart"]);
            }
            1 => {
                daemon.ok(&["daemon", "stop"]);
                daemon.ok(&["daemon", "start"]);
            }
            _ => {
                daemon.kill();
                daemon.ok(&["ls"]);
            }
        }
        ends(stream);
        let found = until("the page", || page(&daemon).filter(|page| page.problem.is_none()));
        assert_eq!(found.origin, origin);
        assert_eq!(browser.get("/v1/web/me").json()["key"], browser.key, "round {round}");
    }
    assert!(daemon.ok(&["daemon", "status"]).contains(&origin));
    assert!(daemon.ok(&["doctor"]).contains(&origin));
    // Another link leads to the same page.
    assert_eq!(link(&daemon, &[]).1, browser.address);
}

#[test]
fn no_other_program_gets_the_address_while_the_daemon_is_restarted_or_upgraded() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    let (address, over) = (browser.address, Arc::new(AtomicBool::new(false)));
    let thief = std::thread::spawn({
        let over = over.clone();
        move || {
            let mut tries = 0_u64;
            while !over.load(Ordering::Relaxed) {
                // It would be answered by whatever it asks: the tab sends both halves of its key.
                if let Ok(stolen) = TcpListener::bind(address) {
                    return Err(stolen);
                }
                tries += 1;
                std::thread::yield_now();
            }
            Ok(tries)
        }
    });
    for command in ["restart", "upgrade", "restart"] {
        daemon.ok(&["daemon", command]);
        assert_eq!(browser.get("/v1/web/me").json()["key"], browser.key, "{command}");
        assert_eq!(page(&daemon).unwrap().problem, None);
    }
    over.store(true, Ordering::Relaxed);
    let tries = thief.join().unwrap().expect("the address was free for a moment");
    // Thousands where the machine is quiet.
    assert!(tries > 30, "{tries}");
    // Nothing of a command stays that would keep the address from its owner.
    assert!(!daemon.dir.path().join("state/web.sock").exists());
    daemon.ok(&["web", "--stop"]);
    TcpListener::bind(address).unwrap();
}

#[test]
fn an_address_that_is_taken_is_told_and_not_exchanged_for_another() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    daemon.ok(&["daemon", "stop"]);
    let thief = TcpListener::bind(browser.address).unwrap();
    daemon.ok(&["daemon", "start"]);
    let told = page(&daemon).unwrap();
    assert_eq!(told.origin, format!("http://{}", browser.address));
    assert!(told.problem.unwrap().contains("another program has"));
    assert!(daemon.ok(&["daemon", "status"]).contains("another program has"));
    let doctor = daemon.run(&["doctor"]);
    assert!(
        doctor.code == Some(1) && doctor.stdout.contains("is not served: another program has"),
        "{doctor:?}"
    );
    let refused = daemon.run(&["web", "--print"]);
    assert!(refused.code == Some(7) && refused.stderr.contains("another program has"), "{refused:?}");
    drop(thief);
    // At once, whether the daemon has tried again by itself or not.
    assert_eq!(link(&daemon, &[]).1, browser.address);
    assert_eq!(page(&daemon).unwrap().problem, None);
    assert_eq!(browser.get("/v1/web/me").status, 200);
}

#[test]
fn stop_closes_the_port_ends_what_is_open_and_forgets_the_address() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    let stream = browser.stream();
    let idle = tcp(browser.address);
    let said = daemon.run(&["web", "--stop"]);
    assert!(
        said.code == Some(0) && said.stderr.contains("port is closed; keys of browsers stay"),
        "{said:?}"
    );
    let again = daemon.run(&["web", "--stop"]);
    assert!(again.code == Some(0) && again.stderr.contains("no port of the page was open"), "{again:?}");
    assert!(TcpStream::connect(browser.address).is_err());
    ends(stream);
    ends(idle);
    assert_eq!(page(&daemon), None);
    assert!(!daemon.dir.path().join("state/web").exists());
    daemon.ok(&["daemon", "restart"]);
    assert_eq!(page(&daemon), None);
    assert!(TcpStream::connect(browser.address).is_err());
    assert_eq!(keys(&daemon).len(), 1);
    daemon.ok(&["web", "--stop"]);
    // Through the port itself, too: who closes it is answered.
    let admin = Browser::new(&daemon, &["--role", "admin"]);
    assert_eq!(admin.ask("DELETE", "/v1/web", &Value::Null).status, 204);
    assert!(TcpStream::connect(admin.address).is_err());
}

#[test]
fn a_file_that_names_another_machines_address_opens_nothing() {
    let daemon = Daemon::new();
    daemon.ok(&["daemon", "start"]);
    daemon.ok(&["daemon", "stop"]);
    let file = daemon.dir.path().join("state/web");
    std::fs::write(&file, "0.0.0.0:4711\n").unwrap();
    daemon.ok(&["daemon", "start"]);
    assert_eq!(page(&daemon), None);
    let refused = daemon.run(&["web", "--print"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("no address of loopback"), "{refused:?}");
    daemon.ok(&["web", "--stop"]);
    link(&daemon, &[]);
}

#[test]
fn a_port_without_clients_wakes_nobody() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    assert_eq!(browser.get("/v1/sessions").status, 200);
    let pid = daemon.pid();
    until("a while in which nothing wakes", || {
        let before = switches(pid);
        std::thread::park_timeout(Duration::from_millis(1500));
        (switches(pid) == before).then_some(())
    });
}

/// The times that threads of a process have slept so far.
fn switches(pid: u32) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((task.file_name().to_string_lossy().into_owned(), count.trim().to_owned()))
        })
        .collect();
    all.sort();
    all
}
