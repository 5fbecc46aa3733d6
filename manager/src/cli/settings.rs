//! `set`: what can be set in a session's agent, and setting it.

use protocol::api::{SettingReply, SettingRequest, SettingsInfo};
use serde_json::Value;

use super::args;
use super::error::{Failure, Outcome};
use super::link::{Link, read};
use super::render::Table;
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
    if let Some(modes) = &settings.modes {
        let now = modes["currentModeId"].as_str().unwrap_or_default();
        table.row(vec!["mode".into(), now.into(), values(&modes["availableModes"], "id").into()]);
    }
    for option in settings.config_options.iter().filter_map(Value::as_array).flatten() {
        let now = option["currentValue"].to_string();
        let name = option["id"].as_str().unwrap_or_default();
        let choices = match option["type"].as_str() {
            Some("boolean") => "true, false".to_owned(),
            _ => values(&option["options"], "value"),
        };
        table.row(vec![name.into(), now.trim_matches('"').into(), choices.into()]);
    }
    for (name, value) in &settings.waiting {
        table.row(vec![name.as_str().into(), format!("{value}, once the agent is ready").into(), "".into()]);
    }
    link.ui.print(&table.text(link.ui.out_colour))
}

/// The ids of what can be chosen, in groups or not.
fn values(choices: &Value, id: &str) -> String {
    fn collect<'a>(choices: &'a Value, id: &str, into: &mut Vec<&'a str>) {
        for choice in choices.as_array().into_iter().flatten() {
            into.extend(choice[id].as_str());
            collect(&choice["options"], id, into);
        }
    }
    let mut all = Vec::new();
    collect(choices, id, &mut all);
    all.join(", ")
}
