//! Addresses at which an agent wants its user to log in, as it prints them beside the protocol.
//!
//! Agents print them to standard error and wait, or give up. A person looks at the session, not into its log. What is printed is
//! hostile: only `http` and `https`, only printable ASCII, and only so much of it.

/// Bytes of a line that the search examines at most.
const LINE: usize = 8 * 1024;
/// The longest address, in bytes.
const LONGEST: usize = 2 * 1024;
/// Limit of addresses that the worker reports for one process.
const MOST: usize = 3;
/// Words that stand beside an address for logging in.
const WORDS: [&str; 13] = [
    "log in",
    "login",
    "log-in",
    "sign in",
    "signin",
    "sign-in",
    "authenticat",
    "authoriz",
    "authoris",
    "oauth",
    "/auth",
    "/device",
    "verification",
];

/// Search for log-in addresses in an agent's output.
#[derive(Debug, Default)]
pub struct Addresses {
    /// The line whose end has not come.
    line: Vec<u8>,
    /// The line before was about a log-in.
    announced: bool,
    told: Vec<String>,
}

impl Addresses {
    /// Hears what is printed. Gives the addresses that were not told before.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                found.extend(self.look(&String::from_utf8_lossy(&line)));
            }
        }
        found
    }

    fn look(&mut self, line: &str) -> Option<String> {
        let lower = line.to_lowercase();
        let is_about = WORDS.iter().any(|word| lower.contains(word));
        let announced = self.announced;
        // An empty line separates nothing here.
        self.announced = is_about || announced && line.trim().is_empty();
        let address = address(line).filter(|_| is_about || announced)?;
        if self.told.len() >= MOST || self.told.contains(&address) {
            return None;
        }
        self.told.push(address.clone());
        Some(address)
    }

    /// The newest that was told.
    pub fn newest(&self) -> Option<&str> {
        self.told.last().map(String::as_str)
    }
}

/// The first address in a text.
pub fn address(text: &str) -> Option<String> {
    let begins = ["https://", "http://"].into_iter().filter_map(|scheme| text.find(scheme)).min()?;
    let is_part = |c: char| {
        c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`' | '{' | '}' | '|' | '^')
    };
    let end = text[begins..].find(|c| !is_part(c)).map_or(text.len(), |end| begins + end);
    let address = text[begins..end].trim_end_matches(['.', ',', ';', ':', '!', ')', ']']);
    let has_host = address
        .split_once("://")
        .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['));
    (has_host && address.len() <= LONGEST).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_log_in_at_is_found_as_agents_print_it() {
        for (printed, found) in [
            (
                "Please log in: https://auth.example/device?code=AB-12.\n",
                Some("https://auth.example/device?code=AB-12"),
            ),
            (
                "To authenticate, open this:\n\n  http://localhost:1455/auth (and come back)\n",
                Some("http://localhost:1455/auth"),
            ),
            ("Sign in at <https://a.example/x>\n", Some("https://a.example/x")),
            ("see https://docs.example/errors\n", None),
            ("login: javascript://alert(1) file:///etc/passwd\n", None),
            ("login https://\u{1b}]8;;evil\n", None),
            ("login https://a.example/\u{1b}[2Jx\u{202e}\n", Some("https://a.example/")),
            ("login https://a.example/no-end-yet", None),
        ] {
            let mut addresses = Addresses::default();
            let mut all = printed.as_bytes().chunks(7).flat_map(|piece| addresses.hear(piece));
            assert_eq!(all.next().as_deref(), found, "{printed:?}");
        }
    }

    #[test]
    fn each_address_that_is_printed_at_once_is_told() {
        let printed =
            b"Sign in: see https://docs.example/auth\nThen open https://auth.example/device?code=AB\n";
        let told = ["https://docs.example/auth", "https://auth.example/device?code=AB"];
        assert_eq!(Addresses::default().hear(printed), told);
    }

    #[test]
    fn what_is_told_is_bounded_and_told_once() {
        let mut addresses = Addresses::default();
        let long = format!("login https://a.example/{}\n", "x".repeat(LONGEST));
        assert_eq!(addresses.hear(long.as_bytes()), [""; 0]);
        assert_eq!(addresses.hear(&b"x".repeat(1 << 20)), [""; 0]);
        assert!(addresses.line.len() <= LINE);
        addresses.hear(b"\n");
        let told =
            (0..20).flat_map(|n| addresses.hear(format!("login https://a.example/{}\n", n / 2).as_bytes()));
        assert_eq!(told.count(), MOST);
        assert_eq!(addresses.newest(), Some("https://a.example/2"));
    }
}
