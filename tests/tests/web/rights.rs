//! Rights of a browser: both halves of its key, from kennel's own page, and no more than the key may.

use super::*;

#[test]
fn a_cookie_alone_and_a_proof_alone_show_nothing() {
    let daemon = Daemon::new();
    let (one, other) = (Browser::new(&daemon, &[]), Browser::new(&daemon, &[]));
    let half = one.cookie.split_once('=').unwrap().1;
    let cookie = format!("Cookie: {}\r\n", one.cookie);
    let proof = format!("Kennel-Page: {}\r\n", one.proof);
    for (headers, code) in [
        (String::new(), "key_needed"),
        (cookie.clone(), "key_needed"),
        (proof.clone(), "key_needed"),
        (format!("{cookie}Kennel-Page: \r\n"), "key_needed"),
        (format!("{cookie}{proof}{proof}"), "key_needed"),
        (format!("Cookie: kennel-1={half}\r\n{proof}"), "key_needed"),
        (format!("{cookie}Kennel-Page: {}\r\n", other.proof), "bad_key"),
        // Whoever sees a half has no key.
        (format!("Authorization: Bearer kk_{half}\r\n"), "bad_key"),
        (format!("Authorization: Bearer kk_{}\r\n", one.proof), "bad_key"),
    ] {
        let answer = get(one.address, "/v1/web/me", &headers);
        assert_eq!(answer.problem(), (401, code.into()), "{headers}");
    }
    assert_eq!(get(one.address, "/v1/web/me", &format!("{cookie}{proof}")).status, 200);
    // On the daemon's socket a cookie is nothing, and there are no log-ins.
    let socket = |what: &str, headers: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
        let asks = format!("{what} HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(asks.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    };
    assert!(socket("GET /v1/web/me", &format!("{cookie}{proof}")).ends_with("{\"key\":null}"));
    assert!(socket("POST /v1/web/logout", "").contains("no_page"));
    assert!(socket("GET /", "").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_second_cookie_of_the_same_name_ends_no_log_in() {
    let daemon = Daemon::new();
    let (browser, other) = (Browser::new(&daemon, &[]), Browser::new(&daemon, &[]));
    let proof = format!("Kennel-Page: {}\r\n", browser.proof);
    let asks = |cookies: &[&str]| {
        let headers = format!("Cookie: {}\r\n{proof}", cookies.join("; "));
        get(browser.address, "/v1/web/me", &headers)
    };
    // Another port of the host sets them, for longer paths. The good half of another browser is as wrong as any.
    let (own, foreign) = (&*browser.cookie, &*other.cookie);
    let garbage = format!("kennel-{}=x", browser.address.port());
    for cookies in [
        &[own][..],
        &[own, own],
        &[foreign, own],
        &[own, foreign],
        &[&garbage, own],
        &[foreign, foreign, foreign, foreign, foreign, own],
    ] {
        let answer = asks(cookies);
        assert_eq!(answer.status, 200, "{cookies:?}: {answer:?}");
        assert_eq!(answer.json()["key"], browser.key, "{cookies:?}");
    }
    assert_eq!(asks(&[foreign, foreign]).problem(), (401, "bad_key".into()));
}

#[test]
fn another_site_reaches_nothing_with_all_that_a_browser_would_send() {
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    let (address, port) = (browser.address, browser.address.port());
    let whole = format!("Cookie: {}\r\nKennel-Page: {}\r\n", browser.cookie, browser.proof);
    let with = |more: &str| format!("{whole}{more}\r\n");
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        &format!("https://{address}"),
        "http://127.0.0.1",
    ] {
        let foreign = with(&format!("Origin: {origin}"));
        assert_eq!(
            get(address, "/v1/sessions", &foreign).problem(),
            (403, "origin_refused".into()),
            "{origin}"
        );
        assert_eq!(get(address, "/", &foreign).problem(), (403, "origin_refused".into()), "{origin}");
        let preflight = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        let answer = ask(address, ("OPTIONS", "/v1/sessions"), &preflight, &Value::Null);
        assert!(answer.status == 403 && !answer.head.contains("access-control"), "{answer:?}");
        let login = ask(address, ("POST", "/v1/web/login"), &foreign, &json!({ "ticket": "x" }));
        assert_eq!(login.problem(), (403, "origin_refused".into()));
    }
    for site in ["cross-site", "same-site"] {
        let foreign = with(&format!("Sec-Fetch-Site: {site}"));
        assert_eq!(
            get(address, "/v1/sessions", &foreign).problem(),
            (403, "origin_refused".into()),
            "{site}"
        );
        assert_eq!(get(address, "/", &foreign).status, 200, "a link may lead to the page");
    }
    let hosts = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("{}", address.ip()),
        format!("127.0.0.2:{port}"),
    ];
    for host in hosts {
        for path in ["/v1/sessions", "/", "/page/style.css"] {
            let rebound = with(&format!("Host: {host}"));
            assert_eq!(get(address, path, &rebound).problem(), (421, "wrong_host".into()), "{host} {path}");
        }
    }
    // A tunnel of `ssh -L` ends at this name.
    let tunnel = with(&format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}"));
    assert_eq!(get(address, "/v1/sessions", &tunnel).status, 200);
    // A WebSocket has the cookie, and no header of the page.
    let socket = format!(
        "Cookie: {}\r\nOrigin: http://{address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        browser.cookie
    );
    let asks =
        request(address, ("GET", "/v1/acp"), &socket, &Value::Null).replacen("Connection: close\r\n", "", 1);
    let mut stream = tcp(address);
    stream.write_all(asks.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
    let events = daemon.ok(&["--json", "events"]);
    assert!(
        events.contains("\"web_page\"") && events.contains("\"host\"") && !events.contains("evil.example"),
        "{events}"
    );
}

#[test]
fn a_browser_may_what_its_link_says() {
    let daemon = Daemon::new();
    for id in ["mine", "other"] {
        daemon.ok(&["start", "--id", id]);
    }
    let prompt = json!({ "text": "true" });
    let viewer = Browser::new(&daemon, &["--role", "viewer"]);
    assert_eq!(viewer.get("/v1/sessions").json().as_array().unwrap().len(), 2);
    assert_eq!(viewer.ask("POST", "/v1/sessions/mine/prompts", &prompt).problem(), (403, "forbidden".into()));
    let some = Browser::new(&daemon, &["--session", "mine", "--name", "phone"]);
    assert_eq!(some.key["name"], "phone");
    assert_eq!(some.ask("POST", "/v1/sessions/mine/prompts", &prompt).status, 202);
    assert_eq!(some.get("/v1/sessions/other").problem(), (404, "no_such_session".into()));
    for (method, path) in
        [("POST", "/v1/web"), ("DELETE", "/v1/web"), ("GET", "/v1/keys"), ("DELETE", "/v1/sessions/mine")]
    {
        let body = if path == "/v1/web" && method == "POST" {
            json!({ "role": "admin", "sessions": "all" })
        } else {
            Value::Null
        };
        assert_eq!(some.ask(method, path, &body).problem(), (403, "forbidden".into()), "{method} {path}");
    }
    let admin = Browser::new(&daemon, &["--role", "admin"]);
    assert_eq!(admin.get("/v1/keys").json().as_array().unwrap().len(), 3);
    // An agent makes no link.
    let said = daemon.run(&["send", "mine", &format!("{} web --print", kennel().display())]);
    assert!(!said.stdout.contains("/#") && format!("{said:?}").contains("agent"), "{said:?}");
}

#[test]
fn another_user_of_the_machine_has_nothing_without_a_key() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tried: only root can be another user");
        return;
    }
    let daemon = Daemon::new();
    let browser = Browser::new(&daemon, &[]);
    let asks = |path: &str, args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65533", "--regid", "65533", "--clear-groups", "curl", "-s", "-m", "20"]);
        command.args(args).arg(format!("http://{}{path}", browser.address));
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        harness::daemon::finish(command.spawn().unwrap()).stdout
    };
    assert!(asks("/", &[]).contains("<!doctype html>"));
    for path in ["/v1/sessions", "/v1/events", "/metrics", "/healthz", "/v1/web/me"] {
        assert!(asks(path, &[]).contains("\"key_needed\""), "{path}");
    }
    let posts = ["-H", "content-type: application/json", "-d", "{\"role\":\"admin\",\"sessions\":\"all\"}"];
    assert!(asks("/v1/web", &posts).contains("\"key_needed\""));
    // It owns no file that leads there.
    for file in ["web", "keys.json"] {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            std::fs::metadata(daemon.dir.path().join("state").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}
