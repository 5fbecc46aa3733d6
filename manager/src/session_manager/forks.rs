//! Forks of sessions.

use protocol::api::{EditSessionRequest, ForkRequest, SessionInfo, ToldTurn};

use super::wait::has_pid;
use super::{SessionManager, created, parse_id};
use crate::config;
use crate::core::{Ask, Fork, Refusal};
use crate::error::Error;
use crate::journal::IdempotencyKey;
use crate::system::commit;

impl SessionManager {
    /// A new session with the agent, the directory and the options of another. Its agent is told the other's turns until one of them.
    /// Returns once the session has a process. The origin goes on unchanged. With a `key`, a repeated call returns the same session.
    ///
    /// # Errors
    /// `no_such_session`, `no_such_turn`, `turn_running`, `cannot_fork`; `no_such_workdir` and the like; `invalid_name`, `invalid_title`, `invalid_labels`; those of
    /// [`start_session`](Self::start_session) about ids, names and keys; [`Error::Unread`] if the journal cannot be read.
    pub async fn fork_session(&self, request: &ForkRequest, key: Option<&str>) -> Result<SessionInfo, Error> {
        let id = request.id.as_deref().map(parse_id).transpose()?;
        let called = config::edit_of(&EditSessionRequest {
            name: request.name.clone(),
            title: request.title.clone(),
            labels: request
                .labels
                .iter()
                .map(|(label, value)| (label.clone(), Some(value.clone())))
                .collect(),
        })?;
        let scope = self.asker.scope_of_keys("forks");
        let key = key.map(|key| IdempotencyKey::new(&scope, key, request)).transpose()?;
        let typed = parse_id(&request.session)?;
        let origin = self.named(&typed).await?.unwrap_or(typed);
        let asked = request.turn;
        let looked = self.with_session(&origin, move |session, _| {
            let turn = asked.unwrap_or(session.turns.count);
            (turn, session.can_be_forked_at(turn).err(), session.spec.workdir.clone())
        });
        // A repeated request is answered by its key, also where the origin is gone or busy by now. So the core judges in each case.
        let looked = looked.await;
        let mut fork = Fork { origin, turn: 0, told: None, workdir: None, start_commit: None, id, called };
        let early = match looked {
            Ok((turn, refused, own)) => {
                let workdir = request.workdir.as_ref().unwrap_or(&own);
                self.may_use(fork.id.as_ref(), workdir).await?;
                fork.turn = turn;
                match (refused, config::existing_directory(workdir)) {
                    (Some(refused), _) => Some(Error::Refused(refused)),
                    (None, Err(error)) => Some(error),
                    (None, Ok(workdir)) => {
                        fork.told = self.turns_to(&fork.origin, turn).await?;
                        fork.start_commit = commit::checked_out(&workdir).await;
                        fork.workdir = request.workdir.is_some().then_some(workdir);
                        None
                    }
                }
            }
            Err(refused @ Error::Refused(_)) => {
                fork.turn = asked.unwrap_or_default();
                Some(refused)
            }
            Err(error) => return Err(error),
        };
        let reply = self.ask_keyed(Ask::Fork(Box::new(fork)), key).await;
        let reply = match (reply, early) {
            // Nothing was read after the first look.
            (Err(Error::Refused(Refusal::TurnPruned { .. })), Some(early)) => return Err(early),
            (reply, _) => reply?,
        };
        let id = created(reply)?;
        self.until(&id, "its process", None, has_pid).await
    }

    /// The turns of a session until one that has ended, read beside the loop; none if that one's end is on no record.
    async fn turns_to(&self, id: &protocol::SessionId, turn: u64) -> Result<Option<Vec<ToldTurn>>, Error> {
        let id = id.clone();
        let told = self.shared.feed.read_elsewhere(move |reader| reader.turns_to(&id, turn)).await?;
        let turns = |turn: protocol::wire::Exchange| ToldTurn { prompt: turn.prompt, reply: turn.reply };
        Ok(told.map(|told| told.into_iter().map(turns).collect()))
    }
}
