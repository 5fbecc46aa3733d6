//! Log-ins of agents, which a client finishes from wherever it is.

mod address;
mod text;
mod visit;

use protocol::SessionId;
use protocol::api::{LogInEnd, LogInInfo, LogInPiece, VisitAnswer};
use protocol::bounds::{LOGIN_INPUT, LOGIN_LINE};
use protocol::wire::Unlogged;
use tokio::sync::oneshot;

pub(crate) use self::address::Address;
use super::SessionManager;
use crate::error::Error;
use crate::supervisor::Msg;
use crate::workers::{Book, LogInMsg, Page, Reader};
use std::sync::Arc;

/// A client that reads a log-in's output.
pub(crate) struct LogInReader {
    manager: SessionManager,
    reader: Reader,
}

/// The next thing that a reader gets.
pub(crate) enum LogInPage {
    /// A piece, and the number of bytes up to its end.
    Piece(LogInPiece, u64),
    /// The end: nothing of the log-in lives.
    End(LogInEnd),
}

impl SessionManager {
    /// Begins the log-in of an agent. With `take_over` one that runs is ended first.
    ///
    /// # Errors
    /// `no_such_agent`, `no_login_command`, `agent_not_found`, `login_running`, `too_many_logins`, `login_not_started`.
    pub(crate) async fn begin_log_in(&self, agent: &str, take_over: bool) -> Result<LogInInfo, Error> {
        let plan = self.config()?.log_in(agent)?;
        let command = plan.argv.clone();
        if take_over {
            let agent = agent.to_owned();
            self.ask_log_ins(|reply| LogInMsg::TakeOver { agent, reply }).await?;
        }
        let book = self.ask_log_ins(|reply| LogInMsg::Begin { plan, reply }).await?;
        Ok(LogInInfo { id: book.id.clone(), agent: agent.to_owned(), command })
    }

    /// Reads what a log-in has shown after so many bytes.
    ///
    /// # Errors
    /// `no_such_login`.
    pub(crate) async fn read_log_in(&self, id: &SessionId, after: u64) -> Result<LogInReader, Error> {
        let reader = self.log_in_book(id).await?.read(after);
        Ok(LogInReader { manager: self.clone(), reader })
    }

    /// Types a text.
    ///
    /// # Errors
    /// `no_such_login`, `login_ended`, `login_busy`, `invalid_login_input`.
    pub(crate) async fn type_into_log_in(
        &self,
        id: &SessionId,
        text: String,
        number: Option<u64>,
    ) -> Result<(), Error> {
        if text.is_empty() || text.len() > LOGIN_INPUT {
            let message = format!("a text to be typed has 1 to {LOGIN_INPUT} bytes; nothing was typed");
            return Err(Error::invalid("invalid_login_input", message));
        }
        if text.split(['\r', '\n']).any(|line| line.len() > LOGIN_LINE) {
            let message = format!(
                "a line that is typed has at most {LOGIN_LINE} bytes: a terminal would cut a longer one; nothing was typed"
            );
            return Err(Error::invalid("invalid_login_input", message));
        }
        let (id, bytes) = (id.clone(), Unlogged(text.into_bytes()));
        self.ask_log_ins(|reply| LogInMsg::Type { id, bytes, number, reply }).await
    }

    /// Opens an address at which a program of the log-in listens.
    ///
    /// # Errors
    /// `no_such_login`, `login_ended`, `not_its_port`, `no_login_answer`.
    pub(crate) async fn visit_log_in(&self, id: &SessionId, address: Address) -> Result<VisitAnswer, Error> {
        let book = self.log_in_book(id).await?;
        if book.is_over() {
            return Err(Error::invalid(
                "login_ended",
                format!("the log-in `{id}` has ended; nothing was opened"),
            ));
        }
        visit::visit(book.pid, &address).await
    }

    /// Ends a log-in. Returns when no process of it is left.
    ///
    /// # Errors
    /// `no_such_login`.
    pub(crate) async fn end_log_in(&self, id: &SessionId) -> Result<(), Error> {
        let id = id.clone();
        self.ask_log_ins(|reply| LogInMsg::End { id, reply }).await
    }

    async fn log_in_book(&self, id: &SessionId) -> Result<Arc<Book>, Error> {
        let id = id.clone();
        self.ask_log_ins(|reply| LogInMsg::Find { id, reply }).await
    }

    async fn ask_log_ins<T>(
        &self,
        msg: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> LogInMsg,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Msg::LogIn(msg(reply))).await?;
        answer.await.unwrap_or(Err(Error::Ended))
    }
}

impl LogInReader {
    /// The next piece, or the end. Safe to cancel: at worst the worker waits for the next piece to be taken.
    pub(crate) async fn next(&mut self) -> LogInPage {
        if self.reader.frees()
            && let Ok(id) = self.reader.book().id.parse()
        {
            // A loop that has ended has no worker that could wait.
            let _ = self.manager.send(Msg::LogIn(LogInMsg::Room { id })).await;
        }
        match self.reader.next().await {
            Page::Piece(piece) => LogInPage::Piece(piece, self.reader.at()),
            Page::End(end) => LogInPage::End(end),
        }
    }
}
