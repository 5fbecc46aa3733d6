//! Older events in front of a conversation.

use super::item::LONGEST;
use super::{Conversation, Item, Kind};
use crate::cli::transcript::parts::Part;

impl Conversation {
    /// Adds an older stretch of the same conversation, which ends where this one begins. A window that is full then gives up its
    /// newest items.
    pub fn prepend(&mut self, mut older: Self) {
        let offset = self.items.front().map_or(self.next, |item| item.number) - older.next;
        older.items.iter_mut().for_each(|item| item.number += offset);
        let moved = |number: &i64| number + offset;
        for (id, number) in older.tools.iter().map(|(id, number)| (id.clone(), moved(number))) {
            self.join_tool(&mut older.items, &id, number);
        }
        self.join_rest(&mut older, offset);
        self.drop_strangers();
        self.join_texts(&mut older.items);
        (self.from, self.whole) = (older.from, older.whole);
        self.last = self.last.max(older.last);
        (self.planned, self.ended, self.partial) = (older.planned, older.ended, older.partial);
        older.items.extend(std::mem::take(&mut self.items));
        self.items = older.items;
        self.bytes = self.items.iter().map(|item| item.kind.bytes()).sum();
        self.lose_newest();
    }

    /// A tool that an older event began: what this stretch knows of it, and that it is in use.
    fn join_tool(&mut self, older: &mut std::collections::VecDeque<Item>, id: &str, number: i64) {
        let is_it =
            |item: &Item| matches!(&item.kind, Kind::Tool(tool) if tool.begun.is_none() && tool.id == id);
        let known = self.items.iter().find(|item| is_it(item)).map(|item| item.number);
        let begun = older.iter_mut().find(|item| item.number == number);
        let is_over = |item: &&Item| match &item.kind {
            Kind::Tool(tool) => tool.id == id,
            Kind::End(_) => self.ended,
            _ => false,
        };
        let over = self.items.iter().find(is_over).map(|item| item.at);
        match known.and_then(|known| self.take_out(known)) {
            Some(Item { kind: Kind::Tool(later), .. }) => {
                if self.tools.get(id).copied() == known {
                    self.tools.insert(id.to_owned(), number);
                }
                if let Some(Item { kind: Kind::Tool(tool), .. }) = begun {
                    tool.join(later);
                }
            }
            // Another use of the id, or the end of its turn, ends a tool about which nothing else was told.
            _ if over.is_some() => {
                if let (Some(at), Some(Item { kind: Kind::Tool(tool), .. })) = (over, begun) {
                    tool.end(at, "not ended");
                }
            }
            _ => {
                self.tools.entry(id.to_owned()).or_insert(number);
            }
        }
    }

    /// Prompts, permissions, the plan and the beginning of the turn.
    fn join_rest(&mut self, older: &mut Self, offset: i64) {
        for item in &mut self.items {
            if let Kind::Prompt(id, text @ None) = &mut item.kind {
                *text = older.texts.get(id).cloned().or_else(|| older.begun_text(*id));
                self.bytes += text.as_ref().map_or(0, String::len);
            }
        }
        let end = self.items.iter_mut().find_map(|item| match &mut item.kind {
            Kind::End(Part::End { at, ms, .. }) => Some((at, ms)),
            _ => None,
        });
        if let Some((at, ms @ None)) = end {
            *ms = older.begun.take().map(|begun| at.0.saturating_sub(begun.0));
        }
        for (id, number) in std::mem::take(&mut older.asked) {
            let is_it = |item: &Item| matches!(&item.kind, Kind::Permission(asked) if asked.title.is_none() && asked.id.0 == id);
            let answered = self.items.iter().find(|item| is_it(item)).map(|item| item.number);
            let asked = older.items.iter_mut().find(|item| item.number == number + offset);
            match (answered.and_then(|number| self.take_out(number)), asked) {
                (
                    Some(Item { kind: Kind::Permission(answered), .. }),
                    Some(Item { kind: Kind::Permission(asked), .. }),
                ) => (asked.chosen, asked.answer) = (answered.chosen, answered.answer),
                _ => drop(self.asked.insert(id, number + offset)),
            }
        }
        if self.planned
            && let Some(plan) = older.plan
        {
            older.take_out(plan + offset);
        } else if !self.ended && !self.began && self.plan.is_none() {
            self.plan = older.plan.map(|plan| plan + offset);
        }
        if !self.began {
            self.begun = older.begun.or(self.begun);
        }
        self.began |= older.began;
        for (id, text) in std::mem::take(&mut older.texts) {
            if !self.texts.contains_key(&id) && !self.items.iter().any(|item| is_prompt(item, id)) {
                self.waits(id, &text);
            }
        }
    }

    /// Removes tools that no older event began: they had ended before.
    fn drop_strangers(&mut self) {
        let strange = |item: &&Item| matches!(&item.kind, Kind::Tool(tool) if tool.begun.is_none());
        let strangers: Vec<i64> = self.items.iter().filter(strange).map(|item| item.number).collect();
        if self.began {
            for number in strangers {
                self.take_out(number);
            }
        }
    }

    /// Removes an item, and joins the texts that it divided.
    pub(super) fn take_out(&mut self, number: i64) -> Option<Item> {
        let item = self.remove(number)?;
        let at = self.index(number);
        if let (Some(before), Some(after)) =
            (at.checked_sub(1).and_then(|at| self.items.get(at)), self.items.get(at))
            && are_one(before, after)
        {
            let (before, after) = (before.number, after.number);
            if let Some(Item { kind: Kind::Text(later), .. }) = self.remove(after) {
                self.change(before, |kind| {
                    if let Kind::Text(text) = kind {
                        text.join(later);
                    }
                });
            }
        }
        Some(item)
    }

    /// Joins the texts at the seam.
    fn join_texts(&mut self, older: &mut std::collections::VecDeque<Item>) {
        let (Some(last), Some(first)) = (older.back_mut(), self.items.front()) else { return };
        if are_one(last, first)
            && let Some(Item { kind: Kind::Text(later), .. }) = self.remove(first.number)
            && let Kind::Text(text) = &mut last.kind
        {
            last.revision = last.revision.wrapping_add(1);
            text.join(later);
        }
    }

    /// Gives up the newest items of a window that is full.
    fn lose_newest(&mut self) {
        while self.is_full() && self.items.len() > 1 {
            let Some(item) = self.items.pop_back() else { return };
            self.bytes -= item.kind.bytes();
            self.last = self.last.min(item.first.saturating_sub(1));
            self.cut = true;
            if let Kind::Prompt(id, Some(text)) = item.kind {
                // It begins anew when what follows is loaded.
                self.waits(id, &text);
            }
        }
    }
}

/// Returns true if two texts are pieces of one.
fn are_one(before: &Item, after: &Item) -> bool {
    let (Kind::Text(text), Kind::Text(later)) = (&before.kind, &after.kind) else { return false };
    text.source == later.source && text.text.len() + later.text.len() < LONGEST
}

fn is_prompt(item: &Item, prompt: protocol::PromptId) -> bool {
    matches!(item.kind, Kind::Prompt(id, _) if id == prompt)
}
