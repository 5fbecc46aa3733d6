//! Answers and times that somebody at a session waits for.

use std::future::Future;
use std::pin::Pin;

use tokio::time::{Instant, sleep_until};

use crate::cli::ui::error::Outcome;

/// A request that is not answered yet.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Outcome<T>> + 'a>>;

/// The answer to what was asked; none comes while nothing was.
pub async fn answer<T>(asking: &mut Option<Pending<'_, T>>) -> Outcome<T> {
    let Some(pending) = asking else { return std::future::pending().await };
    let answer = pending.await;
    *asking = None;
    answer
}

/// Waits until this time; for ever without one.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
