//! Reasons for which there is no answer, or not yet, in words for a person.

use std::io;
use std::time::Duration;

use hyper::header;
use protocol::api::Problem;

/// Why a connection was lost, for a person who knows no library.
pub(super) fn why_lost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionReset => "the other end has reset it".to_owned(),
                io::ErrorKind::TimedOut => "the other end gives no sign any more".to_owned(),
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => error.to_string(),
                _ => "the other end has closed it".to_owned(),
            };
        }
        next = error.source();
    }
    "the other end has closed it".to_owned()
}

/// The time that an answer asks for before the next request.
pub(super) fn retry_after(headers: &hyper::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A problem whose hint names that time.
pub(super) fn with_retry(problem: Problem, after: Option<Duration>) -> Problem {
    let Some(after) = after else { return problem };
    let again = format!("try again in {} s", after.as_secs());
    let hint = match &problem.hint {
        Some(hint) => format!("{again}; {hint}"),
        None => again,
    };
    Problem { hint: Some(hint), ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_told_without_a_librarys_words() {
        let reset = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        for (error, expected) in [
            (io::Error::from(io::ErrorKind::ConnectionReset), "the other end has reset it"),
            (io::Error::from(io::ErrorKind::TimedOut), "the other end gives no sign any more"),
            (io::Error::other("h2: GOAWAY frame"), "the other end has closed it"),
            (reset, "the other end has closed it"),
        ] {
            assert_eq!(why_lost(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn the_time_until_the_next_try_is_in_the_hint() {
        let problem = |hint: Option<&str>| Problem {
            kind: "about:blank".into(),
            title: String::new(),
            status: 429,
            code: "too_many_failures".into(),
            detail: String::new(),
            hint: hint.map(str::to_owned),
            subject: None,
        };
        let headers = |value: &str| [(header::RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
        let after = retry_after(&headers("42"));
        assert_eq!(with_retry(problem(Some("x")), after).hint.unwrap(), "try again in 42 s; x");
        assert_eq!(with_retry(problem(None), after).hint.unwrap(), "try again in 42 s");
        for none in ["", "soon", "-1"] {
            assert_eq!(with_retry(problem(None), retry_after(&headers(none))), problem(None), "{none}");
        }
    }
}
