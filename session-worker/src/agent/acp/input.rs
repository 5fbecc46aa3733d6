//! Output of the agent: lines of the protocol, and other text on its standard output and standard error.

use std::time::Duration;

use protocol::bounds::LINE;
use protocol::json::{Scan, Unread, Why};
use protocol::wire::Report;
use tokio::time::Instant;

use super::{Acp, UNREAD};
use crate::pipes::is_transient;

/// Time that an agent may live after it has closed its standard output.
const CLOSED: Duration = Duration::from_secs(1);
/// Size of a read, in bytes.
const READ: usize = 32 * 1024;

impl Acp {
    /// Reads once what the agent says.
    pub fn read(&mut self) -> Vec<Report> {
        if self.held_up {
            return self.hear(&[]);
        }
        let Some(stdout) = &self.stdout else { return Vec::new() };
        let mut buffer = vec![0; READ];
        match stdout.try_read(&mut buffer) {
            Ok(n) if n > 0 => self.hear(&buffer[..n]),
            Err(error) if is_transient(&error) => Vec::new(),
            Ok(_) | Err(_) => {
                self.stdout = None;
                // Most often its end is on its way, and says more.
                self.closed_by = Some(Instant::now() + CLOSED);
                Vec::new()
            }
        }
    }

    /// Puts into the session's log what the agent writes to its standard error: one piece.
    pub fn read_stderr(&mut self) -> Vec<Report> {
        let printed = self.stderr.read();
        let things = self.conversation.printed(&printed);
        self.perform(things)
    }

    /// The same with all that is there: the agent, or all of its tree, is dead.
    pub fn drain_stderr(&mut self) {
        self.stderr.drain();
    }

    /// The end of what the agent wrote to its standard error.
    pub fn complaints(&self) -> String {
        self.stderr.tail()
    }

    /// Reads what is left when the agent's process is dead; `None` when all is read.
    pub fn drain(&mut self) -> Option<Vec<Report>> {
        let stdout = self.stdout.as_ref()?;
        let mut buffer = vec![0; READ];
        // Not by way of the runtime, which may not have noticed yet that there is something to read. Its end is
        // not waited for: a process elsewhere may hold it open.
        match rustix::io::read(stdout, &mut buffer) {
            Ok(n) if n > 0 => Some(self.hear(&buffer[..n])),
            Err(rustix::io::Errno::INTR) => Some(Vec::new()),
            Ok(_) | Err(_) => {
                self.stdout = None;
                None
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<Report> {
        self.has_spoken |= !bytes.is_empty();
        // Text on standard error before this message may belong to it.
        let mut reports = self.read_stderr();
        let bytes = match self.skip(bytes) {
            Some((unread, rest)) => {
                let things = unread.map(|unread| self.conversation.unread(unread)).unwrap_or_default();
                reports.extend(self.perform(things));
                rest
            }
            None => return reports,
        };
        self.line.extend_from_slice(bytes);
        self.held_up = false;
        while let Some(end) = self.line[self.searched..].iter().position(|byte| *byte == b'\n') {
            if self.outbox.len() - self.written >= UNREAD {
                // Each of these lines may be answered with a whole file: they wait until it has read some.
                self.held_up = true;
                return reports;
            }
            let rest = self.line.split_off(self.searched + end + 1);
            let mut line = std::mem::replace(&mut self.line, rest);
            line.pop();
            self.searched = 0;
            let things = self.conversation.hear(line);
            reports.extend(self.perform(things));
            self.watch();
        }
        self.searched = self.line.len();
        if self.line.len() > LINE {
            let mut scan = Scan::default();
            scan.push(&self.line);
            self.skipped = Some((scan, self.line.len()));
            (self.line, self.searched) = (Vec::new(), 0);
        }
        reports
    }

    /// Leaves out what belongs to a line that is too long. Gives what comes after it, and what is known of it once it has
    /// ended; nothing while it has not.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> Option<(Option<Unread>, &'a [u8])> {
        let Some((scan, length)) = &mut self.skipped else { return Some((None, bytes)) };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let inside = end.unwrap_or(bytes.len());
        scan.push(&bytes[..inside]);
        *length += inside;
        let (end, (scan, length)) = (end?, self.skipped.take()?);
        let unread = Unread { why: Why::TooLong(length, LINE), head: scan.head() };
        Some((Some(unread), &bytes[end + 1..]))
    }

    /// From here on it is waited for anew, if it takes up its conversation.
    pub(super) fn watch(&mut self) {
        let within = self.restore_within.filter(|_| self.conversation.is_taken_up());
        self.restore_by = within.map(|within| Instant::now() + within);
    }
}
