//! A cell of the matrix: one daemon with one hostile session, and the probes that this tries.

mod attempts;
mod setup;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::daemon::{Daemon, finish_within};
use harness::real::*;
use manager::protocol::Sandbox;
use manager::protocol::api::SessionInfo;

use super::kind::{Kind, Results};
use super::outside::{CANARY, NOBODY, Outside, Snapshot, built, daemon_name, give_away};
use super::table::{Control, Probe};
use crate::containment::User;

/// The longest time that all probes of a cell may take.
const PROBES: Duration = Duration::from_secs(120);

/// A daemon with a hostile session, and all that this is after.
pub struct Cell {
    kind: Kind,
    outside: Option<Outside>,
    pub daemon: Daemon,
    root: PathBuf,
    facts: BTreeMap<String, String>,
}

impl Cell {
    pub fn new(kind: Kind) -> Self {
        let dir = dir_that_sandboxes_show();
        let root = dir.path().to_owned();
        let mut daemon = Daemon::over(dir);
        let (probes, preload) = built();
        let mut programs =
            publish(&[kennel(), worker(), &beside("hostile-agent"), probes], &root.join("bin"));
        let (probes, agent) = (programs.remove(3), programs.remove(2));
        setup::files(&root, &probes, preload);
        setup::make(&root, "home/.config/kennel/config.toml", &setup::profiles(kind, &root, &agent));
        if kind.user == User::Nobody {
            give_away(&root);
            daemon.run_as(NOBODY, programs.remove(0));
        } else {
            daemon.run_program(programs.remove(0));
        }
        let key = root.join("run/key");
        daemon.run_through(&[probes.to_str().unwrap(), "keys", key.to_str().unwrap()]);
        setup::environment(kind, &root, &mut daemon);
        let secret = root.join("home/.ssh/id_ed25519");
        let outside = Outside::new(kind.user, &probes, &root.join("outside"), &secret);
        let mut cell = Self { kind, facts: outside.facts.clone(), outside: Some(outside), daemon, root };
        cell.add_places();
        setup::start(&cell.root, &cell.daemon);
        // Each command has a keyring of its own: the number is the daemon's while none has run after it.
        cell.fact("skey", std::fs::read_to_string(&key).unwrap());
        setup::write_log(kind, &cell.root);
        cell.start_sessions();
        setup::late_secrets(kind, &cell.root);
        cell
    }

    /// Keep a value that the steps of probes name.
    fn fact(&mut self, name: &str, value: String) {
        self.facts.insert(name.into(), value);
    }

    fn add_places(&mut self) {
        let at = self.root.display().to_string();
        let home = format!("{at}/home");
        self.fact("root", at.clone());
        self.fact("mine", format!("kennel-test-{}", daemon_name(&self.root)));
        self.fact("home", home.clone());
        self.fact("work", format!("{home}/project"));
        self.fact("sibling", format!("{home}/sibling"));
        self.fact("outside", format!("{at}/outside"));
        self.fact("state", format!("{at}/state"));
        self.fact("socket", format!("{at}/elsewhere/door.sock"));
        self.fact("secret", format!("{home}/.ssh/id_ed25519"));
        self.fact("kennel", format!("{at}/bin/kennel"));
    }

    /// Start the hostile session and another one, and keep the numbers of their processes.
    fn start_sessions(&mut self) {
        let home = self.root.join("home").display().to_string();
        let sibling = format!("{home}/sibling");
        let project = format!("{home}/project");
        let _: SessionInfo =
            self.daemon.json(&["start", "--id", "sibling", "--agent", "hostile", "--dir", &sibling]);
        let _: SessionInfo = self.daemon.json(&[
            "start",
            "--id",
            "canary-main",
            "--agent",
            "hostile",
            "--dir",
            &project,
            "--title",
            CANARY,
        ]);
        let (sibling, main) = (self.daemon.idle("sibling"), self.daemon.idle("canary-main"));
        let worker = main.pid.unwrap();
        self.fact("daemon", self.daemon.pid().to_string());
        self.fact("worker", worker.to_string());
        self.fact("keeper", below(worker).first().unwrap_or(&worker).to_string());
        self.fact("agent", main.agent_pid.unwrap().to_string());
        self.fact("siblingagent", sibling.agent_pid.unwrap().to_string());
        let init = if self.kind.sandbox == Sandbox::None { worker } else { 1 };
        self.fact("init", init.to_string());
    }

    /// The test's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn victim(&self, probe: &Probe) -> (PathBuf, PathBuf) {
        let path = self.root.join("outside/victims").join(probe.slug());
        let mut new = path.clone().into_os_string();
        new.push(".new");
        (path, new.into())
    }

    fn filled(&self, probe: &Probe) -> String {
        let (victim, new) = self.victim(probe);
        let mut text = probe.steps.clone();
        text = text.replace("{victim}", victim.to_str().unwrap()).replace("{new}", new.to_str().unwrap());
        text = text.replace("{tmp}", &format!("t-{}", probe.slug()));
        while let Some((before, (made, after))) =
            text.split_once("{=").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            // After a slash it is the name alone: the way there is another.
            let path = self.root.join(made);
            let path = if before.ends_with('/') { Path::new(path.file_name().unwrap()) } else { &path };
            text = format!("{before}{}{after}", path.display());
        }
        for (name, value) in &self.facts {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        assert!(!text.contains('{'), "{}: {text}", probe.name);
        text
    }

    /// Returns the results of all these probes.
    pub fn tries(mut self, probes: &[Probe]) -> Results {
        let none = self.kind.sandbox == Sandbox::None;
        let mine: Vec<&Probe> = probes
            .iter()
            .filter(|probe| !probe.steps.is_empty())
            .filter(|probe| !none || !matches!(probe.control, Control::None(_)))
            .collect();
        for probe in &mine {
            let (victim, _) = self.victim(probe);
            std::fs::write(&victim, CANARY).unwrap();
            std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o644)).unwrap();
            if self.kind.user == User::Nobody {
                chown(&victim, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let own_program = self.root.join("bin/session-worker");
        let own_before = Snapshot::of(&own_program);
        let before: BTreeMap<&str, Snapshot> =
            mine.iter().map(|probe| (probe.name.as_str(), Snapshot::of(&self.victim(probe).0))).collect();
        let (now, later): (Vec<&Probe>, Vec<&Probe>) = mine.iter().partition(|probe| !probe.after_restart);
        let mut results = self.run("plan", &now);
        let agent = self.daemon.show("canary-main").agent_pid;
        let right = agent.is_some_and(|pid| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&cmdline).contains("hostile-agent")
        });
        let word = if right { "refused" } else { "reached" };
        results.insert(
            "forge: agent_pid of the session".into(),
            (word.into(), format!("agent_pid is {agent:?}")),
        );
        self.kin(&mut results);
        self.environment(&mut results);
        self.daemon.ok(&["daemon", "restart"]);
        self.daemon.idle("canary-main");
        results.extend(self.run("later", &later));
        let word = if Snapshot::of(&own_program) == own_before { "refused" } else { "reached" };
        let log = std::fs::read_to_string(self.root.join("home/project/pre-exe/log")).unwrap_or_default();
        results
            .insert("exe: kennel's own program is as it was".into(), (word.into(), log.replace('\n', ", ")));
        self.planted(&mut results);
        let word = if self.root.join("outside/hidden").exists() { "reached" } else { "refused" };
        let name = "hidden: nothing is made through a planted symlink";
        results.insert(name.into(), (word.into(), String::new()));
        for probe in &mine {
            let (victim, new) = self.victim(probe);
            let made = probe.steps.split_once("{=").and_then(|(_, rest)| rest.split_once('}'));
            let new = made.map_or(new, |(made, _)| self.root.join(made));
            let is_new = made.is_some() || probe.steps.contains("{new}");
            let changed = match (probe.steps.contains("{victim}"), is_new) {
                (true, _) if Snapshot::of(&victim) != before[probe.name.as_str()] => Some(victim),
                (_, true) if new.symlink_metadata().is_ok() => Some(new),
                (false, false) => continue,
                _ => None,
            };
            let result = results.get_mut(&probe.name).unwrap();
            match (changed, result.0.as_str()) {
                (Some(path), _) => *result = ("reached".into(), format!("{} was changed", path.display())),
                (None, "reached") => {
                    *result = ("refused".into(), format!("nothing outside was changed: {}", result.1));
                }
                _ => {}
            }
        }
        drop(self.outside.take());
        results
    }

    /// Has the agent try these.
    fn run(&self, name: &str, probes: &[&Probe]) -> Results {
        let work = self.root.join("home/project");
        let lines: Vec<String> =
            probes.iter().map(|probe| format!("{}\t{}\n", probe.name, self.filled(probe))).collect();
        std::fs::write(work.join(name), lines.concat()).unwrap();
        std::fs::set_permissions(work.join(name), PermissionsExt::from_mode(0o644)).unwrap();
        let at = |file: String| work.join(file).display().to_string();
        let results = at(format!("{name}-results"));
        let text = format!("{} {} {results}", at(name.into()), at("probes".into()));
        let output = finish_within(self.daemon.spawn(&["send", "canary-main", &text]), PROBES);
        let found = std::fs::read_to_string(&results).unwrap_or_default();
        assert_eq!(output.code, Some(0), "{}: {output:?} after {:?}", self.kind.name(), found.lines().last());
        let split = |line: &str| {
            let mut parts = line.splitn(3, '\t').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            (next(), (next(), next()))
        };
        found.lines().map(split).collect()
    }
}
