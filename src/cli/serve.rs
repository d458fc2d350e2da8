//! `simplesvr CONFIG IP:PORT` and `spaxos serve`: not wired yet.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// How a server is told to end beside signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// End in order, as after SIGTERM, when standard input reaches its end: a child then cannot outlive a
    /// parent that was killed with -9.
    pub stdin_closes: bool,
}

/// Serves until it is told to end; the exit code says why it ended.
pub fn run(_config: &Path, _client: SocketAddr, _until: Until) -> ExitCode {
    eprintln!("serve: this version has no server yet");
    ExitCode::from(1)
}

/// Checks a configuration and says what is wrong with it.
pub fn check(_config: &Path) -> ExitCode {
    eprintln!("--check: this version has no server yet");
    ExitCode::from(1)
}
