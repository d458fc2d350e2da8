//! The command lines of both programs: which arguments they take, and which part of `cli` does the work.
//!
//! Exit codes: 0 ended in order, 1 arguments or configuration (and anything that keeps `demo` or `bench` from
//! running), 2 to 4 as those of the server. clap itself would exit with 2, so its errors are printed here.

pub mod bench;
pub mod check;
pub mod cluster;
pub mod demo;
pub mod dump;
pub mod error;
mod instance_line;
pub mod key;
mod output;
pub mod rank;
pub mod resp;
pub mod serve;
mod signals;
pub mod sim;
pub mod trace;
pub mod unbind;
mod version;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use error::Error;

/// A replicated log: run it, see it work, measure it, read its data.
#[derive(Debug, Parser)]
#[command(name = "spaxos", version = version::text())]
struct Spaxos {
    #[command(subcommand)]
    command: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Run one node, as `simplesvr` does
    Serve(Serve),
    /// Three nodes on this machine, three proposals, their logs; stays up until Ctrl-C
    Demo(demo::Demo),
    /// Load a cluster (its own, or a running one) and print throughput, latency and cost
    Bench(bench::Bench),
    /// A node that makes values while it leads, and logs them for `check`
    Rank(rank::Rank),
    Check(check::Check),
    /// Print what a stopped node holds on disk
    Dump {
        /// The node's data directory
        dir: PathBuf,
    },
    /// Make the secret by which the nodes of a cluster know each other (peers_key)
    Key {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Let a stopped node forget which data directory a peer has; says first what may be lost
    Unbind(unbind::Unbind),
    /// Run whole clusters under faults in virtual time, from seeds, and check every rule after every step
    Sim(Box<sim::Sim>),
    /// Show a simulated run that was recorded: as a picture, a sequence diagram, or in words
    Trace(trace::Arguments),
}

#[derive(Args, Debug)]
struct Serve {
    /// The node's configuration (TOML)
    config: PathBuf,
    /// Where clients connect, such as 127.0.0.1:9001
    #[arg(value_name = "IP:PORT", value_parser = client_address)]
    client: SocketAddr,
    /// End in order when standard input ends: a child's bond to its parent
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// A node of a replicated log.
#[derive(Debug, Parser)]
#[command(name = "simplesvr", version = version::text())]
struct Simplesvr {
    /// Only check the configuration
    #[arg(long, conflicts_with = "client")]
    check: bool,
    /// The node's configuration (TOML)
    config: PathBuf,
    /// Where clients connect, such as 127.0.0.1:9001
    #[arg(value_name = "IP:PORT", value_parser = client_address, required_unless_present = "check")]
    client: Option<SocketAddr>,
}

/// The program `spaxos`. `arguments` includes its name.
pub fn spaxos(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    take_file_size_signal();
    match Spaxos::try_parse_from(arguments) {
        Ok(Spaxos { command: Tool::Serve(serve) }) => {
            let until = serve::Until { stdin_closes: serve.until_stdin_closes };
            serve::run(&serve.config, serve.client, until)
        }
        Ok(Spaxos { command: Tool::Demo(arguments) }) => end("demo", demo::run(&arguments)),
        Ok(Spaxos { command: Tool::Bench(arguments) }) => end("bench", bench::run(&arguments)),
        Ok(Spaxos { command: Tool::Rank(arguments) }) => rank::run(&arguments),
        Ok(Spaxos { command: Tool::Check(arguments) }) => check::run(&arguments),
        Ok(Spaxos { command: Tool::Dump { dir } }) => end("dump", dump::print(&dir)),
        Ok(Spaxos { command: Tool::Key { file } }) => {
            end("key", key::run(&file, &mut std::io::stdout().lock()))
        }
        Ok(Spaxos { command: Tool::Unbind(arguments) }) => end("unbind", unbind::print(&arguments)),
        Ok(Spaxos { command: Tool::Sim(arguments) }) => end("sim", sim::run(&arguments)),
        Ok(Spaxos { command: Tool::Trace(arguments) }) => end("trace", trace::run(&arguments)),
        Err(error) => refuse(&error),
    }
}

/// The program `simplesvr`. `arguments` includes its name.
pub fn simplesvr(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    take_file_size_signal();
    match Simplesvr::try_parse_from(arguments) {
        Ok(Simplesvr { config, client: Some(client), .. }) => {
            serve::run(&config, client, serve::Until { stdin_closes: false })
        }
        Ok(Simplesvr { config, client: None, .. }) => serve::check(&config),
        Err(error) => refuse(&error),
    }
}

/// A file-size limit (RLIMIT_FSIZE) must be an error of the write, EFBIG, which passes like any lack of room.
/// By default it would kill the process by SIGXFSZ.
fn take_file_size_signal() {
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
        output::tell(&format!(
            "SIGXFSZ cannot be handled, so a file-size limit would kill the process: {error}"
        ));
    }
}

fn end(command: &str, result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&format!("spaxos {command}: {error}"));
            ExitCode::from(1)
        }
    }
}

/// Prints clap's text: help and version are answers (0), all else is a mistake (1).
fn refuse(error: &clap::Error) -> ExitCode {
    let printed = output::unless_nobody_reads(error.print());
    ExitCode::from(u8::from(error.use_stderr() || printed.is_err()))
}

fn client_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port, such as 127.0.0.1:9001".to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap's own consistency checks of both definitions.
    #[test]
    fn definitions_are_consistent() {
        Spaxos::command().debug_assert();
        Simplesvr::command().debug_assert();
    }
}
