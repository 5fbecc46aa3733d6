//! The certificate, those of clients, and the port over restarts.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::daemon::Daemon;
use harness::real::*;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::{
    address, answer_to, client, configure, connect, daemon, fingerprint, get, listening, refused, rest,
    session, status, tcp, tls_over,
};

/// A certificate and its key, in files that the daemon can be told of.
fn write(dir: &Path, until: i32) {
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::new(vec!["box.example".to_owned()]).unwrap();
    wanted.not_after = rcgen::date_time_ymd(until, 1, 1);
    let made = wanted.self_signed(&key).unwrap();
    for (name, label, der) in [
        ("key.pem", "PRIVATE KEY", key.serialize_der()),
        ("certificate.pem", "CERTIFICATE", made.der().to_vec()),
    ] {
        pem(&dir.join(name), label, &der);
    }
}

fn pem(path: &Path, label: &str, der: &[u8]) {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    std::fs::write(path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn files(daemon: &Daemon) -> String {
    let path = |name: &str| daemon.dir.path().join(name).display().to_string();
    format!(
        "tcp = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"",
        path("certificate.pem"),
        path("key.pem")
    )
}

fn doctor(daemon: &Daemon) -> Value {
    let output = daemon.run(&["doctor", "--json"]);
    let all: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    all.into_iter().find(|finding| finding["name"] == "TLS port").expect("a finding")
}

#[test]
fn the_port_comes_back_with_its_certificate_after_each_end_of_the_daemon() {
    let daemon = Daemon::new();
    // A port that nobody else takes meanwhile, most likely.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&daemon, &format!("tcp = [\"127.0.0.1:{port}\"]"), "");
    daemon.ok(&["daemon", "start"]);
    let bearer = session(&daemon);
    let first = fingerprint(address(&daemon));
    let file = daemon.dir.path().join("state/tls.pem");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(listening(&daemon).fingerprint.as_ref(), Some(&first));
    let comes_back = |how: &str| {
        // With the port still held by a connection that has rested.
        let mut held = connect(address(&daemon));
        write!(held, "GET /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n").unwrap();
        super::read_until(&mut held, "\r\n\r\n");
        match how {
            "restart" => drop(daemon.ok(&["daemon", "restart"])),
            "SIGTERM" => {
                let pid = daemon.pid();
                signal(pid, Signal::SIGTERM);
                until("the daemon's end", || (!lives(pid)).then_some(()));
            }
            _ => drop(daemon.kill()),
        }
        daemon.ok(&["daemon", "start"]);
        assert_eq!(address(&daemon).port(), port, "{how}");
        assert_eq!(fingerprint(address(&daemon)), first, "{how}");
        assert_eq!(status(&answer_to(address(&daemon), &get("/v1/sessions/s", &bearer))), 200, "{how}");
    };
    ["restart", "SIGTERM", "SIGKILL"].into_iter().for_each(comes_back);
    assert_eq!(doctor(&daemon)["health"], "ok");
}

#[test]
fn a_port_that_cannot_be_had_is_said_and_keeps_nobody_from_the_socket() {
    let daemon = Daemon::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    configure(
        &daemon,
        &format!("tcp = [\"{}\", \"{free}\", \"192.0.2.1:1\"]", taken.local_addr().unwrap()),
        "",
    );
    // At once, and with what to do.
    let started = daemon.run(&["daemon", "start"]);
    let in_use = format!("cannot listen on {}: another program has it", taken.local_addr().unwrap());
    let down = "no interface of this machine has 192.0.2.1 now";
    for says in [&*in_use, down, "kennel daemon restart"] {
        assert!(started.code == Some(0) && started.stderr.contains(says), "{says}: {started:#?}");
    }
    let found = doctor(&daemon);
    assert!(found["health"] == "problem" && found["found"].to_string().contains(&in_use), "{found}");
    let paired = daemon.run(&["pair", "--no-wait"]);
    assert!(paired.stderr.contains(&in_use) && !paired.stdout.contains("192.0.2.1"), "{paired:#?}");
    daemon.ok(&["start", "--id", "s"]);
    assert_eq!(address(&daemon), free);
    let problem = until("it is given up", || {
        let problem = listening(&daemon).problem.unwrap_or_default();
        (!problem.contains("tried again")).then_some(problem)
    });
    assert!(problem.contains(&in_use) && problem.contains(down), "{problem}");
    let found = doctor(&daemon);
    assert_eq!(found["health"], "problem", "{found}");
    daemon.idle("s");
}

#[test]
fn what_cannot_be_used_at_the_start_is_said_and_used_once_it_is_mended() {
    let daemon = Daemon::new();
    configure(&daemon, &files(&daemon), "");
    let started = daemon.run(&["daemon", "start"]);
    assert!(started.code == Some(0) && started.stderr.contains("the port takes nobody"), "{started:#?}");
    let paired = daemon.run(&["pair"]);
    assert!(paired.code == Some(1) && paired.stderr.contains("certificate.pem"), "{paired:#?}");
    let address = address(&daemon);
    // Nobody is let in, and nothing hangs.
    assert_eq!(rest(&mut tls_over(tcp(address), client(&["http/1.1"], None))), "");
    write(daemon.dir.path(), 3000);
    let info = until("it is read again", || Some(listening(&daemon)).filter(|info| info.problem.is_none()));
    assert_eq!(info.fingerprint, Some(fingerprint(address)));
    // A wrong line is said by whatever starts the daemon.
    configure(&daemon, "tcp = \"nonsense\"", "");
    for command in [&["daemon", "restart"][..], &["pair"]] {
        let output = daemon.run(command);
        assert!(output.stderr.contains("a wrong configuration opens no port"), "{output:#?}");
    }
}

#[test]
fn a_certificate_that_changes_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let daemon = Daemon::new();
    write(daemon.dir.path(), 3000);
    configure(&daemon, &files(&daemon), "");
    daemon.ok(&["daemon", "start"]);
    let address = address(&daemon);
    let first = fingerprint(address);
    assert_eq!(listening(&daemon).fingerprint, Some(first.clone()));
    // A connection that is there goes on with the old one.
    let bearer = session(&daemon);
    let mut old = connect(address);
    write!(old, "GET /v1/sessions/s HTTP/1.1\r\nHost: box.example\r\n{bearer}\r\n").unwrap();
    super::read_until(&mut old, "\"id\":\"s\"");
    std::fs::write(daemon.dir.path().join("certificate.pem"), "broken").unwrap();
    until("the broken one is noticed", || listening(&daemon).problem);
    assert_eq!(fingerprint(address), first);
    assert_eq!(doctor(&daemon)["health"], "problem");
    write(daemon.dir.path(), 2999);
    let second = until("the new one", || Some(fingerprint(address)).filter(|shown| *shown != first));
    let info = listening(&daemon);
    assert_eq!((info.fingerprint, info.problem), (Some(second), None));
    write!(old, "{}", get("/v1/sessions/s", &bearer)).unwrap();
    assert!(rest(&mut old).contains("200 OK"));
    // One that has expired is shown, and said.
    write(daemon.dir.path(), 2020);
    let said = until("the expiry", || listening(&daemon).problem);
    assert!(said.contains("expired"), "{said}");
    assert_eq!(doctor(&daemon)["health"], "problem");
}

#[test]
fn with_a_ca_for_clients_only_theirs_get_as_far_as_a_request() {
    let daemon = Daemon::new();
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = ca.self_signed(&key).unwrap();
    let path = daemon.dir.path().join("ca.pem");
    pem(&path, "CERTIFICATE", made.der());
    let issuer = Issuer::new(ca, key);
    configure(&daemon, &format!("tcp = \"127.0.0.1:0\"\nclient_ca = \"{}\"", path.display()), "");
    daemon.ok(&["daemon", "start"]);
    let bearer = session(&daemon);
    let shows = |signed: bool, until: i32| -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::new(vec!["laptop".to_owned()]).unwrap();
        wanted.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        wanted.not_after = rcgen::date_time_ymd(until, 1, 1);
        let made = match signed {
            true => wanted.signed_by(&key, &issuer).unwrap(),
            false => wanted.self_signed(&key).unwrap(),
        };
        (made.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let ask = |shows| {
        let mut tls = tls_over(tcp(address(&daemon)), client(&["http/1.1"], shows));
        // Without a certificate that counts an alert comes instead of an answer.
        let _ = tls.write_all(get("/v1/sessions/s", &bearer).as_bytes());
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut tls, &mut answer).map(|_| answer)
    };
    for wrong in [None, Some(shows(false, 3000)), Some(shows(true, 2020))] {
        let answer = ask(wrong);
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(refused(&daemon, "handshake"), 3);
    assert_eq!(status(&ask(Some(shows(true, 3000))).unwrap()), 200);
    let without = tls_over(tcp(address(&daemon)), client(&["http/1.1"], Some(shows(true, 3000))));
    let mut without = without;
    without.write_all(get("/v1/sessions/s", "").as_bytes()).unwrap();
    assert_eq!(status(&rest(&mut without)), 401, "a certificate is no key");
}

#[test]
fn nothing_is_left_open_of_a_client_that_has_gone() {
    let daemon = daemon("", "");
    let bearer = session(&daemon);
    let pid = daemon.pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    let attach = format!("GET /v1/sessions/s/attach?role=driver HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
    let wait = format!(
        "GET /v1/sessions/s/wait?until=stopped&timeout_ms=600000 HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n"
    );
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut waits = connect(address(&daemon));
        waits.write_all(wait.as_bytes()).unwrap();
        clients.push(waits);
    }
    let mut drives = connect(address(&daemon));
    drives.write_all(attach.as_bytes()).unwrap();
    super::read_until(&mut drives, "event: attached");
    assert_eq!(daemon.show("s").clients.len(), 1);
    until("all are served", || (open() >= before + 33).then_some(()));
    drop((clients, drives));
    until("nobody drives", || daemon.show("s").clients.is_empty().then_some(()));
    until("their descriptors are closed", || (open() <= before).then_some(()));
}
