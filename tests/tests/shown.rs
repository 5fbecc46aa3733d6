//! kennel shows an agent's settings as the agent last confirmed them, on real processes.

use harness::real::*;
use manager::protocol::SessionId;
use manager::protocol::api::{SessionInfo, SessionOpts, SettingsInfo};
use manager::protocol::event::EventKind;

async fn host() -> Host {
    let host = Host::new().await;
    let program = beside("acp-agent");
    let profile = |(name, options): (&str, &str)| {
        format!("[agents.{name}]\nkind = \"acp\"\ncommand = [\"{}\"{options}]\n", program.display())
    };
    let config: String = [
        ("plain", ""),
        ("two-modes", ", \"--two-modes\""),
        ("one-form", ", \"--one-form\""),
        ("stubborn", ", \"--stubborn\""),
        ("models", ", \"--models\""),
    ]
    .map(profile)
    .concat();
    std::fs::write(host.config(), config).unwrap();
    host
}

async fn session(host: &Host, agent: &str, model: Option<&str>) -> SessionId {
    let model = model.map(str::to_owned);
    host.session_with(SessionOpts { agent: Some(agent.into()), model, grace_ms: Some(500), ..host.opts() })
        .await
}

async fn replaced(host: &Host, id: &SessionId) {
    kill(host.pid(id).await);
    host.event(id, "another process", |kind| matches!(kind, EventKind::SessionRestarted { .. })).await;
}

async fn prompt_until(host: &Host, id: &SessionId, words: &str) {
    host.event(id, words, |kind| matches!(kind, EventKind::SystemMessage { text } if text.contains(words)))
        .await;
}

/// The mode in the forms that the agent has it in.
fn modes(info: &SettingsInfo) -> Vec<&str> {
    let mode = info.modes.as_ref().map(|modes| modes["currentModeId"].as_str().unwrap());
    let options = info.config_options.iter().filter_map(|options| options.as_array()).flatten();
    let option =
        options.filter(|option| option["category"] == "mode").map(|it| it["currentValue"].as_str().unwrap());
    mode.into_iter().chain(option).collect()
}

#[tokio::test]
async fn the_mode_that_is_shown_is_the_one_that_the_agent_is_in_also_after_a_restart() {
    let host = host().await;
    for (agent, forms) in [("plain", 1), ("two-modes", 2), ("one-form", 2)] {
        let id = session(&host, agent, None).await;
        let code = || vec!["code"; forms];
        host.manager.set(&id, "mode", "code", BOUND).await.unwrap();
        assert_eq!(modes(&host.manager.settings(&id).await.unwrap()), code(), "{agent}");
        replaced(&host, &id).await;
        assert!(host.run(&id, "settings").await.starts_with("mode code "), "{agent}");
        assert_eq!(modes(&host.manager.settings(&id).await.unwrap()), code(), "{agent}: after a restart");
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_mode_that_the_agent_does_not_confirm_is_not_shown_and_that_is_said() {
    let host = host().await;
    let id = session(&host, "stubborn", None).await;
    let words = "was asked to set mode=code, and says that it is ask";
    host.manager.set(&id, "mode", "code", BOUND).await.unwrap();
    prompt_until(&host, &id, words).await;
    let info = host.manager.settings(&id).await.unwrap();
    assert_eq!((modes(&info), info.set["mode"].as_str()), (vec!["ask"], "code"));
    let before = host.events(&id).await.last().unwrap().id;
    replaced(&host, &id).await;
    let again = host.events(&id).await.into_iter().filter(|event| {
        event.id > before && matches!(&event.kind, EventKind::SystemMessage { text } if text.contains(words))
    });
    assert_eq!(again.count(), 1, "it is said in each process");
    assert_eq!(modes(&host.manager.settings(&id).await.unwrap()), ["ask"]);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_model_is_shown_as_the_agent_has_confirmed_it() {
    let host = host().await;
    let shown = async |id: &SessionId| {
        let SessionInfo { model, agent_model, .. } = host.manager.get_session(id).await.unwrap();
        (model, agent_model)
    };
    let is = |asked: &str, now: Option<&str>| (Some(asked.to_owned()), now.map(str::to_owned));
    let id = session(&host, "plain", Some("big")).await;
    prompt_until(&host, &id, "offers no choice of its model: `big` was asked for").await;
    assert_eq!(shown(&id).await, is("big", None));
    let id = session(&host, "models", Some("big")).await;
    assert_eq!(shown(&id).await, is("big", Some("big")));
    host.manager.set(&id, "model", "small", BOUND).await.unwrap();
    assert_eq!(shown(&id).await, is("big", Some("small")));
    replaced(&host, &id).await;
    assert_eq!(shown(&id).await, is("big", Some("small")), "what was set last is set again");
    let id = session(&host, "models", Some("huge")).await;
    prompt_until(&host, &id, "did not set model=huge").await;
    assert_eq!(shown(&id).await, is("huge", Some("small")));
    host.manager.shutdown().await;
}
