//! Files of the web page, as this program has them. They are public: what needs a key is the API.

use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::super::problem::ApiError;

/// A file: its path below `manager/page/`, and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/page/", $path)))),*]
    };
}

/// All files that are served. A test compares them with the directory.
const FILES: &[File] = &files![
    "app/api.js",
    "app/conversation.js",
    "app/diff.js",
    "app/files.js",
    "app/form.js",
    "app/history.js",
    "app/html.js",
    "app/items.js",
    "app/list.js",
    "app/live.js",
    "app/login.js",
    "app/main.js",
    "app/markdown.js",
    "app/new.js",
    "app/parts.js",
    "app/permission.js",
    "app/prompt.js",
    "app/search.js",
    "app/session.js",
    "app/settings.js",
    "app/still.js",
    "app/store.js",
    "app/text.js",
    "app/timeline.js",
    "app/told.js",
    "app/tool.js",
    "icon.png",
    "icon.svg",
    "index.html",
    "lib/LICENSE-dompurify",
    "lib/LICENSE-htm",
    "lib/LICENSE-marked",
    "lib/LICENSE-preact",
    "lib/htm.js",
    "lib/marked.js",
    "lib/preact.js",
    "lib/purify.js",
    "manifest.webmanifest",
    "style.css",
    "talk.css",
];

/// The file at `/`.
const INDEX: &str = "index.html";
/// Nothing but the page's own files and the daemon's own answers, and no text becomes a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
    font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types dompurify";

/// Headers of each file, beside its type and tag.
const HEADERS: [(&str, &str); 9] = [
    // Each file is asked for again, and sent only if another kennel has another one.
    ("cache-control", "no-cache"),
    ("content-security-policy", POLICY),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// The type of a file, by the end of its name.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        // What a program has of others, it has with its licence.
        _ if path.starts_with("lib/LICENSE-") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The path of a file that a request means; none if the request is for the API. A file need not exist.
pub fn path(uri: &str) -> Option<&str> {
    match uri {
        "/" => Some(INDEX),
        // Browsers look for it by themselves.
        "/favicon.ico" => Some("favicon.ico"),
        _ => uri.strip_prefix("/page/"),
    }
}

/// Answers a request for a file.
pub fn answer<B>(request: &Request<B>, path: &str) -> Response<Body> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let detail = "a file of the page is read with `GET`; nothing was changed";
        return ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).into_response();
    }
    let Some(at) = FILES.iter().position(|(own, _)| *own == path) else {
        let detail = "the page has no such file";
        return ApiError::new(StatusCode::NOT_FOUND, "no_such_route", detail).into_response();
    };
    let (_, bytes) = FILES[at];
    let tag = &tags()[at];
    let is_known = knows(request.headers(), tag);
    let body = if is_known { Body::empty() } else { Body::from(Bytes::from_static(bytes)) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(path)));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

/// Returns true if the client has the file with this tag.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The tags of all files, in their order.
fn tags() -> &'static [String] {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tag = |(_, bytes): &File| format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..12]));
    TAGS.get_or_init(|| FILES.iter().map(tag).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Files in a directory and below that browsers ask for. Texts for npm are none.
    fn listed(directory: &Path, root: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                listed(&path, root, into);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if kind(&name) != "application/octet-stream" {
                into.push(name);
            }
        }
    }

    #[test]
    fn the_files_are_those_of_the_directory_in_order() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut found = Vec::new();
        listed(&root, &root, &mut found);
        found.sort();
        let served: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(served, found);
        assert!(served.contains(&INDEX));
    }

    #[test]
    fn a_file_is_whole_or_known_and_has_all_headers() {
        let request =
            |path: &str, tag: &str| Request::get(path).header(header::IF_NONE_MATCH, tag).body(()).unwrap();
        for (name, bytes) in FILES {
            let first = answer(&request(&format!("/page/{name}"), "\"x\""), name);
            assert_eq!(first.status(), 200, "{name}");
            let length = axum::body::HttpBody::size_hint(first.body()).exact();
            assert_eq!(length, Some(bytes.len() as u64), "{name}");
            for (header, value) in HEADERS {
                assert_eq!(first.headers()[header], value, "{name}");
            }
            assert_ne!(first.headers()[header::CONTENT_TYPE], "application/octet-stream", "{name}");
            let tag = first.headers()[header::ETAG].to_str().unwrap();
            for known in [tag, "*", &format!("\"a\", W/{tag}")] {
                assert_eq!(answer(&request("/page/x", known), name).status(), 304, "{name} {known}");
            }
        }
        for wrong in ["", "../Cargo.toml", "/etc/passwd", "app", "app/", "INDEX.HTML"] {
            assert_eq!(answer(&request("/page/x", ""), wrong).status(), 404, "{wrong}");
        }
        let post = Request::post("/page/index.html").body(()).unwrap();
        assert_eq!(answer(&post, INDEX).status(), 405);
    }

    #[test]
    fn only_these_paths_are_files() {
        assert_eq!(path("/"), Some("index.html"));
        assert_eq!(path("/page/app/main.js"), Some("app/main.js"));
        for other in ["", "/v1/sessions", "/page", "/pages/x", "//", "/healthz", "page/x"] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
