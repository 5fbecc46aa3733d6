//! Another machine by `ssh` on loopback, beside the same without it.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use harness::daemon::finish;
use harness::far::Far as Machine;
use harness::real::kennel;
use manager::client::far::ssh::SshOptions;
use manager::client::far::{Far, FarOptions, Way};
use manager::client::{Client, Request};

use crate::host::{BOUND, pause};
use crate::table::{Aim, Table, quantile};
use crate::{ROUNDS, us};

/// How often each is asked in one round over a connection that is open.
const ASKED: usize = 1_000;
/// The list that `kennel ls` asks for.
const LIST: &str = "/v1/sessions?all=false";
/// The word by which the bench runs itself as a client.
pub const ASK: &str = "--ask";

pub async fn measure(table: &mut Table) {
    eprintln!("reach");
    let machine = Machine::new();
    machine.ok(&["daemon", "start"]);
    let socket = machine.daemon.socket().display().to_string();
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(asked(&machine, &machine.address()));
        floors.push(asked(&machine, &socket));
    }
    let name =
        "request by `ssh` over a connection that is open, p50; floor: the same client at the daemon's socket";
    table.against(name, "µs", &ours, &floors, Aim::Ratio(2.0));

    let mut shared = share(&machine).await;
    let (mut ours, mut local, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(crate::commands::p50(|| machine.command(&["ls"])));
        local.push(crate::commands::p50(|| machine.daemon.command(&["ls"])));
        floors.push(crate::commands::p50(|| machine.ssh(&["-T", "box", "true"])));
    }
    let name = "`kennel -H HOST ls` as a whole process, with a connection that `ssh` shares, p50; floor: ";
    table.against(&format!("{name}`kennel ls`"), "ms", &ours, &local, Aim::Ratio(2.0));
    table.against(&format!("{name}`ssh HOST true`"), "ms", &ours, &floors, Aim::Told);
    shared.kill().unwrap();
    shared.wait().unwrap();
    machine.ok(&["daemon", "stop"]);
}

/// The median time of a request, in µs, in a process that asks again and again.
fn asked(machine: &Machine, address: &str) -> f64 {
    let command = machine.bare(&[]);
    let path = command.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?)).unwrap();
    let mut asking = Command::new(std::env::current_exe().unwrap());
    asking.args([ASK, address]).env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(asking.spawn().unwrap());
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.trim().parse().unwrap()
}

/// Asks a daemon for its list again and again, and prints the median time.
pub fn ask(address: &str) {
    let client = match address.parse() {
        Ok(address) => {
            let ssh = SshOptions { address, kennel: None, below: Some(kennel().clone()) };
            let options = FarOptions { name: "box".into(), way: Way::Ssh(ssh), within: None };
            Client::over(Arc::new(Far::new(options, |_| ())))
        }
        Err(_) => Client::new(address.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let times = runtime.block_on(async {
        let mut times = Vec::new();
        for _ in 0..ASKED {
            let begin = Instant::now();
            client.ask(&Request::get(LIST)).await.unwrap();
            times.push(us(begin.elapsed()));
        }
        times
    });
    println!("{}", quantile(&times, 0.5));
}

/// One connection that all `ssh` of this way share from now on, for as long as its process lives.
async fn share(machine: &Machine) -> Child {
    let socket = machine.share();
    let master = machine.ssh(&["-o", "ControlMaster=yes", "-NT", "box"]).spawn().unwrap();
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < BOUND, "no connection to share");
        pause(5).await;
    }
    master
}
