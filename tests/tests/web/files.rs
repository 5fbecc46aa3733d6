//! Files of the page: for everybody, with all headers.

use super::*;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
    font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types dompurify";

/// The paths that the files of a directory have on the port.
fn paths(directory: &std::path::Path, prefix: &str, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        match entry.path().extension().and_then(|end| end.to_str()) {
            _ if entry.path().is_dir() => paths(&entry.path(), &format!("{name}/"), into),
            Some("html" | "js" | "css" | "svg" | "webmanifest") => into.push(name),
            _ => {}
        }
    }
}

#[test]
fn every_file_has_its_headers_and_needs_no_key() {
    let daemon = Daemon::new();
    let (_, address) = link(&daemon, &[]);
    let mut all = vec!["/".to_owned()];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("manager/page");
    paths(&root, "/page/", &mut all);
    assert!(all.len() >= 5, "{all:?}");
    for path in &all {
        let answer = get(address, path, "");
        assert_eq!(answer.status, 200, "{path}");
        for (name, value) in [
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let kind = match path.rsplit_once('.').map_or("html", |(_, end)| end) {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "webmanifest" => "application/manifest+json",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.header("permissions-policy").is_some() && answer.header("set-cookie").is_none());
        let file = if path == "/" { "index.html" } else { path.strip_prefix("/page/").unwrap() };
        assert_eq!(answer.body, std::fs::read_to_string(root.join(file)).unwrap(), "{path}");
        let tag = format!("If-None-Match: {}\r\n", answer.header("etag").unwrap());
        let known = get(address, path, &tag);
        assert!(known.status == 304 && known.body.is_empty(), "{known:?}");
    }
    for path in
        ["/page/", "/page/../Cargo.toml", "/page/%2e%2e/Cargo.toml", "/page/lib/package.json", "/favicon.ico"]
    {
        assert_eq!(get(address, path, "").problem(), (404, "no_such_route".into()), "{path}");
    }
    assert_eq!(ask(address, ("POST", "/"), "", &json!({})).problem(), (405, "method_not_allowed".into()));
    // Answers of the API are kept by no browser, and are taken for nothing else.
    let answer = Browser::new(&daemon, &[]).get("/v1/sessions");
    assert_eq!(
        (answer.header("cache-control"), answer.header("x-content-type-options")),
        (Some("no-store"), Some("nosniff"))
    );
}
