//! The recorder of refused access: takes the refusals that are due, and has the loop record them.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::Refused;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::SessionManager;
use crate::core::Ask;
use crate::error::Error;
use crate::refusals::Refusals;

/// Time that a manager has to record what waits before it ends.
const LAST: Duration = Duration::from_secs(2);

/// Records refusals for as long as there is a manager. Nothing wakes while none waits.
pub(super) fn record(manager: &SessionManager, mut news: mpsc::Receiver<()>) {
    let shared = Arc::downgrade(&manager.shared);
    tokio::spawn(async move {
        let mut due_in = None;
        loop {
            let wait = async {
                match due_in {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                word = news.recv() => if word.is_none() { return },
                () = wait => {}
            }
            let Some(shared) = shared.upgrade() else { return };
            let manager = SessionManager { shared, client: None, asker: Arc::default() };
            let _turn = manager.refusals().recording.lock().await;
            if manager.write(manager.refusals().take()).await.is_err() {
                return;
            }
            due_in = manager.refusals().due_in();
        }
    });
}

impl SessionManager {
    /// The refusals that no event has told of yet. Whoever refuses a client notes it there.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.shared.refusals
    }

    /// Records all refusals that wait, before the manager ends.
    pub(super) async fn record_last_refusals(&self) {
        let all = async {
            let _turn = self.refusals().recording.lock().await;
            self.write(self.refusals().take_all()).await
        };
        if timeout(LAST, all).await.is_err() {
            tracing::warn!("the last refusals of access are not on record: the journal took too long");
        }
    }

    /// Records these refusals. What the journal does not take waits on.
    ///
    /// # Errors
    /// [`Error::Ended`] if the loop has ended.
    async fn write(&self, refused: Vec<Refused>) -> Result<(), Error> {
        let owner = SessionManager { shared: self.shared.clone(), client: None, asker: Arc::default() };
        for refused in refused {
            match owner.ask(Ask::AccessRefused(refused.clone())).await {
                Ok(_) => {}
                Err(Error::Ended) => return Err(Error::Ended),
                Err(error) => {
                    tracing::debug!(%error, "refused access is not on record yet");
                    self.refusals().give_back(refused);
                }
            }
        }
        Ok(())
    }
}
