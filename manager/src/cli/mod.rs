//! The command line.
//!
//! `args/` declares the commands and options. Each command is a function in the file of its subject. It asks
//! the daemon over its socket and prints the answer; `link.rs` connects, and starts the daemon if needed.

mod acp;
mod adopt;
mod agents;
mod args;
mod attach;
mod below;
mod chosen;
mod completion;
mod connect;
mod daemon;
mod demo;
mod disk;
mod doctor;
mod events;
mod files;
mod fork;
mod host;
mod install;
mod keys;
mod launch;
mod lines;
mod link;
mod login;
mod logs;
mod man;
mod mcp;
mod next;
mod pair;
mod permissions;
mod question;
mod queue;
mod search;
mod send;
mod sessions;
mod settings;
mod show;
mod signals;
mod subagent;
mod top;
mod transcript;
pub(crate) mod ui;
mod verbs;
mod wait;
mod web;
mod words;
mod worktree;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::client::far::ssh::BELOW;
use args::{Cli, Command, Common, Daemon};
use host::Target;
use link::Link;
use ui::Ui;
use ui::error::{Failure, Outcome, exit};

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == BELOW) {
        return below::run(std::env::args_os().skip(2));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == completion::WORD) {
        return completion::run(std::env::args_os().skip(2));
    }
    let cli = match parsed(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let mut ui = Ui::new(&cli.global);
    let mut command = cli.command;
    // Nothing else is written where it draws.
    ui.quiet |= matches!(command, Command::Top(_));
    let typed = host::is_typed(&cli.global, &command);
    let target = host::target(&cli.global, &mut command);
    if let (true, Ok(Target::There(options))) = (typed, &target) {
        ui.host.replace(Some(options.name.clone()));
    }
    // Before any runtime: the daemon makes its own.
    let outcome = match (command, target) {
        (Command::Daemon(Daemon::Run { worker, detached }), Ok(Target::Here(paths))) => {
            return launch::run(&ui, paths, worker, detached);
        }
        (Command::Daemon(Daemon::Unit(args)), Ok(Target::Here(paths))) => daemon::unit(&ui, &paths, &args),
        (Command::Daemon(Daemon::Install), Ok(Target::Here(paths))) => install::install(&ui, &paths),
        (Command::Daemon(Daemon::Uninstall), Ok(Target::Here(_))) => install::uninstall(&ui),
        (Command::Demo, Ok(Target::There(_))) => {
            Err(Failure::usage("`kennel demo` works on the machine itself; nothing was done"))
        }
        (Command::Demo, _) => demo::run(&ui),
        (Command::Completion(args), _) => completion::script(&ui, &args),
        (Command::Man(args), _) => man::man(&ui, &args),
        (Command::Host(args::Host::Pair(args)), _) => in_a_runtime(host::pair(&ui, args)),
        (Command::Host(args), _) => host::host(&ui, args),
        (Command::Ls(args), _) if args.all_hosts => in_a_runtime(show::ls_everywhere(&ui, args.all)),
        (command, Ok(target)) => in_runtime(&ui, target, command),
        (_, Err(failure)) => Err(failure),
    };
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    ui.failure(&failure);
    ExitCode::from(failure.exit())
}

/// Reads the command line. The frequent commands are tried alone first: to build the description of all commands takes longer
/// than everything else that `kennel ls` does by itself.
fn parsed(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let short = Common::may_be(&args).then(|| parsed_as::<Common>(args.clone()));
    match short {
        Some(Ok(common)) => Ok(common.into()),
        // Help and errors speak of all of it.
        _ => parsed_as(args.clone()).map_err(|error| {
            let words = args.clone();
            verbs::tipped(suggested(error, args), &words)
        }),
    }
}

/// `kennel help shw` is answered as `kennel shw`: clap has suggestions there only.
fn suggested(error: clap::Error, mut args: Vec<OsString>) -> clap::Error {
    let is_unknown = |error: &clap::Error| error.kind() == clap::error::ErrorKind::InvalidSubcommand;
    let help = args.iter().position(|arg| arg == "help").filter(|_| is_unknown(&error));
    let Some(help) = help else { return error };
    args.remove(help);
    parsed_as::<Cli>(args).err().filter(is_unknown).unwrap_or(error)
}

fn parsed_as<C: CommandFactory + FromArgMatches>(args: Vec<OsString>) -> Result<C, clap::Error> {
    let root = C::command();
    let args = words::apart(&root, args);
    let mut matches = root.try_get_matches_from(args)?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut C::command()))
}

/// Prints help and version as results, and everything else as an error in the caller's format.
fn unparsed(error: &clap::Error) -> ExitCode {
    let as_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && as_json {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ");
        if let Some(text) = Failure::usage(message).text(true, false) {
            ui::write_err(&text);
        }
    } else {
        ui::unparsed(error);
    }
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
}

fn in_runtime(ui: &Ui, target: Target, command: Command) -> Outcome {
    let link = match target {
        Target::There(options) => Link::over(ui, options),
        Target::Here(paths) => {
            // An agent's server has other ways to the daemon, too.
            if !matches!(command, Command::Mcp) {
                paths.check_socket().map_err(|error| Failure::failed("paths", error.to_string()))?;
            }
            Link::new(ui, paths)
        }
    };
    in_a_runtime(dispatch(&link, command))
}

fn in_a_runtime(work: impl Future<Output = Outcome>) -> Outcome {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        built.map_err(|error| Failure::failed("runtime", format!("cannot build a runtime: {error}")))?;
    let done = runtime.block_on(work);
    // A name server that does not answer keeps a thread busy, and nobody waits for it any more.
    runtime.shutdown_background();
    done
}

async fn dispatch(link: &Link<'_>, command: Command) -> Outcome {
    match command {
        Command::Start(args) => sessions::start(link, args).await,
        Command::Ensure(args) => sessions::ensure(link, args).await,
        Command::Ls(args) => show::ls(link, args).await,
        Command::Next(args) => next::next(link, args).await,
        Command::Top(args) => top::top(link, args).await,
        Command::Show(args) => show::show(link, &args.id).await,
        Command::Id(args) => sessions::id(link, args).await,
        Command::Send(args) => send::send(link, args).await,
        Command::Run(args) => send::run(link, *args).await,
        Command::Attach(args) => attach::attach(link, args).await,
        Command::Queue(args) => queue::queue(link, args).await,
        Command::Permissions(args) => permissions::permissions(link, args).await,
        Command::Answer(args) => permissions::answer(link, args).await,
        Command::Acp(args) => acp::acp(link, args).await,
        Command::Set(args) => settings::set(link, args).await,
        Command::Agents(args) => agents::agents(link, &args).await,
        Command::Login(args) => login::login(link, args).await,
        Command::Resolve(args) => queue::resolve(link, &args).await,
        Command::Abort(args) => queue::abort(link, &args).await,
        Command::Stop(args) => sessions::stop(link, args).await,
        Command::Restart(args) => sessions::restart(link, args).await,
        Command::Rm(args) => sessions::rm(link, args).await,
        Command::Rename(args) => sessions::rename(link, args).await,
        Command::Label(args) => sessions::label(link, args).await,
        Command::Fork(args) => fork::fork(link, args).await,
        Command::Adopt(args) => adopt::adopt(link, args).await,
        Command::Pin(args) => sessions::pin(link, &args.id, true).await,
        Command::Unpin(args) => sessions::pin(link, &args.id, false).await,
        Command::Events(args) => events::events(link, args).await,
        Command::Transcript(args) => transcript::transcript(link, args).await,
        Command::Search(args) => search::search(link, args).await,
        Command::Export(args) => transcript::export(link, args).await,
        Command::Files(args) => files::files(link, args).await,
        Command::Logs(args) => logs::logs(link, &args).await,
        Command::Wait(args) => wait::wait(link, &args).await,
        Command::Mcp => mcp::mcp(link.here("mcp")?.clone()).await,
        Command::ConnectStdio => connect::connect(link).await,
        Command::Subagent(args) => subagent::subagent(link, args).await,
        Command::Token(args) => sessions::token(link, &args.id, args.viewer).await,
        Command::Pair(args) => pair::pair(link, args).await,
        Command::Web(args) => web::web(link, args).await,
        Command::Key(args) => keys::key(link, args).await,
        Command::Daemon(args) => daemon::daemon(link, &args).await,
        Command::Prune(args) => disk::prune(link, args).await,
        Command::Df(args) => disk::df(link, &args).await,
        Command::Doctor => doctor::doctor(link).await,
        // They need no runtime, and have run before this one was built.
        Command::Demo | Command::Host(_) | Command::Completion(_) | Command::Man(_) => Ok(()),
    }
}
