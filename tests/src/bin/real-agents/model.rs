//! The model server behind the agents.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use harness::real::beside;

/// A `fake-model`; it ends with this.
pub struct Model {
    child: Child,
    port: u16,
}

impl Model {
    /// Starts one, on a port that the kernel chooses.
    pub fn start() -> Self {
        let mut command = Command::new(beside("fake-model"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
