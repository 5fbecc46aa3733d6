//! Commands of the manager, and the worker's actions on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::wire::{Agent, Attachment, Command, Exchange, Inherited, Offer, Report, ToWorker, TurnEnd};
use protocol::{EventId, Level, PromptId, Walls, failpoint};
use tokio::time::Instant;

use super::{Error, LONGEST_GRACE, Worker};
use crate::agent::acp::Acp;
use crate::agent::per_prompt::Turn;
use crate::confine::Contain;
use crate::tree;
use crate::worker::watch::{MemoryGroup, Watch};
use crate::{exit, find, logfile};

impl Worker {
    /// Acts on what the manager said.
    pub(super) fn obey(&mut self) -> Result<(), Error> {
        while self.leaving.is_none() {
            match self.link.next() {
                Ok(None) => break,
                Ok(Some(envelope)) => self.command(envelope)?,
                Err(error) => self.fault(format!("the manager sent {error}"))?,
            }
        }
        Ok(())
    }

    fn command(&mut self, envelope: ToWorker) -> Result<(), Error> {
        let incarnation = self.link.incarnation();
        if envelope.incarnation != incarnation {
            return self.fault(format!(
                "a command for incarnation {}, but this is {incarnation}",
                envelope.incarnation
            ));
        }
        // Sent again after a link was taken up again: acted on already.
        if envelope.seq <= self.link.acknowledged() {
            return Ok(());
        }
        self.link.acknowledge(envelope.seq);
        self.link.confirm(envelope.ack);
        let is_prompt = matches!(envelope.body, Command::Prompt { .. } | Command::PromptWith { .. });
        if self.shelter.is_none() && is_prompt {
            // A manager that would acknowledge gives shelter first.
            self.link.keep_nothing();
        }
        self.act(envelope.body)
    }

    fn act(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Welcome(_) => self.fault("a second Welcome".to_owned()),
            Command::Open { .. } if self.acp.is_some() => self.fault("a second Open".to_owned()),
            Command::Open { agent_session, conversation } => self.open(agent_session, conversation),
            Command::Settings(settings) => {
                self.settings = settings;
                Ok(())
            }
            Command::RemoteServers(servers) => {
                self.remote_servers = servers;
                Ok(())
            }
            Command::RestoreWithin(millis) => {
                self.restore_within = Some(Duration::from_millis(millis).min(LONGEST_GRACE));
                Ok(())
            }
            Command::Find(find) => {
                self.find = find;
                Ok(())
            }
            Command::Log { path } => {
                if let Err(error) = logfile::move_to(Path::new(&path)) {
                    self.link
                        .send(Report::Notice { text: format!("the log {path} cannot be opened: {error}") })?;
                }
                Ok(())
            }
            Command::Shelter(papers) => {
                self.open_shelter(papers);
                Ok(())
            }
            Command::Inherit(given) => {
                self.inherit(given);
                Ok(())
            }
            Command::Driver { client, offers } => {
                self.driven_by(client, offers);
                Ok(())
            }
            Command::Acknowledge => Ok(()),
            Command::ReadFiles { request, ask } => self.read_files(request, ask),
            log_in @ (Command::LogIn { .. } | Command::LogInInput { .. } | Command::LogInRoom { .. }) => {
                self.act_on_log_in(log_in)
            }
            Command::Probe => {
                let commands = self.acp.as_ref().map_or(0, Acp::commands);
                // To read files is no work of the agent.
                let cpu_ms = tree::cpu_ms(&self.readers_below());
                Ok(self.link.send(Report::Alive { cpu_ms, commands })?)
            }
            Command::Sandbox(walls) => self.sandbox(walls.into()),
            Command::SandboxOf(walls) => self.sandbox(*walls),
            Command::Limits { limits, by, groups } => {
                self.confinement.limits.set(&limits, groups.enter.clone());
                self.watch = Watch::new(&limits, &by);
                self.memory = MemoryGroup::new(&limits, &by, groups);
                Ok(self.link.send(Report::Limited(by))?)
            }
            Command::Contain { level, demanded } => self.contain(level, demanded),
            Command::Set { request, .. } if request <= self.last_set => Ok(()),
            Command::Set { request, setting } => {
                self.last_set = request;
                self.with_acp(|acp| acp.set(request, setting))
            }
            Command::Answer { request, option } => self.with_acp(|acp| acp.answer(request, option)),
            Command::CallAnswered { request, answer } => {
                self.with_acp(|acp| acp.call_answered(request, answer))
            }
            Command::Prompt { prompt, text, history } => self.prompt(prompt, text, &history, None),
            Command::PromptWith { prompt, text, history, attachments } => {
                self.prompt(prompt, text, &history, Some(&attachments))
            }
            Command::Abort { prompt } => self.abort_prompt(prompt),
            Command::Shutdown => {
                self.leave(exit::DONE, self.grace());
                Ok(())
            }
        }
    }

    /// Does something with the agent that lives between prompts, if there is one, and sends what it reports.
    fn with_acp(&mut self, act: impl FnOnce(&mut Acp) -> Vec<Report>) -> Result<(), Error> {
        let reports = self.acp.as_mut().map(act).unwrap_or_default();
        self.tell(reports)
    }

    /// Starts the agent that lives between prompts.
    fn open(&mut self, agent_session: Option<String>, conversation: bool) -> Result<(), Error> {
        self.find_programs()?;
        let settings = std::mem::take(&mut self.settings);
        let remote = std::mem::take(&mut self.remote_servers);
        let started = Acp::start(
            &self.welcome,
            &self.confinement,
            agent_session,
            conversation,
            settings,
            remote,
            self.driver.clone(),
        );
        match started {
            Ok((mut acp, reports)) => {
                acp.restore_within = self.restore_within;
                self.acp = Some(acp);
                self.tell(reports)
            }
            Err(message) => {
                let mut report = Report::NotRun { message, passes: true };
                self.name_sandbox(&mut report);
                self.link.send(report)?;
                self.leave(exit::DONE, self.grace());
                Ok(())
            }
        }
    }

    fn inherit(&mut self, given: Inherited) {
        let inherited = &mut self.confinement.limits.inherited;
        inherited.umask = given.umask.or(inherited.umask);
        (inherited.open_files, inherited.places) = (given.open_files, given.places);
    }

    fn driven_by(&mut self, client: Option<EventId>, mut offers: Vec<Offer>) {
        // A client opens files and runs commands outside of every sandbox. The manager's word alone does not suffice: an
        // older manager offers files, too.
        if self.confinement.contain.walls().is_some() {
            offers.retain(|offer| *offer == Offer::Elicitation);
        }
        match &mut self.acp {
            Some(acp) => acp.driven_by(client, offers),
            // The agent is told at its start.
            None => self.driver = (client, offers),
        }
    }

    fn contain(&mut self, level: Level, demanded: bool) -> Result<(), Error> {
        self.confinement.contain = match (level.is_namespace(), demanded) {
            (_, true) => Contain::Must,
            (true, false) => Contain::IfPossible,
            (false, false) => Contain::No,
        };
        self.level = Some(level);
        Ok(self.link.send(Report::Contained { level })?)
    }

    fn sandbox(&mut self, walls: Walls) -> Result<(), Error> {
        let sandboxed = walls.sandboxed();
        self.confinement.contain = Contain::Within(Arc::new(walls));
        Ok(self.link.send(Report::Sandboxed(sandboxed))?)
    }

    fn abort_prompt(&mut self, prompt: PromptId) -> Result<(), Error> {
        if self.turn.as_ref().is_some_and(|turn| turn.prompt == prompt) {
            self.abort(self.grace());
        }
        let by = Instant::now() + self.grace();
        let mut reports = Vec::new();
        if let Some(acp) = self.acp.as_mut().filter(|acp| acp.turn() == Some(prompt)) {
            reports = acp.cancel(by);
        }
        self.tell(reports)
    }

    /// Looks where the programs of the session are now, and tells what of the agent is about to run.
    fn find_programs(&mut self) -> Result<(), Error> {
        let path = self.find.path.as_deref();
        let found = match &mut self.welcome.agent {
            Agent::Shell => return Ok(()),
            Agent::Command { argv, .. } => find::agent(argv, &self.find),
            Agent::Acp { argv, mcp_servers, .. } => {
                for server in mcp_servers {
                    server.command = find::program(None, &server.command, path);
                }
                find::agent(argv, &self.find)
            }
        };
        if found.is_some() && found != self.program {
            self.program = found.clone();
            let report = found.map(|path| Report::Program { path });
            report.map_or(Ok(()), |report| self.link.send(report))?;
        }
        Ok(())
    }

    /// Gives the agent a prompt. `attachments` is absent where the command carries none.
    fn prompt(
        &mut self,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: Option<&[Attachment]>,
    ) -> Result<(), Error> {
        if self.last_prompt == Some(prompt) {
            return Ok(());
        }
        if let Some(running) = self.acp.as_ref().and_then(Acp::turn) {
            return self.fault(format!("{prompt} came while {running} was running"));
        }
        if self.acp.is_some() {
            self.last_prompt = Some(prompt);
            self.with_acp(|acp| acp.prompt(prompt, text, history, attachments.unwrap_or_default()))?;
            failpoint::hit("worker", "turn");
            return Ok(());
        }
        if attachments.is_some() {
            self.last_prompt = Some(prompt);
            return Ok(self.link.send(failed(prompt, "this agent takes no attachments".to_owned()))?);
        }
        if let Some(turn) = &self.turn {
            let running = turn.prompt;
            return self.fault(format!("{prompt} came while {running} was running"));
        }
        self.last_prompt = Some(prompt);
        self.find_programs()?;
        match Turn::start(&self.welcome, &self.confinement, prompt, text, history) {
            Ok(turn) => {
                self.turn = Some(turn);
                failpoint::hit("worker", "turn");
                Ok(())
            }
            Err(message) => Ok(self.link.send(failed(prompt, message))?),
        }
    }
}

fn failed(prompt: PromptId, message: String) -> Report {
    Report::TurnEnded { prompt, end: TurnEnd::Failed { message }, exit: None, left_behind: 0 }
}
