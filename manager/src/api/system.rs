//! The manager itself: its figures, its health, its end.

use std::fmt::Write;

use axum::Json as Reply;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use protocol::api::{ManagerInfo, Status};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::NoBody;
use super::codes::refuses;
use super::input::{Nothing, Query, elsewhere};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::{App, Leave, openapi_json};

refuses!(NoErrors:);

const STATUSES: [Status; 10] = [
    Status::Starting,
    Status::Idle,
    Status::Running,
    Status::RequiresAction,
    Status::Adopting,
    Status::Stopping,
    Status::Restarting,
    Status::Hibernated,
    Status::Stopped,
    Status::Failed,
];

/// The manager's own figures.
#[utoipa::path(get, path = "/v1/manager", tag = "manager", operation_id = "manager_info",
    responses((status = 200, description = "The manager.", body = ManagerInfo), NoErrors))]
pub async fn info(Limited(app): Limited, _: Query<Nothing>) -> Answer<Reply<ManagerInfo>> {
    Ok(Reply(figures(&app).await?))
}

/// Ends the daemon, gracefully.
///
/// The daemon ends all processes and keeps all goals: the next daemon restarts every session whose goal is to run. With
/// `hand_over` the processes go on with their turns, and the next daemon adopts them; without a next daemon a turn goes on
/// for an hour, and an idle session for ten minutes. The answer comes before the end; the daemon is gone when its process is.
#[utoipa::path(post, path = "/v1/manager/stop", tag = "manager", operation_id = "stop_manager", params(StopQuery),
    responses((status = 202, description = "The daemon ends. `pid` is the process to wait for.", body = ManagerInfo), NoErrors))]
pub async fn stop(
    Limited(app): Limited,
    Query(query): Query<StopQuery>,
    _: NoBody,
) -> Answer<(StatusCode, Reply<ManagerInfo>)> {
    let mut info = figures(&app).await?;
    app.stop.request(if query.hand_over { Leave::HandOver } else { Leave::EndAll });
    info.state = "stopping".into();
    Ok((StatusCode::ACCEPTED, Reply(info)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopQuery {
    /// Processes go on, and the next daemon takes them over.
    #[serde(default)]
    #[param(required = false)]
    hand_over: bool,
}

async fn figures(app: &App) -> Answer<ManagerInfo> {
    let mut info = app.manager.info().await?;
    if app.stop.is_requested() {
        info.state = "stopping".into();
    }
    Ok(info)
}

/// Answers while the daemon runs.
#[utoipa::path(get, path = "/healthz", tag = "manager", operation_id = "healthz",
    responses((status = 200, description = "`ok`.", body = String, content_type = "text/plain"), NoErrors))]
pub async fn healthz(_: Query<Nothing>) -> Answer<&'static str> {
    Ok("ok")
}

/// Answers whether the manager takes requests.
#[utoipa::path(get, path = "/readyz", tag = "manager", operation_id = "readyz",
    responses((status = 200, description = "`ready`.", body = String, content_type = "text/plain"), NoErrors))]
pub async fn readyz(Limited(app): Limited, _: Query<Nothing>) -> Answer<&'static str> {
    if figures(&app).await?.state == "stopping" {
        let detail = "the manager is stopping; it takes no requests any more";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "manager_stopping", detail));
    }
    Ok("ready")
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "manager", operation_id = "metrics",
    responses((status = 200, description = "Prometheus' text format.", body = String, content_type = "text/plain"), NoErrors))]
pub async fn metrics(Limited(app): Limited, _: Query<Nothing>) -> Answer<impl IntoResponse> {
    let text = exposition(&figures(&app).await?, app.streams.open(), app.manager.port().refused());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

fn exposition(
    info: &ManagerInfo,
    streams: usize,
    refused: Option<impl IntoIterator<Item = (&'static str, u64)>>,
) -> String {
    let mut out = String::new();
    let mut head = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
        // Writing into a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: String| [(String::new(), value)];
    let sessions = STATUSES.map(|status| {
        let count = info.sessions.get(status.as_str()).copied().unwrap_or(0);
        (format!("{{status=\"{status}\"}}"), count.to_string())
    });
    head("kennel_sessions", "gauge", "Sessions by status.", &sessions);
    head("kennel_last_event_id", "counter", "The last event recorded.", &one(info.last_event_id.to_string()));
    head("kennel_event_streams", "gauge", "Event streams that are open.", &one(streams.to_string()));
    let started = format!("{}.{:03}", info.started_at.0 / 1000, info.started_at.0 % 1000);
    head("kennel_start_time_seconds", "gauge", "When the manager started, in Unix time.", &one(started));
    let build =
        [(format!("{{version=\"{}\"}}", info.version.replace(['"', '\\', '\n'], "")), "1".to_owned())];
    head("kennel_build_info", "gauge", "Version and build.", &build);
    if let Some(refused) = refused {
        let label = |(reason, count)| (format!("{{reason=\"{reason}\"}}"), format!("{count}"));
        let lines: Vec<_> = refused.into_iter().map(label).collect();
        head(
            "kennel_refused_total",
            "counter",
            "Connections and requests that the TLS port refused.",
            &lines,
        );
    }
    out
}

/// This API's description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "manager", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), NoErrors))]
pub async fn openapi(_: Query<Nothing>) -> Answer<impl IntoResponse> {
    // Hardly anybody asks, and it takes a while: nobody waits for it, and no memory holds it.
    let description = elsewhere(openapi_json).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], description))
}

#[cfg(test)]
mod tests {
    use protocol::event::Timestamp;

    use super::*;

    #[test]
    fn metrics_name_every_status() {
        let info = ManagerInfo {
            pid: 1,
            state: "running".into(),
            version: "0.1.0 (\"x\")".into(),
            state_dir: "/".into(),
            config: None,
            started_at: Timestamp(1_500),
            sessions: [("idle".to_owned(), 3)].into(),
            last_event_id: 42,
            spare_workers: Vec::new(),
            listen: None,
            web: None,
            home: None,
        };
        assert!(
            !exposition(&info, 2, None::<Vec<_>>).contains("refused"),
            "without a port there is nothing to say"
        );
        let text = exposition(&info, 2, Some([("key", 7)]));
        for line in [
            "kennel_sessions{status=\"idle\"} 3",
            "kennel_sessions{status=\"failed\"} 0",
            "kennel_last_event_id 42",
            "kennel_event_streams 2",
            "kennel_refused_total{reason=\"key\"} 7",
            "kennel_start_time_seconds 1.500",
            "kennel_build_info{version=\"0.1.0 (x)\"} 1",
            "# TYPE kennel_sessions gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        assert_eq!(text.matches("kennel_sessions{").count(), STATUSES.len());
    }
}
