//! Prompts: forgotten, accepted twice, run again.

use super::super::*;
use super::story::{Story, child, created, id};

#[test]
fn a_life_without_fault_is_found_without_fault() {
    let mut story = Story::default();
    story.history.texts_are_unique();
    story.created().ready(1);
    let first = story.prompt("one");
    story.turn(1, 1, first).chunk(1, 1, first);
    let second = story.prompt("two");
    story.history.acknowledged(&id(), second, Some("key"));
    story.interrupted(1, 1, first, true).restarting(1).ready(2).restarted(2);
    story.turn(2, 2, first).completed(2, 2, first).turn(2, 3, second).interrupted(2, 3, second, false);
    story.stopped(2).add(2, EventKind::SessionDeleted {});
    story.add(3, created()).ready(3);
    let open = story.prompt("one");
    story.finish(&[open]);
    story.is_fine();
}

#[test]
fn event_ids_that_do_not_grow_are_found() {
    let mut story = Story::default();
    story.created();
    story.next -= 1;
    story.started(1).is_wrong("recorded after");
}

#[test]
fn a_prompt_that_ends_twice_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).completed(1, 1, prompt).is_fine();
    story.removed(prompt).is_wrong("is Ended and not Queued");
}

#[test]
fn a_prompt_that_runs_again_after_its_end_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).interrupted(1, 1, prompt, false).is_fine();
    story.turn(1, 2, prompt).is_wrong("is Interrupted and not Queued");
}

#[test]
fn a_prompt_that_is_forgotten_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.finish(&[]);
    story.is_wrong(&format!("{prompt} was accepted, has not ended, and is forgotten"));
}

#[test]
fn a_prompt_that_has_ended_and_still_waits_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).completed(1, 1, prompt).finish(&[prompt]);
    story.is_wrong("has ended and still stands");
}

#[test]
fn an_acknowledged_prompt_that_is_in_no_journal_is_found() {
    let mut story = Story::default();
    story.created().history.acknowledged(&id(), PromptId(7), None);
    story.finish(&[]);
    story.is_wrong("in no journal");
}

#[test]
fn a_prompt_that_is_accepted_twice_is_found() {
    let mut story = Story::default();
    story.history.texts_are_unique();
    story.created().prompt("one");
    story.prompt("one");
    story.is_wrong("`one` was accepted before");
}

#[test]
fn a_key_that_stands_for_two_prompts_is_found() {
    let mut story = Story::default();
    let (first, second) = (story.created().prompt("one"), story.prompt("two"));
    story.history.acknowledged(&id(), first, Some("key"));
    story.history.acknowledged(&id(), first, Some("key"));
    story.is_fine();
    story.history.acknowledged(&id(), second, Some("key"));
    story.is_wrong("key `key` stood for");
}

#[test]
fn a_key_that_created_two_sessions_is_found() {
    let mut story = Story::default();
    story.history.created(&id(), Some("key"));
    story.history.created(&child(), Some("key"));
    story.is_wrong("key `key` stood for session-1");
}
