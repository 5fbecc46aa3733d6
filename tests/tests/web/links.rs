//! Links: one browser, once; no secret where others look.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_link_logs_one_browser_in_once_and_its_key_is_a_key_like_others() {
    let daemon = Daemon::new();
    let (link, address) = link(&daemon, &["--role", "viewer", "--expires", "7d"]);
    assert!(address.ip().is_loopback() && address.ip().to_string() != "127.0.0.1", "{address}");
    let ticket = json!({ "ticket": link.ticket });
    let browser = Browser::with(address, &ticket).unwrap();
    assert_eq!(
        (&browser.key["role"], &browser.key["name"]),
        (&json!("viewer"), &json!("browser: Firefox on Linux"))
    );
    assert_eq!(browser.get("/v1/web/me").json()["key"], browser.key);
    let again = Browser::with(address, &ticket).map(drop).unwrap_err();
    assert_eq!(again.problem(), (401, "bad_ticket".into()));
    assert!(!again.body.contains(&link.ticket), "{again:?}");

    let listed = keys(&daemon);
    assert_eq!(listed.len(), 1);
    assert!(listed[0].browser && listed[0].expires_at == Some(link.key_expires_at), "{listed:?}");
    assert_eq!(listed[0].last_used_from.as_deref(), Some("127.0.0.1"));
    // It ends like others, with what it has open.
    let stream = browser.stream();
    daemon.ok(&["key", "revoke", &listed[0].id.to_string()]);
    ends(stream);
    assert_eq!(browser.get("/v1/web/me").problem(), (401, "bad_key".into()));
}

#[test]
fn a_new_daemon_knows_no_link_and_a_link_of_a_revoked_key_is_none() {
    let daemon = Daemon::new();
    let (lost, address) = link(&daemon, &[]);
    daemon.ok(&["daemon", "restart"]);
    let refused = Browser::with(address, &json!({ "ticket": lost.ticket })).map(drop).unwrap_err();
    assert_eq!(refused.problem(), (401, "bad_ticket".into()));

    let admin = daemon.ok(&["key", "create", "admin", "--role", "admin", "--expires", "1h"]);
    let bearer = format!("Authorization: Bearer {}\r\n", admin.trim());
    let wish = json!({ "role": "driver", "sessions": "all" });
    let made = ask(address, ("POST", "/v1/web"), &bearer, &wish);
    assert_eq!(made.status, 201, "{made:?}");
    // The browser's key ends with its maker's, at the latest.
    assert_eq!(made.json()["key_expires_at"], json!(keys(&daemon)[0].expires_at));
    let late = json!({ "role": "driver", "sessions": "all", "expires_at": "2999-01-01T00:00:00Z" });
    assert_eq!(ask(address, ("POST", "/v1/web"), &bearer, &late).problem(), (403, "key_outlasts".into()));
    daemon.ok(&["key", "revoke", "key-1"]);
    let refused = Browser::with(address, &json!({ "ticket": made.json()["ticket"] })).map(drop).unwrap_err();
    assert_eq!(refused.problem(), (401, "bad_ticket".into()));
    assert!(keys(&daemon).is_empty());
}

#[test]
fn a_person_logs_in_with_a_key_and_out_again() {
    let daemon = Daemon::new();
    let (_, address) = link(&daemon, &[]);
    let key = daemon.ok(&["key", "create", "mine", "--role", "admin"]);
    let typed = Browser::with(address, &json!({ "key": key.trim() })).unwrap();
    assert_eq!(typed.key["id"], "key-1");
    assert_eq!(typed.get("/v1/keys").status, 200);
    let out = typed.ask("POST", "/v1/web/logout", &Value::Null);
    assert_eq!(out.status, 204, "{out:?}");
    assert!(out.header("set-cookie").unwrap().contains("=; Path=/; Max-Age=0;"), "{out:?}");
    assert_eq!(keys(&daemon).len(), 1, "the key is the person's own");

    // A link's key is the browser's, and ends with the log-in.
    let browser = Browser::new(&daemon, &[]);
    let stream = browser.stream();
    assert_eq!(browser.ask("POST", "/v1/web/logout", &Value::Null).status, 204);
    ends(stream);
    assert_eq!(browser.get("/v1/sessions").problem(), (401, "bad_key".into()));
    assert_eq!(keys(&daemon).len(), 1);

    for wrong in [
        json!({}),
        json!({ "key": key.trim(), "ticket": "x" }),
        json!({ "ticket": "" }),
        json!({ "ticket": "x".repeat(101) }),
    ] {
        let refused = Browser::with(address, &wrong).map(drop).unwrap_err();
        assert_eq!(refused.problem(), (400, "invalid_body".into()), "{wrong}");
    }
    daemon.ok(&["key", "revoke", "key-1"]);
    let refused = Browser::with(address, &json!({ "key": key.trim() })).map(drop).unwrap_err();
    assert_eq!(refused.problem(), (401, "bad_key".into()));
}

#[test]
fn wrong_log_ins_and_keys_of_strangers_are_counted_and_keep_nobody_out() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    let address = browser.address;
    // A page that shows nothing asks who it is: that is no guess.
    for _ in 0..12 {
        assert_eq!(get(address, "/v1/web/me", "").problem(), (401, "key_needed".into()));
    }
    let guess =
        |number: u32| Browser::with(address, &json!({ "ticket": format!("guess-{number}") })).map(drop);
    // All clients have one address here: a refusal by address would let any program of the machine lock the owner out.
    for number in 0..20 {
        assert_eq!(guess(number).unwrap_err().problem(), (401, "bad_ticket".into()));
    }
    // More than the TLS port looks at in a second.
    for number in 0..150 {
        let wrong = format!("Authorization: Bearer kk_{number:A>43}\r\n");
        assert_eq!(get(address, "/v1/sessions", &wrong).problem().0, 401);
    }
    assert_eq!(browser.get("/v1/sessions").status, 200, "a good key is let in");
    let (good, _) = link(&daemon, &[]);
    let late = Browser::with(address, &json!({ "ticket": good.ticket })).unwrap();
    assert_eq!(late.get("/v1/sessions").status, 200, "a good ticket is let in");
    let key = daemon.ok(&["key", "create", "mine", "--role", "admin"]);
    Browser::with(address, &json!({ "key": key.trim() })).unwrap();
    assert_eq!(get(address, "/", "").status, 200, "files are everybody's");
    let events = daemon.ok(&["--json", "events"]);
    assert!(events.contains("\"bad_secret\"") && !events.contains("guess"), "{events}");
}

/// Texts of the files that lead browsers to links.
fn leads(daemon: &Daemon) -> Vec<String> {
    let files = contents(&daemon.dir.path().join("state")).into_iter();
    let files = files.filter(|(path, _)| path.extension().is_some_and(|end| end == "html"));
    files.map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn a_log_in_removes_the_file_of_its_own_link_and_no_other() {
    let daemon = Daemon::new();
    // A browser that is slow to read its file.
    let web = || harness::daemon::finish(daemon.command(&["web"]).env("BROWSER", "true").spawn().unwrap());
    for _ in 0..2 {
        let shown = web();
        assert_eq!(shown.code, Some(0), "{shown:?}");
    }
    let files = leads(&daemon);
    assert_eq!(files.len(), 2, "{files:?}");
    // A link that a phone or another browser has from a terminal.
    Browser::new(&daemon, &[]);
    assert_eq!(leads(&daemon), files);
    let mut left = files.len();
    for file in files {
        let target = file.split("url=").nth(1).unwrap().split('"').next().unwrap();
        let (origin, ticket) = target.split_once("/#").unwrap();
        let address = origin.strip_prefix("http://").unwrap().parse().unwrap();
        Browser::with(address, &json!({ "ticket": ticket })).unwrap();
        left -= 1;
        assert_eq!(leads(&daemon).len(), left);
    }
}

#[test]
fn no_secret_is_in_arguments_logs_lists_or_errors() {
    let mut daemon = Daemon::new();
    let seen = daemon.dir.path().join("seen");
    let program = daemon.dir.path().join("browser");
    let script = format!("#!/bin/sh\necho \"$0 $@\" > {0}/args; cp -p \"$1\" {0}/file\n", seen.display());
    std::fs::create_dir(&seen).unwrap();
    harness::real::script(&program, &script);
    daemon.set("KENNEL_LOG", "debug");
    let web = |browser: &str| {
        harness::daemon::finish(daemon.command(&["web"]).env("BROWSER", browser).spawn().unwrap())
    };
    let shown = web(program.to_str().unwrap());
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let file = seen.join("file");
    let page = until("the browser has opened", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.ends_with("</a>\n"))
    });
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let target = page.split("url=").nth(1).unwrap().split('"').next().unwrap();
    let (origin, ticket) = target.split_once("/#").unwrap();
    let args = std::fs::read_to_string(seen.join("args")).unwrap();
    for text in [&args, &shown.stdout, &shown.stderr] {
        assert!(!text.contains(ticket), "{text}");
    }
    assert!(shown.stdout.contains(origin), "{shown:?}");

    let address = origin.strip_prefix("http://").unwrap().parse().unwrap();
    let browser = Browser::with(address, &json!({ "ticket": ticket })).unwrap();
    let half = browser.cookie.split_once('=').unwrap().1;
    assert_eq!(browser.get("/v1/sessions").status, 200);
    // The proof of another log-in.
    let wrong = format!("Cookie: {}\r\nKennel-Page: {}\r\n", browser.cookie, half);
    assert_eq!(get(address, "/v1/sessions", &wrong).problem(), (401, "bad_key".into()));
    let state_dir = daemon.dir.path().join("state");
    assert_eq!(leads(&daemon), [""; 0], "the log-in has removed it");
    let mut looked = 0;
    for (path, bytes) in contents(&state_dir) {
        let text = String::from_utf8_lossy(&bytes);
        for secret in [ticket, half, &browser.proof, "kk_"] {
            assert!(!text.contains(secret), "{}: {secret}", path.display());
        }
        looked += 1;
    }
    assert!(looked > 4, "{looked}");
    let listed = daemon.ok(&["--json", "key", "ls"])
        + &daemon.ok(&["--json", "events"])
        + &daemon.ok(&["--json", "daemon", "status"]);
    assert!([ticket, half, &browser.proof].iter().all(|secret| !listed.contains(secret)), "{listed}");

    // A program that opens nothing, and none.
    for browser in ["/bin/false", "/no/such/program"] {
        let shown = web(browser);
        assert!(
            shown.code == Some(0) && shown.stdout.starts_with("http://127.") && shown.stdout.contains("/#"),
            "{shown:?}"
        );
        assert_eq!(leads(&daemon), [""; 0]);
    }
}
