//! `simplesvr CONFIG IP:PORT` and `spaxos serve`: one node, from startup to its exit code.
//!
//! Signals: SIGINT and SIGTERM end the node in order (a second one immediately), SIGHUP reopens the log file,
//! SIGUSR1 writes the status into it. A panic is an assertion of ours that failed: it is logged, and the
//! process ends with exit code 4, so that no thread outlives another's.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::client::front::Front;
use crate::config::Config;
use crate::directory;
use crate::logfile::LogControl;
use crate::node::{End, Ender, ExitCode as Code, Node, Opened, StartError};

/// How long `ready` waits for what was chosen in earlier runs to be delivered again.
const REPLAY_WAIT: Duration = Duration::from_secs(5);

/// How often freed memory is handed back to the system; longer than mimalloc keeps it for the next time,
/// which is a second.
const HAND_BACK_EVERY: Duration = Duration::from_secs(5);

/// How a server is told to end, besides signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// End in order, as after SIGTERM, when standard input reaches its end: a child then cannot outlive a
    /// parent that was killed with -9.
    pub stdin_closes: bool,
}

/// Serves until it is told to end; the exit code says why it ended.
pub fn run(config: &Path, client: SocketAddr, until: Until) -> ExitCode {
    match serve(config, client, until) {
        Ok(code) => ExitCode::from(code as u8),
        Err(StartError { code, text }) => {
            eprintln!("{text}");
            ExitCode::from(code as u8)
        }
    }
}

/// Checks a configuration and says what is wrong with it.
pub fn check(config: &Path) -> ExitCode {
    match Config::load(config) {
        Ok(valid) => {
            println!(
                "{}: valid, node {} of {} in cluster {}",
                config.display(),
                valid.node,
                valid.peers.len(),
                valid.cluster
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(Code::Config as u8)
        }
    }
}

fn serve(path: &Path, client: SocketAddr, until: Until) -> Result<Code, StartError> {
    let config =
        Config::load(path).map_err(|error| StartError { code: Code::Config, text: error.to_string() })?;
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map_err(|error| StartError {
        code: Code::Config,
        text: format!("cannot handle signals: {error}"),
    })?;
    raise_descriptor_limit();
    let warnings = config.warnings(client);
    let opened = Node::builder(config).client_port(client).log_file().open()?;
    let log = take_over_process(&opened);
    for warning in warnings {
        warn!("{warning}");
    }
    let node = opened.start().inspect_err(|error| {
        error!("{error}");
        log.flush();
    })?;
    let ender = node.ender();
    if until.stdin_closes {
        end_with_stdin(ender.clone());
    }
    handle_signals(signals, ender.clone(), log.clone(), node.front());
    let end = wait_for_replay(&node, &ender).unwrap_or_else(|| {
        // The line that scripts wait for.
        info!(
            "ready client={} peers={} node={} applied={}",
            node.client_address().unwrap_or(client),
            node.peer_address(),
            node.id(),
            node.applied()
        );
        wait_for_end(&ender)
    });
    match end {
        End::Failed(failure) => {
            log.flush();
            // Nothing more is acknowledged or written: what the other threads still do must not matter.
            std::process::exit(failure.code as i32);
        }
        End::Asked => Ok(node.stop().map_or_else(|failure| failure.code, |()| Code::Ok)),
    }
}

/// Waits for the end. In the meantime it lets a thread end once in a while: only then, or after many further
/// allocations, does mimalloc hand freed memory back to the system, and what a flood of clients took would
/// stay with an idle node forever.
fn wait_for_end(ender: &Ender) -> End {
    loop {
        if let Some(end) = ender.wait(Some(HAND_BACK_EVERY)) {
            return end;
        }
        // The allocator gets to know a thread by its first allocation.
        let thread = std::thread::Builder::new().name("memory".into());
        let spawned = thread.spawn(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(64))));
        // Without it the memory is handed back later.
        let _ = spawned.map(|thread| thread.join());
    }
}

/// Waits until the log that this node had is delivered again, but at most [`REPLAY_WAIT`]: it serves in the
/// meantime, and a log file that takes no lines must not keep it from saying so. Returns the end, if that
/// came first.
fn wait_for_replay(node: &Node, ender: &Ender) -> Option<End> {
    let began = Instant::now();
    while !node.is_replayed() && began.elapsed() < REPLAY_WAIT {
        let end = ender.wait(Some(Duration::from_millis(2)));
        if end.is_some() {
            return end;
        }
    }
    None
}

/// Raises the limit of descriptors as far as the system allows without privileges. A failure leaves it as it
/// was, and the node makes the best of that.
pub(super) fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The node's log file becomes the process's, and a panic its end.
pub(super) fn take_over_process(opened: &Opened) -> LogControl {
    let log = opened.log().expect("a server has a log file");
    let _ = log.install();
    exit_on_panic(log.control());
    log.control()
}

/// A panic ends the process, except for those of sled that `directory` catches and turns into errors.
fn exit_on_panic(log: LogControl) {
    std::panic::set_hook(Box::new(move |panic| {
        let Some(code) = directory::exit_code_of_panic() else { return };
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let backtrace = std::backtrace::Backtrace::force_capture();
        let what = if code == Code::Disk as u8 { "the storage engine failed" } else { "an assertion failed" };
        error!("{what} in thread {name}: {panic}; please report it with these lines\n{backtrace}");
        log.flush();
        std::process::exit(i32::from(code));
    }));
}

fn handle_signals(mut signals: Signals, ender: Ender, log: LogControl, front: Arc<dyn Front>) {
    let handle = move || {
        let mut asked = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => match log.reopen() {
                    Ok(()) => info!("SIGHUP: the log file was opened again"),
                    Err(error) => error!("SIGHUP: {error}; lines still go into the old file"),
                },
                SIGUSR1 => log_status(&*front),
                _ if asked => std::process::exit(128 + signal),
                _ => {
                    asked = true;
                    ender.ask();
                }
            }
        }
    };
    let spawned = std::thread::Builder::new().name("signals".into()).spawn(handle);
    if let Err(error) = spawned {
        error!("cannot start the signals thread: {error}");
    }
}

fn log_status(front: &dyn Front) {
    for (section, lines) in front.status().lines() {
        let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        info!("status {section}: {}", lines.join(" "));
    }
}

/// The parent holds the other end of standard input: its end, however it comes, is this node's.
fn end_with_stdin(ender: Ender) {
    let wait = move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
        ender.ask();
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".into()).spawn(wait) {
        error!("cannot start the stdin thread: {error}");
    }
}
