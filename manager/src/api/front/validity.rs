//! The dates of a certificate, read from its DER (RFC 5280). Nothing is decided by them but a warning: rustls checks what clients show, and
//! clients check this certificate.

/// Begin and end of a certificate's validity, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads the dates; none if these bytes are no certificate.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    let (_serial, rest) = expect(rest, INTEGER)?;
    let (_algorithm, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (dates, _) = expect(rest, SEQUENCE)?;
    let (from, rest) = time(dates)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// The content of an element with this tag, and what follows the element.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // More digits than four would be a certificate of gigabytes.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = element(bytes)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, text) = match tag {
        // Two digits: from 50 on they are of the century before.
        UTC_TIME if text.len() == 12 => {
            let year: i64 = text[..2].parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| text[at..at + 2].parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    let valid = valid && hour < 24 && minute < 60 && second <= 60;
    valid.then(|| (((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second, rest))
}

/// Days from 1970-01-01 to this date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the day that some years have more is its last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (year, month, day, expected) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (9999, 12, 31, 2_932_896),
        ] {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
        let read = |tag, text: &str| {
            let mut bytes = vec![tag, text.len() as u8];
            bytes.extend_from_slice(text.as_bytes());
            time(&bytes).map(|(time, _)| time)
        };
        assert_eq!(read(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(read(UTC_TIME, "490101000000Z"), Some(2_493_072_000));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for wrong in
            ["", "Z", "701301000001Z", "700100000001Z", "700101250001Z", "7001010000+1Z", "700101000001"]
        {
            assert_eq!(read(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_dates_of_a_real_certificate_are_read() {
        let mut wanted = rcgen::CertificateParams::new(vec!["box.example".to_owned()]).unwrap();
        wanted.not_before = rcgen::date_time_ymd(2024, 2, 29);
        wanted.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let made = wanted.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let expected = Validity { from: 1_709_164_800, until: 2_556_144_000 };
        assert_eq!(validity(made.der()), Some(expected));
        for end in 0..made.der().len() {
            // However much is missing: no panic. The dates stand before the end.
            let _ = validity(&made.der()[..end]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
        }
    }
}
