//! Processes: two at once, words after death, restarts.

use manager::core::Cause;
use protocol::Restore;

use super::super::*;
use super::story::{Story, failed, id, restarting};

#[test]
fn output_of_a_dead_incarnation_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story
        .turn(1, 1, prompt)
        .interrupted(1, 1, prompt, true)
        .restarting(1)
        .ready(2)
        .turn(2, 2, prompt)
        .is_fine();
    story.chunk(1, 2, prompt).is_wrong("incarnation 1 speaks");
}

#[test]
fn a_word_after_the_exit_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).is_fine();
    let ready = EventKind::SessionReady { pid: 100, agent_pid: None, restore: Restore::Fresh };
    story.add(1, ready).is_wrong("incarnation 1 speaks, and None lives");
}

#[test]
fn a_turn_that_outlives_its_process_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).restarting(1).is_wrong("has not ended");
}

#[test]
fn two_turns_at_once_are_found() {
    let mut story = Story::default();
    let (first, second) = (story.created().ready(1).prompt("one"), story.prompt("two"));
    story.turn(1, 1, first).turn(1, 2, second).is_wrong("the turn of");
}

#[test]
fn a_turn_of_a_prompt_that_was_not_started_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story
        .add(1, EventKind::TurnStarted { turn: 1, prompt_id: prompt, agent_pid: 9 })
        .is_wrong("began where None");
}

#[test]
fn an_exit_that_is_told_twice_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).is_fine();
    story.add(1, failed()).is_wrong("was told before");
}

#[test]
fn an_exit_that_is_not_told_is_found() {
    let mut story = Story::default();
    story.created().started(1).started(2).is_wrong("the end of incarnation 1 was not told");
}

#[test]
fn an_incarnation_that_is_used_again_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).started(1).is_wrong("incarnation 1 began after 1");
}

#[test]
fn an_incarnation_of_a_removed_session_that_is_used_again_is_found() {
    let mut story = Story::default();
    story.created().started(1).stopped(1).add(1, EventKind::SessionDeleted {}).is_fine();
    story.created().is_wrong("was that of a removed session");
}

#[test]
fn a_restart_that_nobody_announced_is_found() {
    let mut story = Story::default();
    story.created().ready(1).restarted(1).is_wrong("nothing was being restarted");
}

#[test]
fn prompts_that_wait_in_a_stopped_session_are_found() {
    let mut story = Story::default();
    story.created().ready(1).prompt("one");
    story.stopped(1).is_wrong("still waits");
}

#[test]
fn two_workers_of_one_session_are_found() {
    let mut story = Story::default();
    story.created().history.worker_began(&id(), 1);
    story.history.worker_ended(&id(), 1, Exit::Unknown);
    story.history.worker_began(&id(), 2);
    story.is_fine();
    story.history.worker_began(&id(), 3);
    story.is_wrong("live at once");
}

#[test]
fn too_many_restarts_are_found() {
    let mut story = Story::default();
    story.created().history.policy(&id(), 2, 60_000);
    story.started(1).restarting(1).started(2).restarting(2).started(3);
    story.add(3, restarting(&Cause::ManagerLost.to_string())).started(4).is_fine();
    story.restarting(4).is_wrong("restart 3 within 60000 ms");
}

#[test]
fn restarts_by_hand_begin_a_new_budget() {
    let mut story = Story::default();
    story.created().history.policy(&id(), 1, 60_000);
    story.started(1).restarting(1).history.restarted_by_hand(&id());
    story.started(2).restarting(2).is_fine();
}

#[test]
fn a_token_that_changes_is_found() {
    let mut story = Story::default();
    story.created().history.token(&id(), "one");
    story.history.token(&id(), "one");
    story.is_fine();
    story.history.token(&id(), "two");
    story.is_wrong("token has changed");
}
