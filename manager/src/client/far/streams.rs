//! Streams of events that a machine breaks off: whoever opens them again and again waits longer each time.

use std::time::Duration;

use super::doubled;

/// A stream that lived so long was none that is broken off at once.
const LONG: Duration = Duration::from_secs(5);
/// A stream that brought fewer events was hardly worth its request.
const ENOUGH: u64 = 2;

/// The streams of one host, so far.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The number of streams in a row that lived shortly and brought little.
    poor: u32,
}

impl Streams {
    /// Notes the end of a stream.
    pub fn ended(&mut self, lived: Duration, events: u64) {
        let poor = lived < LONG && events < ENOUGH;
        self.poor = if poor { self.poor.saturating_add(1) } else { 0 };
    }

    /// The pause before the next one. One that breaks is no reason to wait.
    pub fn pause(&self) -> Duration {
        self.poor.checked_sub(2).map_or(Duration::ZERO, doubled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_bring_little_are_opened_ever_more_slowly_until_one_brings_more() {
        let mut streams = Streams::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            streams.ended(Duration::from_millis(10), 1);
            pauses.push(streams.pause().as_secs());
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        streams.ended(Duration::from_millis(10), 2);
        assert_eq!(streams.pause(), Duration::ZERO);
        streams.ended(Duration::ZERO, 0);
        streams.ended(Duration::from_secs(60), 0);
        assert_eq!(streams.pause(), Duration::ZERO);
    }
}
