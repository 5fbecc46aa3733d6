//! `set`: what can be set in a session's agent, and setting it.

use protocol::api::{SettingReply, SettingRequest, SettingsInfo};
use protocol::settings::{mode_option, now};
use serde_json::Value;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::table::Table;
use crate::client::{Request, encoded};

/// `set`.
pub async fn set(link: &Link<'_>, args: args::Set) -> Outcome {
    let id = link.find(&args.id).await?;
    let path = format!("/v1/sessions/{id}/settings");
    if args.pairs.is_empty() {
        return list(link, &path).await;
    }
    // All of them are looked at before the first is sent.
    let mut pairs = Vec::new();
    for pair in &args.pairs {
        let wrong = || {
            Failure::usage(format!("`{pair}` is not NAME=VALUE; nothing was set"))
                .hint(format!("`kennel set {id}` lists what can be set"))
        };
        pairs.push(pair.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?);
    }
    for (name, value) in pairs {
        let request = SettingRequest { value: value.to_owned() };
        let request = Request::put(format!("{path}/{}", encoded(name))).json(&request);
        let answer = link.ui.waiting(&format!("setting {name}"), link.ask(request.patient())).await?;
        if link.ui.json {
            link.ui.object(&answer)?;
        } else if read::<SettingReply>(&answer)?.answer.is_none() {
            link.ui.note(&format!(
                "{name} is set when the agent is ready; `kennel events {id} -f` tells what it says"
            ));
        }
    }
    Ok(())
}

async fn list(link: &Link<'_>, path: &str) -> Outcome {
    let answer = link.ask(Request::get(path)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let settings: SettingsInfo = read(&answer)?;
    let mut table = Table::new(&["SETTING", "NOW", "CAN BE"]);
    for row in rows(&settings) {
        table.row(row.into_iter().map(Into::into).collect());
    }
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))
}

/// A row for each setting: its name, what the agent last confirmed, what it can be.
fn rows(settings: &SettingsInfo) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let no_options = Value::Null;
    let options = settings.config_options.as_ref().unwrap_or(&no_options);
    let mode_option = mode_option(options).map(|option| option["id"].clone());
    // An agent that has its mode as an option, too, has one mode.
    if let Some(modes) = settings.modes.as_ref().filter(|_| mode_option.is_none()) {
        let now = modes["currentModeId"].as_str().unwrap_or_default().to_owned();
        rows.push(["mode".to_owned(), now, values(&modes["availableModes"], "id").join(", ")]);
    }
    for option in options.as_array().into_iter().flatten() {
        let name = option["id"].as_str().unwrap_or_default();
        let choices = match option["type"].as_str() {
            Some("boolean") => "true, false".to_owned(),
            _ => values(&option["options"], "value").join(", "),
        };
        rows.push([name.to_owned(), now(options, name).unwrap_or_default(), choices]);
    }
    let row_of = |name: &str| mode_option.as_ref().and_then(Value::as_str).filter(|_| name == "mode");
    for (name, value) in &settings.set {
        let name = row_of(name).unwrap_or(name);
        match rows.iter_mut().find(|row| row[0] == name) {
            Some([_, now, _]) if now != value => *now = format!("{now} ({value} was set)"),
            Some(_) => {}
            None => rows.push([name.to_owned(), format!("- ({value} was set)"), String::new()]),
        }
    }
    for (name, value) in &settings.waiting {
        rows.push([name.clone(), format!("{value}, once the agent is ready"), String::new()]);
    }
    rows
}

/// The ids of what can be chosen, in groups or not.
fn values<'a>(choices: &'a Value, id: &str) -> Vec<&'a str> {
    fn collect<'a>(choices: &'a Value, id: &str, into: &mut Vec<&'a str>) {
        for choice in choices.as_array().into_iter().flatten() {
            into.extend(choice[id].as_str());
            collect(&choice["options"], id, into);
        }
    }
    let mut all = Vec::new();
    collect(choices, id, &mut all);
    all
}

/// The settings of an agent, and the values that each can have.
pub fn choices(settings: &SettingsInfo) -> Vec<(String, Vec<String>)> {
    let owned = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    let no_options = Value::Null;
    let options = settings.config_options.as_ref().unwrap_or(&no_options);
    let mut all = Vec::new();
    if let Some(modes) = settings.modes.as_ref().filter(|_| mode_option(options).is_none()) {
        all.push(("mode".to_owned(), owned(values(&modes["availableModes"], "id"))));
    }
    for option in options.as_array().into_iter().flatten() {
        let choices = match option["type"].as_str() {
            Some("boolean") => vec!["true", "false"],
            _ => values(&option["options"], "value"),
        };
        all.push((option["id"].as_str().unwrap_or_default().to_owned(), owned(choices)));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_is_what_the_agent_confirmed_and_what_was_set_beside_it() {
        let mode = json!({ "id": "approvals", "category": "mode", "type": "select", "currentValue": "ask",
            "options": [{ "value": "ask" }, { "value": "yolo" }] });
        let brief = json!({ "id": "brief", "type": "boolean", "currentValue": true });
        let modes = json!({ "currentModeId": "ask", "availableModes": [{ "id": "ask" }] });
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let settings = SettingsInfo {
            modes: Some(modes),
            config_options: Some(json!([mode, brief])),
            set: map(&[("mode", "yolo"), ("brief", "true"), ("gone", "x")]),
            waiting: map(&[("model", "big")]),
        };
        let text = |row: &[&str; 3]| row.map(str::to_owned);
        let wanted = [
            ["approvals", "ask (yolo was set)", "ask, yolo"],
            ["brief", "true", "true, false"],
            ["gone", "- (x was set)", ""],
            ["model", "big, once the agent is ready", ""],
        ];
        assert_eq!(rows(&settings), wanted.iter().map(text).collect::<Vec<_>>());
        let settings = SettingsInfo { config_options: None, set: map(&[("mode", "ask")]), ..settings };
        assert_eq!(rows(&settings)[0], text(&["mode", "ask", "ask"]));
    }
}
