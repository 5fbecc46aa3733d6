//! Invalid input, made from valid input. A seed decides it, so that a finding can be reproduced.

use crate::rng::Rng;

/// Input that parsers often mishandle.
const ODD: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"]",
    b"[[[[[[[[[[[[[[[[",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"true",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x01",
    b"\xc3\x28",
    b"../../",
    b"%00",
    b"\x1b]0;x\x07",
];
/// The longest piece that is repeated, and how often, so that one case stays small beside the limits of who reads it.
const LONGEST: usize = 4096;

/// Changes what it is given.
pub struct Mutator {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// Makes new input from this, which is well formed.
    pub fn new(seed: u64, corpus: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { rng: Rng::new(seed), corpus: corpus.into_iter().collect() }
    }

    /// Returns the number of inputs so far.
    pub fn known(&self) -> usize {
        self.corpus.len()
    }

    /// One of those that it was given, changed in a few places.
    pub fn make(&mut self) -> Vec<u8> {
        let at = self.rng.below(self.corpus.len() as u64) as usize;
        self.changed(&self.corpus[at].clone())
    }

    /// This, changed in a few places.
    pub fn changed(&mut self, input: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..self.rng.between(1, 5) {
            self.change(&mut bytes);
        }
        bytes
    }

    /// One of these, as it is.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.rng.below(from.len() as u64) as usize)
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.rng.below(bytes.len() as u64 + 1) as usize
    }

    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.place(bytes);
        let most = (bytes.len() - from).min(LONGEST) as u64;
        from..from + self.rng.below(most + 1) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes);
        match self.rng.below(8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.rng.below(8);
                }
            }
            1 => {
                let noise = self.rng.below(256) as u8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = noise;
                }
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(self.piece(bytes))),
            4 => {
                let piece = bytes[self.piece(bytes)].to_vec();
                let times = self.rng.between(1, 17) as usize;
                bytes.splice(at..at, piece.repeat(times));
            }
            5 => {
                let odd = ODD[self.rng.below(ODD.len() as u64) as usize];
                let over = (at + odd.len()).min(bytes.len());
                let until = if self.rng.chance(500) { over } else { at };
                bytes.splice(at..until, odd.iter().copied());
            }
            6 => {
                let other = self.corpus[self.rng.below(self.corpus.len() as u64) as usize].clone();
                let piece = other[self.piece(&other)].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                // A number that claims a length.
                let length = (self.rng.below(1 << 34) as u32 >> self.rng.below(32)).to_le_bytes();
                let until = (at + length.len()).min(bytes.len());
                bytes.splice(at..until, length);
            }
        }
    }
}

/// Returns the number of cases that a test tries: `usual`, or the value of `KENNEL_FUZZ_CASES`.
pub fn cases(usual: u64) -> u64 {
    let asked = std::env::var("KENNEL_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(usual)
}

/// The most memory that a process has ever had in its pages, in KiB (`VmHWM` of proc_pid_status(5)).
pub fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
