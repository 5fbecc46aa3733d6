//! The origin of a request that a web page has made: only kennel's own page may ask.

use axum::http::{HeaderMap, header};

use super::super::denied::web_page;
use super::super::problem::Answer;

/// Refuses a request of a web page of another origin than `own`. A browser names the origin in `Origin` where a page reads
/// the answer or sends something, and its relation in `Sec-Fetch-Site` (Fetch Metadata, W3C). A link or an address that a
/// person has typed may lead to a file of the page, from anywhere.
///
/// # Errors
/// 403 `origin_refused`.
pub fn check(headers: &HeaderMap, own: &str, is_file: bool) -> Answer<()> {
    let is_own = |origin: &str| origin.eq_ignore_ascii_case(own);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let foreign = origins.any(|origin| !origin.to_str().is_ok_and(is_own))
        || !is_file && sites.any(|site| site != "same-origin" && site != "none");
    if foreign { Err(web_page()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_in(lines: &[(&'static str, &str)], is_file: bool) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        check(&headers, "http://127.64.0.1:4711", is_file).is_ok()
    }

    #[test]
    fn only_the_page_itself_asks_and_anybody_may_link_to_it() {
        let own = ("origin", "http://127.64.0.1:4711");
        for lines in
            [&[][..], &[own], &[own, ("sec-fetch-site", "same-origin")], &[("sec-fetch-site", "none")]]
        {
            assert!(is_let_in(lines, false) && is_let_in(lines, true), "{lines:?}");
        }
        for origin in [
            "null",
            "http://127.64.0.1",
            "http://127.64.0.1:4712",
            "https://127.64.0.1:4711",
            "http://localhost:4711",
            "http://evil.example",
            "http://127.64.0.1:4711.evil.example",
            "",
        ] {
            let other = ("origin", origin);
            assert!(!is_let_in(&[other], false) && !is_let_in(&[other], true), "{origin}");
            assert!(!is_let_in(&[own, other], false), "one of two: {origin}");
        }
        for site in ["cross-site", "same-site", "x", ""] {
            let lines = [own, ("sec-fetch-site", site)];
            assert!(!is_let_in(&lines, false) && is_let_in(&lines, true), "{site}");
        }
    }
}
