//! `simplesvr CONFIG IP:PORT` and `spaxos serve`: one node, from startup to its exit code.
//!
//! What signals do is in `signals`. A panic is an assertion of ours that failed: it is logged, and the
//! process ends with exit code 4, so that no thread outlives another's.
//!
//! A disk that is full when the node starts is waited for, as one that fills up later is: the server serves
//! nothing in the meantime, says so once in a while, and starts when there is room. An exit code would not
//! do: a supervisor gives up on a program that ends again and again.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::directory;
use crate::logfile::{LogControl, RateLimited};
use crate::node::{End, Ender, ExitCode as Code, Node, Opened, StartError};

use super::output;
use super::signals::{Served, SignalThread};

/// How long `ready` waits for what was chosen in earlier runs to be delivered again.
const REPLAY_WAIT: Duration = Duration::from_secs(5);
/// How much longer than a proposal may take an orderly end may take.
const MORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a start waits before it looks again whether a full disk has room.
const ROOM_PROBE: Duration = Duration::from_secs(1);
/// How often it says that it waits.
const WAITING_EVERY: Duration = Duration::from_secs(60);

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
    match SignalThread::start().and_then(|signals| serve(config, client, until, &signals)) {
        Ok(code) => ExitCode::from(code as u8),
        Err(StartError { code, text, .. }) => {
            output::tell(&text);
            ExitCode::from(code as u8)
        }
    }
}

/// Checks a configuration and says what is wrong with it.
pub fn check(config: &Path) -> ExitCode {
    match Config::load(config) {
        Ok(valid) => {
            let (file, nodes) = (config.display(), valid.peers.len());
            let text = format!("{file}: valid, node {} of {nodes} in cluster {}", valid.node, valid.cluster);
            match output::print_line(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    output::tell(&error.to_string());
                    ExitCode::from(Code::Config as u8)
                }
            }
        }
        Err(error) => {
            output::tell(&error.to_string());
            ExitCode::from(Code::Config as u8)
        }
    }
}

fn serve(path: &Path, client: SocketAddr, until: Until, signals: &SignalThread) -> Result<Code, StartError> {
    exit_on_panic();
    let config = Config::load(path).map_err(|error| StartError::new(Code::Config, error.to_string()))?;
    raise_descriptor_limit();
    let warnings = config.warnings(client);
    let patience = Duration::from_millis(config.client.timeout_ms) + MORE_PATIENCE;
    let opened = when_there_is_room(|| Node::builder(config.clone()).client_port(client).log_file().open())?;
    let log = take_over_process(&opened);
    for warning in warnings {
        warn!("{warning}");
    }
    let node = opened.start().inspect_err(|error| {
        error!("{error}");
        log.flush();
    })?;
    let ender = node.ender();
    signals.serve(Served::new(ender.clone(), log.clone(), node.front(), patience));
    if until.stdin_closes {
        end_with_stdin(signals.clone());
    }
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

/// Opens a node, and waits as long as there is no room on the disk for that.
fn when_there_is_room(open: impl Fn() -> Result<Opened, StartError>) -> Result<Opened, StartError> {
    let mut warnings = RateLimited::new(WAITING_EVERY);
    loop {
        match open() {
            Err(error) if error.may_pass => {
                // The log file is not open yet.
                if warnings.allow(Instant::now()).is_some() {
                    output::tell(&format!(
                        "{error}. Nothing is served until there is room; the start is tried again every second"
                    ));
                }
                std::thread::sleep(ROOM_PROBE);
            }
            opened => return opened,
        }
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

/// The process's log, once it is open.
static LOG: OnceLock<LogControl> = OnceLock::new();

/// The node's log file becomes the process's.
pub(super) fn take_over_process(opened: &Opened) -> LogControl {
    let log = opened.log().expect("a server has a log file");
    let _ = log.install();
    LOG.get_or_init(|| log.control()).clone()
}

/// A panic ends the process, except for those of sled that `directory` catches and turns into errors.
pub(super) fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let Some(code) = directory::exit_code_of_panic() else { return };
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let backtrace = std::backtrace::Backtrace::force_capture();
        let what = if code == Code::Disk as u8 { "the storage engine failed" } else { "an assertion failed" };
        let text =
            format!("{what} in thread {name}: {panic}; please report it with these lines\n{backtrace}");
        match LOG.get() {
            Some(log) => {
                error!("{text}");
                log.flush();
            }
            None => output::tell(&text),
        }
        std::process::exit(i32::from(code));
    }));
}

/// The parent holds the other end of standard input: its end, however it comes, is this node's.
fn end_with_stdin(signals: SignalThread) {
    let wait = move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
        signals.end();
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".into()).spawn(wait) {
        error!("cannot start the stdin thread: {error}");
    }
}
