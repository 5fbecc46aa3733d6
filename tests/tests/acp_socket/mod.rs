//! `/v1/acp`: editors by WebSocket. First what holds for `kennel acp` as well, then what a connection adds: hostile frames, cuts,
//! several clients.

mod cuts;
mod frames;
mod seats;

use crate::acp_side::{over_sockets, permissions, prompts, sessions, settings, survival};

/// The scenarios of `kennel acp` that say the same over a WebSocket.
macro_rules! the_same {
    ($($room:ident::$name:ident,)*) => {
        $(#[test]
        fn $name() {
            over_sockets($room::$name);
        })*
    };
}

the_same! {
    prompts::a_prompt_streams_what_the_agent_tells_as_it_came,
    prompts::a_prompts_blocks_become_one_text_for_an_agent_that_takes_nothing_else,
    prompts::pictures_sounds_and_files_of_an_editor_go_through_to_the_agent,
    prompts::cancel_ends_what_runs_and_what_waits,
    prompts::cancel_ends_the_turn_also_while_prompts_behind_it_are_on_their_way,
    prompts::an_agent_without_the_protocol_is_shown_by_its_text,
    prompts::sub_agents_within_an_agent_are_recorded_and_shown_to_editors_that_know_them,
    permissions::a_permission_goes_to_the_editor_and_its_answer_to_the_agent,
    permissions::a_permission_that_somebody_else_answers_is_withdrawn_from_the_editor,
    permissions::what_a_policy_answers_is_not_asked,
    permissions::a_turn_is_seen_in_every_editor_and_asks_only_the_one_it_belongs_to,
    permissions::a_question_that_the_user_closes_is_answered,
    sessions::sessions_are_listed_by_directory_and_one_can_be_the_directorys_own,
    sessions::what_cannot_be_done_is_said_clearly,
    sessions::one_bad_server_of_an_editor_costs_no_other,
    sessions::a_session_that_could_not_begin_leaves_nothing,
    sessions::a_session_that_is_closed_has_no_process_and_can_be_opened_again,
    settings::modes_and_options_go_through_to_the_agent_and_everybody_is_told,
    settings::a_system_prompt_of_an_editor_goes_through_to_the_agent,
    survival::kill_worker_mid_turn_is_a_message_and_the_next_prompt_works,
}
