//! Permissions that agents ask for: `kennel permissions` and `kennel answer`.

use protocol::api::{AnswerRequest, PermissionAnswer, PermissionInfo};
use protocol::wire::PermissionOption;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render::{self, BOLD, DIM, paint};
use crate::cli::ui::table::broken;
use crate::client::Request;

/// Indent of what an agent asks for, below the line with the session.
const INDENT: usize = 2;

/// `permissions`.
pub async fn permissions(link: &Link<'_>, args: args::Permissions) -> Outcome {
    match args {
        args::Permissions::Ls { id } => ls(link, id.as_deref()).await,
        args::Permissions::Allow { permission, option } => {
            let answer = option.map_or(PermissionAnswer::Allow, PermissionAnswer::Option);
            give(link, &asked(link, &permission).await?, answer).await
        }
        args::Permissions::Deny { permission } => {
            give(link, &asked(link, &permission).await?, PermissionAnswer::Deny).await
        }
    }
}

/// `answer`.
pub async fn answer(link: &Link<'_>, args: args::Answer) -> Outcome {
    let permission = asked(link, &args.permission).await?;
    let (answer, told) = match &args.option {
        Some(typed) => {
            let option = meant(&permission, typed)?;
            (PermissionAnswer::Option(option.id.clone()), option.name.clone())
        }
        None if args.allow => (PermissionAnswer::Allow, "allowed".to_owned()),
        None => (PermissionAnswer::Deny, "denied".to_owned()),
    };
    give(link, &permission, answer).await?;
    let PermissionInfo { permission_id, title, .. } = &permission;
    link.ui.note(&format!("{}: {permission_id}: {title}: {told}", session(&permission)));
    Ok(())
}

async fn ls(link: &Link<'_>, typed: Option<&str>) -> Outcome {
    let path = match typed {
        Some(typed) => format!("/v1/sessions/{}/permissions", link.find(typed).await?),
        None => "/v1/permissions".to_owned(),
    };
    let answer = link.ask(Request::get(path)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    for permission in read::<Vec<PermissionInfo>>(&answer)? {
        link.ui.print(&shown(link.ui, &permission))?;
    }
    Ok(())
}

/// A permission for people: its session, what the agent asks for in full, and the options with the numbers that answer.
fn shown(ui: &Ui, permission: &PermissionInfo) -> String {
    let colour = ui.out_colour;
    let wrapped = |text: &str, from: usize, indent: usize| match ui.columns {
        Some(columns) => broken(text, from, columns, indent),
        None => text.to_owned(),
    };
    let head = format!("{}  {}", permission.permission_id, session(permission));
    let mut text = format!("{}\n", paint(&wrapped(&head, 0, INDENT), BOLD, colour));
    let mut put = |lines: &str, before: &str| {
        for line in render::block(lines).lines() {
            let line = wrapped(&format!("{before}{line}"), INDENT, INDENT + before.len());
            text += &format!("{:INDENT$}{line}\n", "");
        }
    };
    put(&permission.title, "");
    if let Some(command) = permission.command.as_ref().filter(|command| **command != permission.title) {
        put(command, "$ ");
    }
    for (number, option) in (1..).zip(&permission.options) {
        put(&render::line(&about(option)), &format!("{number}) "));
    }
    // By its own id: the session may ask something else by the time that somebody answers.
    let typed = &permission.permission_id;
    let how = wrapped(&ui.addressed(&format!("`kennel answer {typed} NUMBER` answers")), INDENT, INDENT);
    text + &format!("{:INDENT$}{}\n", "", paint(&how, DIM, colour))
}

fn session(permission: &PermissionInfo) -> String {
    render::session(&permission.session_id, permission.session_name.as_ref())
}

/// An option with its kind in kennel's words: its name is the agent's, and can say the opposite.
pub(in crate::cli) fn offer(option: &PermissionOption) -> String {
    format!("{} ({})", option.name, kind(option))
}

fn kind(option: &PermissionOption) -> String {
    match option.kind.is_empty() {
        true => "of no kind".to_owned(),
        false => option.kind.replace('_', " "),
    }
}

/// An option by its name, its kind, and its id where that is another word.
fn about(option: &PermissionOption) -> String {
    match option.name == option.id {
        true => offer(option),
        false => format!("{} ({}; {})", option.name, kind(option), option.id),
    }
}

/// The permission of this id, or the only one for which this session waits.
async fn asked(link: &Link<'_>, typed: &str) -> Outcome<PermissionInfo> {
    if let Ok(id) = typed.parse() {
        let waiting: Vec<PermissionInfo> = link.get(Request::get("/v1/permissions")).await?;
        let found = waiting.into_iter().find(|waiting| waiting.permission_id == id);
        return found.ok_or_else(|| {
            let what = format!("`{id}` does not wait: it was answered, has expired, or never was");
            gone(what)
        });
    }
    let path = format!("/v1/sessions/{}/permissions", link.find(typed).await?);
    let mut waiting: Vec<PermissionInfo> = link.get(Request::get(path)).await?;
    let Some(first) = waiting.pop() else {
        return Err(gone(format!(
            "`{typed}` waits for no permission: it was answered, has expired, or never was"
        )));
    };
    if waiting.is_empty() {
        return Ok(first);
    }
    let ids = waiting.iter().chain([&first]).map(|waiting| waiting.permission_id.to_string());
    let (all, count) = (ids.collect::<Vec<_>>().join(", "), waiting.len() + 1);
    let what = format!("`{typed}` waits for {count} permissions ({all}); nothing was answered");
    let hint = format!("name one of them: `kennel answer {} OPTION`", first.permission_id);
    Err(Failure::new(exit::CONFLICT, "ambiguous_permission", what).hint(hint))
}

fn gone(what: String) -> Failure {
    Failure::new(exit::CONFLICT, "permission_settled", what)
        .hint("`kennel permissions ls` lists those that wait")
}

/// The one option that is meant by a number, an id, a name or a kind.
fn meant<'a>(permission: &'a PermissionInfo, typed: &str) -> Outcome<&'a PermissionOption> {
    let word = typed.trim().to_lowercase();
    let is_meant = |(number, option): &(usize, &PermissionOption)| {
        let kind = option.kind.replace('_', " ");
        [&option.id, &option.name, &option.kind, &kind].iter().any(|own| own.to_lowercase() == word)
            || number.to_string() == word
    };
    let found: Vec<_> = (1..).zip(&permission.options).filter(is_meant).collect();
    if let [(_, option)] = found[..] {
        return Ok(option);
    }
    let told: Vec<String> = (1..)
        .zip(&permission.options)
        .map(|(number, option)| format!("{number}) {}", render::line(&about(option))))
        .collect();
    let id = permission.permission_id;
    let (code, what) = match found.is_empty() {
        true => ("no_such_option", format!("{id} has no option `{typed}`; nothing was answered")),
        false => (
            "ambiguous_option",
            format!("`{typed}` is {} options of {id}; nothing was answered", found.len()),
        ),
    };
    // Whoever names an id of the agent's own means no number.
    let exactly = "`kennel permissions allow PERMISSION --option ID` takes an option's id alone";
    Err(Failure::new(exit::USAGE, code, what).hint(format!("it offers {}; {exactly}", told.join(", "))))
}

async fn give(link: &Link<'_>, permission: &PermissionInfo, answer: PermissionAnswer) -> Outcome {
    let PermissionInfo { session_id, permission_id, .. } = permission;
    let path = format!("/v1/sessions/{session_id}/permissions/{permission_id}");
    link.ask(Request::post(path).json(&AnswerRequest { answer })).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(options: &[(&str, &str, &str)]) -> PermissionInfo {
        let option = |(id, name, kind): &(&str, &str, &str)| PermissionOption {
            id: (*id).into(),
            name: (*name).into(),
            kind: (*kind).into(),
        };
        PermissionInfo {
            permission_id: protocol::PermissionId(17),
            session_id: "session-7".parse().unwrap(),
            session_name: "web".parse().ok(),
            prompt_id: None,
            command: None,
            title: "rm -rf target".into(),
            options: options.iter().map(option).collect(),
            asked_at: protocol::event::Timestamp(0),
        }
    }

    #[test]
    fn an_option_is_meant_by_number_name_id_or_kind_and_only_if_it_is_the_only_one() {
        let plain = permission(&[
            ("yes", "Yes, once", "allow_once"),
            ("always", "Always", "allow_always"),
            ("no", "No", "reject_once"),
        ]);
        for (typed, id) in [
            ("1", "yes"),
            ("yes, ONCE", "yes"),
            ("allow_once", "yes"),
            ("allow always", "always"),
            ("no", "no"),
            (" 3 ", "no"),
        ] {
            assert_eq!(meant(&plain, typed).unwrap().id, id, "{typed}");
        }
        for typed in ["", "0", "4", "y", "-1", "01"] {
            let failure = meant(&plain, typed).unwrap_err();
            assert!(failure.is("no_such_option"), "{typed}");
            let text = failure.text(false, false).unwrap();
            assert!(text.contains("1) Yes, once (allow once; yes), 2) Always"), "{text}");
        }
        // An id that is another option's number, and two of one name.
        let odd = permission(&[("2", "A", "allow_once"), ("1", "B", "reject_once"), ("x", "b", "")]);
        for typed in ["1", "2", "B"] {
            assert!(meant(&odd, typed).unwrap_err().is("ambiguous_option"), "{typed}");
        }
        assert_eq!(meant(&odd, "3").unwrap().id, "x");
    }
}
