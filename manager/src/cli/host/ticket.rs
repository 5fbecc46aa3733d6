//! A ticket, in whichever shape a person pastes it: the one line, all that `kennel pair` prints, its three values on lines of their
//! own, and each of them folded by a narrow terminal.
//!
//! No error repeats a word of what was pasted: it may be the secret.

use crate::client::far::tls::Fingerprint;
use crate::client::host::HostAddress;

/// The beginning of a fingerprint, which no address and no secret has in it.
const PIN: &str = "SHA256:";
/// Hexadecimal digits of a fingerprint.
const DIGITS: usize = 64;
/// Words that `kennel pair` prints before its values.
const LABELS: [&str; 4] = ["address", "fingerprint", "secret", "ticket"];

/// The parts that were found.
#[derive(Default, PartialEq, Eq)]
pub struct Ticket {
    /// Addresses of the server, the preferred one first.
    pub addresses: Vec<HostAddress>,
    pub fingerprint: Option<Fingerprint>,
    pub secret: Option<String>,
}

impl Ticket {
    /// Finds the parts of a ticket in a text. Parts may be missing.
    ///
    /// # Errors
    /// The fault of the text, for a person.
    pub fn read(text: &str) -> Result<Self, String> {
        let labelled = text.lines().any(|line| label_of(line).is_some());
        if labelled { Self::labelled(text) } else { Self::plain(text) }
    }

    /// Returns true if nothing is missing of a whole ticket.
    pub fn is_whole(&self) -> bool {
        !self.addresses.is_empty() && self.fingerprint.is_some() && self.secret.is_some()
    }

    /// The parts that are missing of a whole ticket, in words.
    pub fn missing(&self) -> String {
        let parts = [
            ("address", self.addresses.is_empty()),
            ("fingerprint", self.fingerprint.is_none()),
            ("secret", self.secret.is_none()),
        ];
        let missing: Vec<&str> =
            parts.iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| *name).collect();
        missing.join(" and ")
    }

    /// Reads the output of `kennel pair`, also a part of it. What stands around it does not matter.
    fn labelled(text: &str) -> Result<Self, String> {
        let (mut before, mut values) = (String::new(), [const { String::new() }; LABELS.len()]);
        let mut now = None;
        for line in text.lines() {
            match label_of(line) {
                // A second ticket below the first one is not mixed into it.
                Some((label, value)) if values[label].is_empty() => {
                    now = Some(label);
                    values[label] = value.to_owned();
                }
                Some(_) => now = None,
                None if line.trim().is_empty() => now = None,
                None => match now {
                    Some(label) => values[label] += &format!("\n{line}"),
                    None => before += &format!("{line}\n"),
                },
            }
        }
        let [addresses, pin, secret, whole] = values;
        let mut found = Self::default();
        for address in glued(&addresses).split("tls://").skip(1) {
            found.addresses.push(address_of(&format!("tls://{address}"))?);
        }
        if !pin.is_empty() {
            found.fingerprint = Some(split_pin(&glued(&pin), false)?.0);
        }
        let secret = glued(&secret);
        found.secret = (!secret.is_empty()).then_some(secret);
        let other = Self::plain(&whole).ok().and_then(|whole| whole.fingerprint);
        if let (Some(one), Some(other)) = (found.fingerprint, other)
            && one != other
        {
            return Err("it has two fingerprints".to_owned());
        }
        // A selection often begins behind the first label.
        for rest in [&whole, &before] {
            if !found.is_whole() && !rest.trim().is_empty() {
                found.fill(Self::plain(rest).or_else(|why| {
                    let first = rest.trim().lines().next().unwrap_or_default();
                    Self::plain(first).map_err(|_| why)
                }));
            }
        }
        match found == Self::default() {
            true => Err("that is no ticket".to_owned()),
            false => Ok(found),
        }
    }

    /// Takes what is missing from another one.
    fn fill(&mut self, other: Result<Self, String>) {
        let Ok(other) = other else { return };
        if self.addresses.is_empty() {
            self.addresses = other.addresses;
        }
        self.fingerprint = self.fingerprint.or(other.fingerprint);
        self.secret = self.secret.take().or(other.secret);
    }

    /// Reads words without labels, in any order.
    fn plain(text: &str) -> Result<Self, String> {
        let apart = Self::words(text);
        let lines: Vec<&str> = text.trim().lines().collect();
        if lines.len() < 2 || apart.as_ref().is_ok_and(|(_, others)| others.len() <= 1) {
            return apart.and_then(one_secret);
        }
        // A narrow terminal has folded the line, perhaps at the blank between two words.
        let folded = Self::one_line(&lines.concat());
        folded.filter(Self::is_whole).map_or_else(|| apart.and_then(one_secret), Ok)
    }

    /// Address and fingerprint among words, and the words that are neither.
    fn words(text: &str) -> Result<(Self, Vec<&str>), String> {
        let (mut found, mut others) = (Self::default(), Vec::new());
        let mut rest = text.trim_start();
        while let Some(word) = rest.split_whitespace().next() {
            if rest.starts_with(PIN) {
                let (pin, after) = split_pin(rest, false)?;
                if found.fingerprint.replace(pin).is_some_and(|other| other != pin) {
                    return Err("it has two fingerprints".to_owned());
                }
                rest = &rest[rest.len() - after..];
            } else {
                let word = word.split(PIN).next().unwrap_or(word);
                rest = &rest[word.len()..];
                if HostAddress::is_meant(word) {
                    let address = address_of(word)?;
                    if !found.addresses.contains(&address) {
                        found.addresses.push(address);
                    }
                } else if word.contains(|c: char| c.is_ascii_alphanumeric()) && !others.contains(&word) {
                    // The rest is what is left of a QR code.
                    others.push(word);
                }
            }
            rest = rest.trim_start();
        }
        Ok((found, others))
    }

    /// Reads `ADDRESS FINGERPRINT SECRET`, also without the blanks between them.
    fn one_line(line: &str) -> Option<Self> {
        let (address, _) = line.split_once(PIN)?;
        let (pin, after) = split_pin(&line[address.len()..], true).ok()?;
        let mut secret = line[line.len() - after..].split_whitespace();
        let (secret, more) = (secret.next()?, secret.next());
        let address = address_of(address.trim()).ok()?;
        let ticket =
            Self { addresses: vec![address], fingerprint: Some(pin), secret: Some(secret.to_owned()) };
        more.is_none().then_some(ticket)
    }
}

/// The number of the label with which a line begins, and what follows.
fn label_of(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start();
    let (word, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let word = word.strip_suffix(':').unwrap_or(word);
    let at = LABELS.iter().position(|label| label.eq_ignore_ascii_case(word))?;
    Some((at, value.trim()))
}

/// A text without its blanks and ends of lines.
fn glued(text: &str) -> String {
    text.split_whitespace().collect()
}

fn address_of(word: &str) -> Result<HostAddress, String> {
    word.parse().map_err(|_| "the ticket has no address that can be read".to_owned())
}

/// A fingerprint at the beginning of a text, and the number of bytes that follow. The end of a line may stand between its digits.
/// Unless it is `tight`, a blank follows.
fn split_pin(text: &str, tight: bool) -> Result<(Fingerprint, usize), String> {
    let wrong =
        || format!("a fingerprint is {PIN} and {DIGITS} hexadecimal digits, as `kennel pair` prints it");
    let digits = text.strip_prefix(PIN).ok_or_else(wrong)?;
    let (mut found, mut line_ends) = (String::new(), false);
    for (at, c) in digits.char_indices() {
        if found.len() == DIGITS {
            if !tight && !c.is_whitespace() {
                return Err(wrong());
            }
            let pin = format!("{PIN}{found}").parse().map_err(|_| wrong())?;
            return Ok((pin, digits.len() - at));
        }
        match c {
            '\n' | '\r' => line_ends = true,
            c if line_ends && c.is_whitespace() => {}
            c if c.is_ascii_hexdigit() => {
                line_ends = false;
                found.push(c);
            }
            ':' => {}
            _ => return Err(wrong()),
        }
    }
    format!("{PIN}{found}").parse().map(|pin| (pin, 0)).map_err(|_| wrong())
}

/// At most one word is neither address nor fingerprint: the secret.
fn one_secret((ticket, others): (Ticket, Vec<&str>)) -> Result<Ticket, String> {
    match others[..] {
        [] => Ok(ticket),
        [secret] => Ok(Ticket { secret: Some(secret.to_owned()), ..ticket }),
        _ => Err("that is no ticket".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "7K3M-9QXT-ABCD-EFGH";

    /// Addresses, fingerprint and secret.
    type Parts = (Vec<String>, Option<String>, Option<String>);

    fn parts(text: &str) -> Result<Parts, String> {
        let Ticket { addresses, fingerprint, secret } = Ticket::read(text)?;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Ok((addresses, fingerprint.map(|pin| pin.to_string()), secret))
    }

    fn whole(address: &str, pin: &str, secret: &str) -> Result<Parts, String> {
        Ok((vec![address.to_owned()], Some(pin.to_owned()), Some(secret.to_owned())))
    }

    /// The output of `kennel pair`, with a second address, and what may stand around it.
    fn printed(address: &str, pin: &str, secret: &str) -> String {
        format!(
            "$ kennel pair --name phone\n█▀▀▀█ ▄ ██\n█▄▄▄█ ▀ ▄█\n\naddress      {address}\n             tls://[2001:db8::7]:7443\n\
             fingerprint  {pin}\nsecret       {secret}\nticket       {address} {pin} {secret}\n\
             on the device: `kennel host pair NAME`, which asks for the ticket; Ctrl-C here ends the pairing\n"
        )
    }

    /// The lines of a terminal that is so wide. `trimmed`: blanks at their ends are not copied.
    fn folded(text: &str, width: usize, trimmed: bool) -> String {
        let fold = |line: &str| {
            let letters: Vec<char> = line.chars().collect();
            let parts: Vec<String> = letters.chunks(width).map(|part| part.iter().collect()).collect();
            let parts = parts.iter().map(|part| if trimmed { part.trim_end() } else { part });
            parts.collect::<Vec<&str>>().join("\n")
        };
        text.lines().map(fold).collect::<Vec<String>>().join("\n")
    }

    #[test]
    fn two_fingerprints_are_no_ticket_wherever_they_stand() {
        let (one, other) = (format!("SHA256:{}", "a".repeat(64)), format!("SHA256:{}", "b".repeat(64)));
        let text = format!("fingerprint  {one}\nticket       tls://box:7443 {other} {SECRET}\n");
        for text in [text, format!("tls://box:7443 {one} {other} {SECRET}")] {
            assert_eq!(parts(&text), Err("it has two fingerprints".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_ticket_is_read_in_each_shape_and_a_part_of_one_is_a_part() {
        let pin = Fingerprint::of(b"x").to_string();
        let expected = whole("tls://box:7443", &pin, SECRET);
        for text in [
            format!("tls://box {pin} {SECRET}"),
            format!("  {SECRET}\n{pin}\n\ntls://box:7443\n"),
            format!("ticket tls://box {pin} {SECRET}"),
            format!("Secret: {SECRET}\nAddress: tls://box\nFingerprint: {pin}"),
            format!("tls://box\nfingerprint  {pin}\nsecret {SECRET}"),
            format!(
                "secret {SECRET}\nticket tls://box {pin} {SECRET}\non the device: `kennel host pair NAME`"
            ),
            format!("tls://box {} {SECRET}", pin.to_uppercase()),
        ] {
            assert_eq!(parts(&text), expected, "{text}");
        }
        assert_eq!(parts(SECRET), Ok((vec![], None, Some(SECRET.into()))));
        assert_eq!(parts(&format!("tls://box\n{pin}")).unwrap().2, None);
        assert_eq!(parts(""), Ok((vec![], None, None)));
        for wrong in [
            format!("tls://box {pin} {SECRET} x"),
            format!("tls://box {pin}0 {SECRET}"),
            format!("tls://box SHA256:00 {SECRET}"),
            format!("http://box {pin} {SECRET}"),
            format!("tls://b:x {pin} {SECRET}"),
            format!("tls://box {pin} {} {SECRET}", Fingerprint::of(b"y")),
            "hello there".to_owned(),
            "secret".to_owned(),
        ] {
            let why = parts(&wrong).expect_err(&wrong);
            assert!(!why.contains(SECRET), "{why}");
        }
    }

    proptest! {
        #[test]
        fn a_ticket_survives_a_narrow_terminal(
            host in "[a-z][a-z0-9]{0,30}(\\.[a-z]{2,9}){0,2}", port in 1u16.., seed in any::<u64>(),
            secret in "[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", width in 20usize..110, trimmed: bool,
        ) {
            let (address, pin) = (format!("tls://{host}:{port}"), Fingerprint::of(&seed.to_le_bytes()).to_string());
            let expected = whole(&address, &pin, &secret);
            let line = format!("{address} {pin} {secret}");
            prop_assert_eq!(parts(&folded(&line, width, trimmed)), expected.clone());
            let (addresses, ..) = parts(&folded(&printed(&address, &pin, &secret), width, trimmed)).unwrap();
            prop_assert_eq!(&addresses[0], &address);
            let (_, shown_pin, shown) = parts(&folded(&printed(&address, &pin, &secret), width, trimmed)).unwrap();
            prop_assert_eq!((shown_pin, shown), (Some(pin.clone()), Some(secret.clone())));
        }

        #[test]
        fn three_values_have_no_order(order in Just(vec![0, 1, 2]).prop_shuffle(), width in 30usize..90) {
            let pin = Fingerprint::of(b"x").to_string();
            let values = ["tls://box.example:7443".to_owned(), folded(&pin, width, false), SECRET.to_owned()];
            let lines: Vec<&str> = order.iter().map(|at| &*values[*at]).collect();
            prop_assert_eq!(parts(&lines.join("\n")), whole("tls://box.example:7443", &pin, SECRET));
        }

        #[test]
        fn any_text_is_a_ticket_or_none_and_no_error_repeats_it(text in "(((address|secret:|ticket|tls://[a-z0-9.:/@]{0,20}|SHA256:[0-9a-f]{60,66}|SHA2|\\PC{0,8})[ \n]{0,2}){0,9}|(?s).{0,80})") {
            match Ticket::read(&text) {
                Ok(ticket) => prop_assert!(ticket.secret.is_none_or(|secret| !secret.contains(char::is_whitespace))),
                Err(why) => prop_assert!(why.len() < 200 && why.is_ascii(), "{}", why),
            }
        }
    }
}
