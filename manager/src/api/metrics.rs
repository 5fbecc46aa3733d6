//! The route of the figures for Prometheus.

use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::codes::refuses;
use super::input::Query;
use super::limited::Limited;
use super::problem::Answer;

refuses!(MetricsErrors:);

/// The media type of [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) as text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MetricsQuery {
    /// `true`: also a series for each session that has processes.
    #[serde(default)]
    #[param(required = false)]
    sessions: bool,
}

/// Figures for Prometheus.
///
/// Counts begin at 0 with the daemon. The figures are looked at once a second at most; whoever asks sooner is told the same again.
#[utoipa::path(get, path = "/metrics", tag = "manager", operation_id = "metrics", params(MetricsQuery),
    responses((status = 200, description = "OpenMetrics 1.0.", body = String, content_type = "application/openmetrics-text"), MetricsErrors))]
pub async fn metrics(Limited(app): Limited, Query(query): Query<MetricsQuery>) -> Answer<impl IntoResponse> {
    let App { manager, streams, .. } = app;
    let text = manager.metrics(query.sessions, streams.open()).await?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text))
}
