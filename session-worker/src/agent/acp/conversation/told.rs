//! The turns that an agent tells again while it loads a conversation, for a session whose journal has none of them.

use std::collections::VecDeque;

use protocol::bounds;
use serde_json::{Value, json};

/// The bytes of the turns that are kept, as JSON: the newest that fit.
const MOST: usize = 256 * 1024;
/// The bytes of a turn without its texts.
const EMPTY: usize = 32;

/// Turns of a conversation, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Told {
    turns: VecDeque<(String, String)>,
    /// Bytes of all turns, as JSON.
    bytes: usize,
    /// Turns that were left out.
    left_out: u64,
    /// Something else came since the last text.
    parted: bool,
}

impl Told {
    /// Takes an update that the agent sent while it loaded. Texts of user and agent count, and what stands between them parts them.
    pub(super) fn take(&mut self, kind: &str, update: &Value) {
        let of_user = match kind {
            "user_message_chunk" => true,
            "agent_message_chunk" => false,
            _ => {
                self.parted = true;
                return;
            }
        };
        let content = &update["content"];
        let other = format!("[{}]", content["type"].as_str().unwrap_or("something"));
        let text = content["text"].as_str().unwrap_or(&other);
        let parted = std::mem::take(&mut self.parted);
        let goes_on = |(prompt, reply): &(String, String)| match of_user {
            true => reply.is_empty() && !parted && !prompt.is_empty(),
            false => true,
        };
        if !self.turns.back().is_some_and(goes_on) {
            self.turns.push_back((String::new(), String::new()));
            self.bytes += EMPTY;
        }
        let Some((prompt, reply)) = self.turns.back_mut() else { return };
        let written = if of_user { prompt } else { reply };
        let gap = if parted && !written.is_empty() { "\n\n" } else { "" };
        self.bytes += bounds::length(gap) + bounds::length(text);
        written.extend([gap, text]);
        while self.bytes > MOST
            && let Some((prompt, reply)) = self.turns.pop_front()
        {
            self.bytes -= bounds::length(&prompt) + bounds::length(&reply) + EMPTY;
            self.left_out += 1;
        }
    }

    /// The turns as an update of kennel's own; none if the agent told none.
    pub(super) fn update(self) -> Option<Value> {
        let turns: Vec<Value> = self
            .turns
            .into_iter()
            .map(|(prompt, reply)| json!({ "prompt": prompt, "reply": reply }))
            .collect();
        let told = !turns.is_empty() || self.left_out > 0;
        told.then(
            || json!({ "sessionUpdate": "conversation_loaded", "turns": turns, "left_out": self.left_out }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(updates: &[(&str, &str)]) -> Option<Value> {
        let mut told = Told::default();
        for (kind, text) in updates {
            told.take(kind, &json!({ "content": { "type": "text", "text": text } }));
        }
        told.update()
    }

    #[test]
    fn pieces_are_joined_into_turns() {
        let (user, agent) = ("user_message_chunk", "agent_message_chunk");
        let all = [
            (user, "fix "),
            (user, "it"),
            (agent, "do"),
            ("agent_thought_chunk", "hm"),
            (agent, "ne"),
            (user, "and?"),
        ];
        let turns = json!([{ "prompt": "fix it", "reply": "do\n\nne" }, { "prompt": "and?", "reply": "" }]);
        let wanted = json!({ "sessionUpdate": "conversation_loaded", "turns": turns, "left_out": 0 });
        assert_eq!(told(&all), Some(wanted));
        assert_eq!(told(&[(agent, "hello")]).unwrap()["turns"], json!([{ "prompt": "", "reply": "hello" }]));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("tool_call", "x")]), None);
        // A prompt that was cut off, and the next.
        let cut = [(user, "one"), ("tool_call", ""), (user, "two"), (agent, "yes")];
        let turns = json!([{ "prompt": "one", "reply": "" }, { "prompt": "two", "reply": "yes" }]);
        assert_eq!(told(&cut).unwrap()["turns"], turns);
        let mut picture = Told::default();
        picture.take(agent, &json!({ "content": { "type": "text", "text": "first" } }));
        picture.take(user, &json!({ "content": { "type": "image", "data": "x" } }));
        picture.take(agent, &json!({ "content": { "type": "text", "text": "a cat" } }));
        let turns = json!([{ "prompt": "", "reply": "first" }, { "prompt": "[image]", "reply": "a cat" }]);
        assert_eq!(picture.update().unwrap()["turns"], turns);
    }

    #[test]
    fn the_newest_turns_that_fit_are_kept_and_the_others_counted() {
        let (user, agent) = ("user_message_chunk", "agent_message_chunk");
        let long = "\"".repeat(MOST / 8);
        let all: Vec<_> = (0..40).flat_map(|_| [(user, "go on"), (agent, &*long)]).collect();
        let kept = told(&all).unwrap();
        assert_eq!((kept["turns"].as_array().unwrap().len(), &kept["left_out"]), (3, &json!(37)));
        let much = told(&[(user, &*"x".repeat(MOST + 1)), (agent, "yes")]).unwrap();
        assert_eq!(much["left_out"], 1);
        assert_eq!(much["turns"], json!([{ "prompt": "", "reply": "yes" }]));
        // So many that a record of them would have too many parts to be read.
        let many: Vec<_> = (0..100_000).flat_map(|_| [(user, "a"), (agent, "b")]).collect();
        let kept = told(&many).unwrap();
        let count = kept["turns"].as_array().unwrap().len();
        assert!((5_000..10_000).contains(&count), "{count}");
        assert_eq!(kept["left_out"], 100_000 - count);
    }
}
