//! Memory that an editor's messages take, until the front is done with them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// A part of a budget, which is given back when this is dropped.
pub struct Weight(#[expect(dead_code, reason = "held, and given back")] Box<dyn Any + Send>);

impl Weight {
    /// Holds this.
    pub fn of(held: impl Any + Send) -> Self {
        Self(Box::new(held))
    }
}

/// The weights of an editor's large messages that the front has not taken up yet.
#[derive(Default)]
pub struct Weights {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Of requests, by the text of their ids.
    requests: BTreeMap<String, Vec<Weight>>,
    /// Of answers to questions of the front, by the text of their ids; none for a question whose answer has not come.
    answers: BTreeMap<String, Option<Weight>>,
}

impl Weights {
    /// A large request is on its way to the front.
    pub fn request(&self, id: &Value, weight: Weight) {
        self.waiting().requests.entry(id.to_string()).or_default().push(weight);
    }

    /// A large answer is on its way to the front. Returns false if the front waits for none under this id.
    pub fn answer(&self, id: &Value, weight: Weight) -> bool {
        match self.waiting().answers.get_mut(&id.to_string()) {
            Some(place) => {
                *place = Some(weight);
                true
            }
            None => false,
        }
    }

    /// The request's weight: the front has taken the request up, or has answered it.
    pub fn take(&self, id: &Value) -> Option<Weight> {
        let mut waiting = self.waiting();
        if waiting.requests.is_empty() {
            return None;
        }
        let id = id.to_string();
        let found = waiting.requests.get_mut(&id)?;
        let weight = found.pop();
        if found.is_empty() {
            waiting.requests.remove(&id);
        }
        weight
    }

    /// Returns true if a large request is on its way to the front.
    pub fn has_requests(&self) -> bool {
        !self.waiting().requests.is_empty()
    }

    /// The front asks the editor.
    pub(super) fn asks(&self, id: &Value) {
        self.waiting().answers.insert(id.to_string(), None);
    }

    /// The front has its answer, or waits no longer.
    pub(super) fn answered(&self, id: &Value) -> Option<Weight> {
        self.waiting().answers.remove(&id.to_string())?
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_weight_is_given_back_with_its_message_and_nobody_sends_one_for_nothing() {
        let weights = Weights::default();
        let held = Arc::new(());
        let weight = || Weight::of(held.clone());
        weights.request(&json!(1), weight());
        weights.request(&json!(1), weight());
        weights.request(&json!("1"), weight());
        assert!(weights.take(&json!(2)).is_none());
        assert!(weights.take(&json!(1)).is_some() && weights.take(&json!(1)).is_some());
        assert!(weights.take(&json!(1)).is_none() && weights.has_requests());
        assert!(weights.take(&json!("1")).is_some() && !weights.has_requests());
        // An answer that nobody waits for, or waits for any longer.
        assert!(!weights.answer(&json!("q"), weight()));
        weights.asks(&json!("q"));
        assert!(weights.answer(&json!("q"), weight()));
        assert!(weights.answered(&json!("q")).is_some());
        assert!(!weights.answer(&json!("q"), weight()));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
