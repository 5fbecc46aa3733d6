//! Tokens of sessions: those of viewers and agents, and the files through which tokens reach kennel's own MCP server.
//!
//! A token is a secret, so no command line and no environment holds one: whoever lists processes sees those. A process gets
//! the path of a file that only its owner can read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::SessionId;
use protocol::wire::McpServer;
use sha2::{Digest, Sha256};

use crate::system::owned;

/// The name under which agents know the server.
pub const SERVER: &str = protocol::MCP_SERVER;
/// Names the file with the token, for `kennel mcp`.
pub const TOKEN_FILE: &str = "KENNEL_TOKEN_FILE";
/// The directory of the files, in the state directory.
pub const DIRECTORY: &str = "tokens";

/// The token with which one may look on at a session, made from the one with which one may do everything with it:
/// there is nothing to be kept, and no way back.
pub fn viewer(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("kennel viewer\n{token}")))
}

/// The token that a session's own agent is given, made in the same way. With it the agent may look at its session, and
/// start sub-agents and work with them. It cannot answer its own questions, change its own settings or its own servers.
pub fn agent(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("kennel agent\n{token}")))
}

/// The program that serves the tools for sub-agents, and where it finds the API.
#[derive(Clone, Debug)]
pub struct McpProgram {
    /// The `kennel` executable.
    pub command: PathBuf,
    /// The manager's socket.
    pub socket: PathBuf,
}

impl McpProgram {
    /// Writes the token for the session's agent into its file, and gives what the agent is told to run.
    pub fn offer(&self, state_dir: &Path, id: &SessionId, token: &str) -> io::Result<McpServer> {
        let file = write(state_dir, id, &agent(token))?;
        Ok(McpServer {
            name: SERVER.into(),
            command: utf8(&self.command)?,
            args: vec!["mcp".into()],
            // Agents give their servers an environment of their own making: whatever is needed is said.
            env: vec![
                (protocol::SOCKET.into(), utf8(&self.socket)?),
                ("KENNEL_STATE_DIR".into(), utf8(state_dir)?),
                (TOKEN_FILE.into(), utf8(&file)?),
            ],
        })
    }
}

/// `ID:TOKEN` in a file that its owner can read: whole or not at all, so that whoever reads it while it is written
/// anew finds the same as before.
fn write(state_dir: &Path, id: &SessionId, token: &str) -> io::Result<PathBuf> {
    let directory = state_dir.join(DIRECTORY);
    owned::directory(&directory)?;
    let path = directory.join(id.as_str());
    // No session's id begins with a dot.
    let new = directory.join(format!(".{id}"));
    // One that a manager left when it was killed may be there, with whatever mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    file.write_all(format!("{id}:{token}\n").as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// A session is removed, and its token opens nothing any more.
pub fn remove(state_dir: &Path, id: &SessionId) {
    let _ = fs::remove_file(state_dir.join(DIRECTORY).join(id.as_str()));
}

/// Removes what earlier managers left of sessions that are no more.
pub fn tidy(state_dir: &Path, exists: impl Fn(&SessionId) -> bool) {
    for entry in fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok());
        if !id.is_some_and(|id| exists(&id)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn utf8(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("the path {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_in_a_file_for_its_owner_and_goes_with_its_session() {
        let dir = tempfile::tempdir().unwrap();
        let program = McpProgram { command: "/bin/kennel".into(), socket: "/run/k.sock".into() };
        let id: SessionId = "session-1".parse().unwrap();
        let server = program.offer(dir.path(), &id, "secret").unwrap();
        assert_eq!(
            (server.name.as_str(), server.command.as_str(), &server.args[..]),
            ("kennel", "/bin/kennel", &["mcp".to_owned()][..])
        );
        let file = PathBuf::from(&server.env.iter().find(|(name, _)| name == TOKEN_FILE).unwrap().1);
        assert!(!format!("{server:?}").contains("secret"));
        let text = format!("session-1:{}\n", agent("secret"));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_ne!(agent("secret"), viewer("secret"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);

        program.offer(dir.path(), &"other".parse().unwrap(), "x").unwrap();
        fs::write(file.with_file_name(".session-1"), "left").unwrap();
        tidy(dir.path(), |id| id.as_str() == "session-1");
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        // Written anew it is the same, for whoever has it open too.
        program.offer(dir.path(), &id, "secret").unwrap();
        remove(dir.path(), &id);
        assert!(!file.exists());
    }
}
