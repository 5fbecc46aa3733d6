use proptest::prelude::*;
use protocol::event::{Event, Timestamp};
use serde_json::{Value, json};

use super::*;

/// An event with this id, by its type and data.
fn event(id: u64, kind: &str, data: &Value) -> Event {
    let whole = json!({ "id": id, "at": "2026-01-31T12:00:00.000Z", "session": "session-1", "incarnation": 1,
        "type": kind, "data": data });
    let mut event: Event = serde_json::from_value(whole).unwrap();
    event.at = Timestamp(1_000 * id);
    event
}

/// Events of turns, as the numbers say.
fn events(numbers: &[u8]) -> Vec<Event> {
    let (mut all, mut runs, mut waiting) = (Vec::new(), false, Vec::new());
    for number in numbers {
        let id = all.len() as u64 + 1;
        let tool = format!("tool-{}", number % 3);
        let of = |mut data: Value| {
            data["turn"] = json!(1);
            data["prompt_id"] = json!("prompt-1");
            data
        };
        let (kind, data) = match number % 16 {
            _ if !runs && number % 3 == 0 => {
                let prompt = json!({ "prompt_id": "prompt-7", "text": "do it", "disposition": "queued", "retry_of": null });
                ("prompt.accepted", prompt)
            }
            _ if !runs && number % 3 == 1 => (
                "session.restarted",
                json!({ "old_pid": 1, "new_pid": 2, "reason": "x", "restore": "loaded" }),
            ),
            _ if !runs => {
                runs = true;
                all.push(event(id, "prompt.started", &json!({ "prompt_id": "prompt-7" })));
                all.push(event(id + 1, "turn.started", &of(json!({ "agent_pid": 5 }))));
                continue;
            }
            0..=3 => (
                "message.chunk",
                of(json!({ "stream": "stdout", "text": format!("a{number} "), "payload": {} })),
            ),
            4 => ("message.chunk", of(json!({ "stream": "stdout", "text": format!("\r{number}%") }))),
            5 => ("message.chunk", of(json!({ "stream": "stdout", "text": format!("o{number}\n") }))),
            6 => ("thought.chunk", of(json!({ "text": "hm ", "payload": {} }))),
            7 | 8 => {
                ("tool_call.started", of(json!({ "tool_call_id": tool, "title": "a tool", "payload": {} })))
            }
            9 => (
                "tool_call.updated",
                of(json!({ "tool_call_id": tool, "payload": { "title": format!("t{number}") } })),
            ),
            10 => (
                "tool_call.updated",
                of(json!({ "tool_call_id": tool, "payload": { "status": "completed" } })),
            ),
            11 => (
                "plan.updated",
                of(
                    json!({ "payload": { "entries": [{ "content": format!("p{number}"), "status": "pending" }] } }),
                ),
            ),
            12 => {
                let options = json!([{ "id": "yes", "name": "Yes", "kind": "allow_once" }]);
                // The event's id is the permission's.
                waiting.push(id);
                let asked = json!({ "permission_id": format!("permission-{id}"), "tool_call_id": tool, "title": "may I?", "options": options, "payload": {} });
                ("permission.requested", of(asked))
            }
            13 => {
                let Some(asked) = waiting.pop() else { continue };
                let id = format!("permission-{asked}");
                ("permission.resolved", json!({ "permission_id": id, "option_id": "yes", "by": "user" }))
            }
            14 => (
                "usage.updated",
                json!({ "usage": { "input_tokens": 1, "output_tokens": 1 }, "payload": {} }),
            ),
            _ => {
                runs = false;
                (
                    "turn.completed",
                    of(json!({ "outcome": "completed", "stop_reason": "end_turn", "exit": null })),
                )
            }
        };
        all.push(event(id, kind, &data));
    }
    all
}

fn taken(events: &[Event]) -> Conversation {
    let mut chat = Conversation::default();
    events.iter().for_each(|event| chat.take(event));
    chat
}

fn kinds(chat: &Conversation) -> Vec<(Kind, Timestamp)> {
    chat.items().iter().map(|item| (item.kind.clone(), item.at)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn two_stretches_that_are_joined_are_one(numbers in prop::collection::vec(any::<u8>(), 0..60), cut in 0_usize..60) {
        let all = events(&numbers);
        let cut = cut.min(all.len());
        let mut newer = taken(&all[cut..]);
        newer.prepend(taken(&all[..cut]));
        prop_assert_eq!(kinds(&newer), kinds(&taken(&all)));
        prop_assert!(newer.items().iter().zip(newer.items().iter().skip(1)).all(|(a, b)| a.number < b.number));
        prop_assert_eq!(newer.bytes, newer.items().iter().map(|item| item.kind.bytes()).sum::<usize>());
        // What comes later finds what either stretch has begun.
        let more = events(&[numbers.clone(), vec![2, 10, 13, 11, 15]].concat());
        let mut whole = taken(&all);
        for event in &more[all.len()..] {
            newer.take(event);
            whole.take(event);
        }
        prop_assert_eq!(kinds(&newer), kinds(&whole));
    }
}

fn chunk(id: u64, text: &str) -> Event {
    let data = json!({ "turn": 1, "prompt_id": "prompt-1", "stream": "stdout", "text": text, "payload": {} });
    event(id, "message.chunk", &data)
}

#[test]
fn a_window_that_is_full_loses_its_far_end_and_can_load_it_again() {
    let mut chat = Conversation { whole: true, ..Conversation::default() };
    let text = "x".repeat(1 << 20);
    for id in 1..=40 {
        chat.take(&chunk(2 * id, &text));
        chat.take(&event(2 * id + 1, "system.message", &json!({ "text": "between" })));
    }
    assert!(chat.bytes <= MOST_BYTES && !chat.whole && chat.from > 30, "{} {}", chat.bytes, chat.from);
    let from = chat.from;
    let older: Vec<Event> = (1..=from)
        .map(|id| {
            if id % 2 == 0 { chunk(id, &text) } else { event(id, "system.message", &json!({ "text": "b" })) }
        })
        .collect();
    chat.prepend(taken(&older));
    assert!(chat.bytes <= MOST_BYTES && chat.cut, "{}", chat.bytes);
    let count = chat.items().len();
    chat.news(&chunk(200, "new"), 3);
    assert_eq!(chat.items().len(), count, "what is far from the screen is not taken");
    // What follows the part that is left is each event that was given up, and once.
    let all: Vec<Event> = (1..=100)
        .map(|id| match id % 2 {
            0 => chunk(id, &text[..1_000]),
            _ => event(id, "system.message", &json!({ "text": "b" })),
        })
        .collect();
    let mut chat = Conversation::default();
    chat.append(&all[50..], true);
    while chat.items().len() > 5 {
        let item = chat.items.pop_back().unwrap();
        chat.last = item.first - 1;
    }
    chat.cut = true;
    let left = usize::try_from(chat.last).unwrap();
    chat.append(&all[left..], true);
    let whole = taken(&all[50..]);
    assert_eq!(kinds(&chat), kinds(&whole));
}

#[test]
fn a_part_that_replaces_another_has_each_event_once_and_numbers_of_its_own() {
    let said = |ids: std::ops::Range<u64>| {
        let of = |id| event(id, "system.message", &json!({ "text": id.to_string() }));
        taken(&ids.map(of).collect::<Vec<_>>())
    };
    let firsts = |chat: &Conversation| chat.items().iter().map(|item| item.first).collect::<Vec<_>>();
    let mut chat = said(1..5);
    let before: Vec<i64> = chat.items().iter().map(|item| item.number).collect();
    chat.replace(said(3..10));
    assert_eq!((firsts(&chat), chat.cut, chat.from), ((3..10).collect(), false, 0));
    assert!(
        chat.items().iter().all(|item| !before.contains(&item.number)),
        "what is drawn is kept by its number"
    );
    // An event that was read from the journal comes as news, too.
    chat.take(&event(9, "system.message", &json!({ "text": "9" })));
    chat.take(&event(11, "system.message", &json!({ "text": "11" })));
    assert_eq!(chat.items().back().map(|item| item.first), Some(11));
    assert_eq!(chat.items().len(), 8);
    // News that come while a part is read follow it, unless there are too many of them.
    let news = |id: u64| event(id, "system.message", &json!({ "text": id.to_string() }));
    chat.cut = true;
    chat.news(&news(20), 10);
    chat.replace(said(3..10));
    assert_eq!((firsts(&chat), chat.cut), ((3..10).chain([20]).collect(), false));
    chat.cut = true;
    chat.news(&news(30), MOST_AHEAD + 1);
    chat.news(&news(31), 10);
    chat.replace(said(3..10));
    assert!(chat.cut, "30 is missing");
    chat.append(&(10..30).map(news).collect::<Vec<_>>(), false);
    assert!(chat.cut);
    chat.append(&[news(30)], true);
    assert_eq!((firsts(&chat), chat.cut), ((3..32).collect(), false));
}

#[test]
fn one_line_of_a_mebibyte_and_ten_thousand_tools_are_taken_in_pieces_and_in_time() {
    let mut chat = Conversation::default();
    chat.take(&chunk(1, &"y".repeat(1 << 20)));
    let lengths = chat.items().iter().map(|item| match &item.kind {
        Kind::Text(text) => text.text.len(),
        _ => 0,
    });
    assert!(lengths.clone().all(|length| length <= item::LONGEST) && lengths.sum::<usize>() == 1 << 20);
    let begun = std::time::Instant::now();
    for id in 0..10_000_u64 {
        let data = json!({ "turn": 1, "prompt_id": "prompt-1", "tool_call_id": format!("t{id}"), "title": "t", "payload": {} });
        chat.take(&event(2 * id + 2, "tool_call.started", &data));
    }
    for id in 0..10_000_u64 {
        let data = json!({ "turn": 1, "prompt_id": "prompt-1", "tool_call_id": format!("t{id}"), "payload": { "status": "completed" } });
        chat.take(&event(2 * id + 30_000, "tool_call.updated", &data));
    }
    assert!(chat.tools.is_empty() && chat.items().len() > 10_000);
    // Each is found by its id: a search through all of them for each takes a hundred times as long.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn progress_that_returns_to_the_beginning_of_its_line_overwrites_it() {
    let mut text = Text::new(Source::Output, false);
    for piece in ["start\n 1%", "\r 50", "%\r\u{1b}[2K100%", "\r\n", "done\u{1b}[K"] {
        text.write(piece);
    }
    assert_eq!(text.text, "start\n100%\ndone");
    let mut answer = Text::new(Source::Answer, false);
    answer.write("a\rb");
    assert_eq!(answer.text, "a\rb");
}

#[test]
fn a_long_text_is_divided_between_paragraphs_and_not_within_code() {
    let mut chat = Conversation::default();
    let code = format!("```\n{}\n```\n\n", "code\n\n".repeat(300));
    for id in 1..=10 {
        chat.take(&chunk(id, &code));
    }
    for item in chat.items() {
        let Kind::Text(text) = &item.kind else { continue };
        assert!(!text.in_code && text.text.matches("```").count() % 2 == 0, "{text:?}");
    }
    assert!(chat.items().len() > 3);
}
