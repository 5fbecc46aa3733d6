//! The first commands to a new worker: all that it needs to begin.

use protocol::wire::{Agent, Command, Find, Inherited, PROTOCOL_VERSION, Setting, Welcome};
use protocol::{Groups, Incarnation, Level, SessionId};

use crate::config;
use crate::core::{Seen, Session};
use crate::journal::Journal;
use crate::workers::worker::Origin;
use crate::workers::{Sighting, Workers, logs, tokens};

impl Workers {
    /// Sends a new worker all that it needs to begin, once.
    pub(super) fn welcome(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        session: &Session,
        journal: &Journal,
        now: u64,
    ) -> Option<Sighting> {
        let log = match self.enlist(id, incarnation, session, now) {
            Ok(true) => Some(self.name_log(id)),
            Ok(false) => None,
            Err(ended) => return Some(*ended),
        };
        let marker = self.marker(id, incarnation);
        match &mut self.get(id, incarnation)?.origin {
            Origin::Spawned { welcomed, .. } if !*welcomed => *welcomed = true,
            Origin::Spawned { .. } | Origin::Adopted(_) => return None,
        }
        let spec = &session.spec;
        let (agent, offered) = self.with_subagents(id, session, journal);
        let (level, demanded) = self.world.machine.level_for(spec);
        let welcome = Command::Welcome(Box::new(Welcome {
            protocol: PROTOCOL_VERSION,
            session: id.clone(),
            resume_from: 0,
            marker,
            workdir: spec.workdir.clone(),
            env: config::agent_env(spec),
            agent,
            grace_ms: spec.grace_ms,
        }));
        let limits = spec.limits;
        let (groups, by) = match &mut self.world.cgroups {
            Some(cgroups) => {
                cgroups.keep(id);
                cgroups.make(id, &limits)
            }
            None => (Groups::default(), limits.without_groups()),
        };
        let level = match level {
            Level::Subreaper if !groups.enter.is_empty() => Level::Cgroup,
            level => level,
        };
        let inherited = Inherited {
            umask: spec.umask.or(self.world.inherited.umask),
            places: config::places(spec),
            ..self.world.inherited.clone()
        };
        let contain = [
            Command::Inherit(inherited),
            Command::Find(Find { path: config::path_of(spec), program: spec.program.clone() }),
            Command::Contain { level, demanded },
            Command::Limits { limits, by, groups },
        ];
        let sandbox = spec.walls.clone().map(|walls| Command::SandboxOf(Box::new(self.world.hide(walls))));
        // Last: a worker that has got it has got all.
        let shelter = Some(Command::Shelter(self.world.shelters.papers(id, incarnation)));
        let worker = self.get(id, incarnation)?;
        let all = [welcome].into_iter().chain(log).chain(contain).chain(sandbox).chain(opening(session));
        let fault = worker.send_all(id, all.chain(shelter));
        let notice = |why| (id.clone(), incarnation, Seen::Notice(why));
        fault.or(offered.err().map(notice))
    }

    /// Begins the log of a session whose worker was a spare, and gives the command that leads the worker there.
    fn name_log(&mut self, id: &SessionId) -> Command {
        if let Err(error) = logs::bound(&self.world.state_dir, id) {
            tracing::warn!(session = %id, %error, "its log is too long and was not kept");
        }
        let path = logs::path(&self.world.state_dir, id);
        if let Some(Origin::Spawned { log, .. }) = self.workers.get_mut(id).map(|worker| &mut worker.origin) {
            *log = Some(logs::Begin::at_end_of_named(&path));
        }
        Command::Log { path: path.to_string_lossy().into_owned() }
    }

    /// The session's agent with the tools for sub-agents added, where it takes any and is to have them; or why it
    /// must do without.
    fn with_subagents(
        &self,
        id: &SessionId,
        session: &Session,
        journal: &Journal,
    ) -> (Agent, Result<(), String>) {
        let mut agent = session.spec.agent.clone();
        let (Agent::Acp { mcp_servers, .. }, Some(program), true) = (
            &mut agent,
            &self.world.mcp_server,
            session.spec.subagents.offered && session.spec.walls.is_none(),
        ) else {
            return (agent, Ok(()));
        };
        if mcp_servers.iter().any(|server| server.name == tokens::SERVER) {
            // The profile has one of its own under that name.
            return (agent, Ok(()));
        }
        let offered = match journal.token(id) {
            Ok(Some(token)) => {
                program.offer(&self.world.state_dir, id, &token).map_err(|error| error.to_string())
            }
            Ok(None) => Err("the session has no token on record".into()),
            Err(error) => Err(error.to_string()),
        };
        match offered {
            Ok(server) => {
                mcp_servers.push(server);
                (agent, Ok(()))
            }
            Err(why) => {
                let why = format!("the agent has no tools for sub-agents until its next start: {why}");
                (agent, Err(why))
            }
        }
    }
}

/// The commands by which an ACP agent takes up its conversation. Other agents need none.
fn opening(session: &Session) -> Vec<Command> {
    let spec = &session.spec;
    match &spec.agent {
        Agent::Acp { .. } => {
            let agent_session = session.agent_session.clone();
            // What the agent told of a conversation that was taken up is on record since it was first ready.
            let taken_up = spec.conversation.is_some() && session.restore.is_some();
            let conversation = session.turns.count > 0 || spec.forked_from.is_some() || taken_up;
            let set = session.settings.set.iter();
            let settings = set.map(|(name, value)| Setting { name: name.clone(), value: value.clone() });
            let settings = Command::Settings(settings.collect());
            let restore = Command::RestoreWithin(spec.restore_ms());
            let remote = Command::RemoteServers(spec.remote_servers.clone());
            let (client, offers) = session.offered_at_start();
            let driver = (!offers.is_empty()).then_some(Command::Driver { client, offers });
            let open = Command::Open { agent_session, conversation };
            [restore, settings, remote].into_iter().chain(driver).chain([open]).collect()
        }
        Agent::Command { .. } | Agent::Shell => Vec::new(),
    }
}
