//! The start of the agent: its pipes, its process, and what its session is opened with.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use protocol::EventId;
use protocol::wire::{Agent, Offer, RemoteServer, Report, Setting, Welcome};
use rustix::pipe::PipeFlags;
use tokio::net::unix::pipe;

use super::Acp;
use super::calls::Calls;
use super::conversation::{Conversation, Opening, SystemPrompt};
use super::descriptors;
use super::files::Place;
use super::terminals::Terminals;
use crate::agent::per_prompt::absolute;
use crate::agent::program::{self, Launch, Plan};
use crate::agent::stderr::Stderr;
use crate::confine::Confinement;

/// The manager's name for the model, in the environment.
const MODEL: &str = "KENNEL_MODEL";
/// The variable with text that the agent adds to its own system prompt.
const SYSTEM_PROMPT: &str = "KENNEL_SYSTEM_PROMPT";
/// The variable with text that replaces the agent's own system prompt.
const SYSTEM_PROMPT_INSTEAD: &str = "KENNEL_SYSTEM_PROMPT_INSTEAD";

impl Acp {
    /// Starts the agent, and begins to open its session. The error is for a person.
    pub fn start(
        welcome: &Welcome,
        confinement: &Confinement,
        agent_session: Option<String>,
        conversation: bool,
        settings: Vec<Setting>,
        remote_servers: Vec<RemoteServer>,
        driver: (Option<EventId>, Vec<Offer>),
    ) -> Result<(Self, Vec<Report>), String> {
        let Agent::Acp { argv, login, mcp_servers } = &welcome.agent else {
            return Err("this agent does not live between prompts".to_owned());
        };
        absolute(argv)?;
        let mut mcp_servers = mcp_servers.clone();
        // A process with the manager's socket has the owner's rights: no process in a sandbox may have it.
        let inherited = match confinement.contain.walls() {
            Some(_) => Vec::new(),
            None => descriptors::open(&mut mcp_servers),
        };
        let model = welcome.env.iter().find(|(name, _)| name == MODEL).map(|(_, model)| model.clone());
        let told = |wanted| {
            let text = welcome.env.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.clone());
            text.filter(|text| !text.trim().is_empty())
        };
        let instead = told(SYSTEM_PROMPT_INSTEAD).map(SystemPrompt::Instead);
        let names = |model: &String| argv.iter().skip(1).any(|word| word.contains(model.as_str()));
        let opening = Opening {
            cwd: welcome.workdir.clone(),
            mcp_servers,
            remote_servers,
            reads_files: driver.1.contains(&Offer::ReadFile),
            writes_files: driver.1.contains(&Offer::WriteFile),
            login: login.clone(),
            started_with_model: model.as_ref().is_some_and(names),
            model,
            system_prompt: instead.or_else(|| told(SYSTEM_PROMPT).map(SystemPrompt::Beside)),
            settings,
            agent_session,
            conversation,
        };
        let (mut acp, reports) = Self::spawn(Launch::new(welcome, confinement), argv, opening, &inherited)
            .map_err(|error| format!("cannot start a process for {}: {error}", argv[0]))?;
        acp.driven_by(driver.0, driver.1);
        Ok((acp, reports))
    }

    fn spawn(
        launch: Launch,
        argv: &[String],
        opening: Opening,
        inherited: &[OwnedFd],
    ) -> io::Result<(Self, Vec<Report>)> {
        let (agent_stdin, stdin) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, agent_stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, agent_stderr) = Stderr::pipe()?;
        let (stdin, stdout) = (pipe::Sender::from_owned_fd(stdin)?, pipe::Receiver::from_owned_fd(stdout)?);
        let plan = Plan {
            argv,
            own: false,
            directory: PathBuf::new(),
            env: &[],
            stdin: agent_stdin.into(),
            stdout: agent_stdout.into(),
            stderr: agent_stderr.into(),
        };
        // Before the agent runs, which could put something else there.
        let umask = launch.confinement.limits.inherited.umask.unwrap_or(0o077);
        let place = Place::open(&launch.workdir, launch.confinement.contain.walls(), umask);
        // Closed again before anything else is started.
        descriptors::hand_on(inherited)?;
        let (pid, start) = program::start(&launch, plan)?;
        let (conversation, first) = Conversation::begin(opening);
        let mut acp = Self {
            pid,
            exit: None,
            cancel_by: None,
            restore_within: None,
            restore_by: None,
            closed_by: None,
            start,
            stdin,
            outbox: Vec::new(),
            written: 0,
            stdout: Some(stdout),
            stderr,
            line: Vec::new(),
            searched: 0,
            skipped: None,
            held_up: false,
            conversation,
            terminals: Terminals::new(launch),
            place,
            calls: Calls::default(),
            has_spoken: false,
            given_up: false,
        };
        let reports = acp.perform(first);
        Ok((acp, reports))
    }
}
