//! How a node is started, both in a server and embedded in a program.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::application::Application;
use crate::config::Config;
use crate::directory::{self, StoreOptions};
use crate::logfile::{self, ChosenLog, Log, LogOptions};
use crate::pipeline::ledger;
use crate::store::memory::MemoryEngine;
use crate::store::{Founding, Recovered, Store};

use super::ending::ExitCode;
use super::errors::StartError;
use super::items::ApplySender;
use super::parts::Parts;
use super::peers_key::PeersKey;
use super::{Node, descriptors, wiring};

/// What a node will be, before it starts. Made by [`Node::builder`].
#[must_use = "a node that is not started does nothing"]
pub struct Builder {
    config: Config,
    application: Option<Box<dyn Application>>,
    apply: Option<ApplySender>,
    client: Option<SocketAddr>,
    peer_listener: Option<TcpListener>,
    memory: Option<MemoryDisk>,
    log_file: bool,
}

impl Builder {
    pub(super) fn new(config: Config) -> Builder {
        Builder {
            config,
            application: None,
            apply: None,
            client: None,
            peer_listener: None,
            memory: None,
            log_file: false,
        }
    }

    /// Applies what is chosen to this application, which must be a fresh one: after each start the log is
    /// applied from its oldest index.
    pub fn application(mut self, application: impl Application + 'static) -> Builder {
        self.application = Some(Box::new(application));
        self
    }

    /// Sends what is chosen to this channel, made by [`apply_channel`](super::apply_channel), after applying
    /// it to the application if there is one.
    pub fn apply_channel(mut self, sender: ApplySender) -> Builder {
        self.apply = Some(sender);
        self
    }

    /// Serves clients (RESP2 and telnet lines, as `simplesvr` does) on this address; port 0 takes any free
    /// port ([`Node::client_address`]). Without this call there is no client port.
    ///
    /// If the process may not have enough descriptors for `limits.clients` next to those that peers, disk and
    /// log need, fewer clients are served, and a warning says so when the node starts. The limit of the
    /// process is left as it is.
    pub fn client_port(mut self, address: SocketAddr) -> Builder {
        self.client = Some(address);
        self
    }

    /// Peers connect to this socket, which must already listen, and not to one bound to this node's address
    /// in the configuration. This is for tests, which cannot know a free port, and for a parent process that
    /// passes a socket on.
    pub fn peer_listener(mut self, listener: TcpListener) -> Builder {
        self.peer_listener = Some(listener);
        self
    }

    /// Keeps everything in memory and nothing in the data directory: for tests and examples. **This is not a
    /// disk. When the process ends everything is lost, promises included, and a node that forgets what it
    /// promised breaks consensus: it must never come back under its id to a cluster whose other nodes live
    /// on.** A node that is started again on the same [`MemoryDisk`] after a stop, within the process, loses
    /// nothing.
    pub fn in_memory(mut self, disk: &MemoryDisk) -> Builder {
        self.memory = Some(disk.clone());
        self
    }

    /// Writes a line for each delivered index into the file `log.file` of the configuration, as `simplesvr`
    /// does. No line is lost or repeated, even across kill -9; delivery on this node waits for the file.
    /// (Nothing can be read back from a FIFO or a device: each start writes the lines of the whole log into
    /// it again.) Without this call there is no such file. Diagnostic lines go to the `log` crate's macros
    /// in any case, and so to whatever logger the program has.
    pub fn log_file(mut self) -> Builder {
        self.log_file = true;
        self
    }

    /// Starts the node: [`Builder::open`], then [`Opened::start`].
    pub fn start(self) -> Result<Node, StartError> {
        self.open()?.start()
    }

    /// Checks the configuration and that there are enough descriptors for peers, disk and log, reads the key
    /// of the peers (or makes it), opens (or founds) the data directory and locks it, and then opens the log
    /// file: for callers that have something to do before the start. If the disk is full the error says that
    /// it [may pass](StartError::may_pass); nothing is left open then, and nothing is lost.
    pub fn open(self) -> Result<Opened, StartError> {
        self.config.check().map_err(|error| StartError::new(ExitCode::Config, error.to_string()))?;
        let peers_key = PeersKey::open(&self.config)?;
        let wanted = self.client.map_or(0, |_| self.config.limits.clients);
        let clients = descriptors::fit(wanted, self.config.peers.len() - 1)?;
        let (store, recovered) = open_store(&self.config, self.memory.as_ref())?;
        let log = self.log_file.then(|| open_log(&self.config)).transpose()?;
        let Builder { config, application, apply, client, peer_listener, .. } = self;
        let parts = Parts {
            config,
            peers_key,
            application,
            apply,
            client,
            clients,
            peer_listener,
            store,
            recovered,
            log,
        };
        Ok(Opened { parts })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A node whose data directory is open: nobody else uses it now.
#[must_use = "a node that is not started does nothing"]
pub struct Opened {
    pub(super) parts: Parts,
}

impl Opened {
    /// The log file, if one was asked for: a server makes it the process's logger.
    #[cfg(feature = "internals")]
    pub fn log(&self) -> Option<&Log> {
        self.parts.log.as_ref().map(|(log, _)| log)
    }

    /// Binds the ports and starts the threads.
    pub fn start(self) -> Result<Node, StartError> {
        Ok(Node { running: wiring::start(self.parts)? })
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("config", &self.parts.config).finish_non_exhaustive()
    }
}

/// A disk that is not one: see [`Builder::in_memory`]. Clones share the same contents.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<MemoryEngine>);

fn open_store(config: &Config, memory: Option<&MemoryDisk>) -> Result<(Store, Recovered), StartError> {
    let members = config.peers.iter().map(|(node, address)| (*node, address.to_string())).collect();
    let founding = Founding {
        cluster: config.cluster.clone(),
        node: config.node,
        protocol: config.protocol.name().to_owned(),
        members,
        delivery_window: ledger::WINDOW as u64,
    };
    let opened = match memory {
        Some(MemoryDisk(engine)) => {
            let mut id = [0; 16];
            getrandom::fill(&mut id)
                .map_err(|error| StartError::new(ExitCode::Data, format!("no random bytes: {error}")))?;
            Store::open_on(engine.clone(), &founding, u128::from_le_bytes(id))
        }
        None => directory::open(StoreOptions {
            cache_bytes: config.store.cache_mb << 20,
            free_low_bytes: config.store.free_mb << 20,
            ..StoreOptions::new(&config.data, founding)
        }),
    };
    opened.map_err(|error| match error.exit_code() {
        _ if error.may_pass() => StartError::no_room(error.to_string()),
        1 => StartError::new(ExitCode::Config, error.to_string()),
        _ => StartError::new(ExitCode::Data, error.to_string()),
    })
}

/// Called with the data directory open and locked.
fn open_log(config: &Config) -> Result<(Log, ChosenLog), StartError> {
    let wrong = |text: String| StartError::new(ExitCode::Config, text);
    let data = directory::files(&config.data).map_err(|error| wrong(error.to_string()))?;
    let taken = config.own_files().map(|(what, path)| (what.to_owned(), path.to_owned())).chain(data);
    logfile::check_apart(&config.log.file, config.log.keep, taken).map_err(wrong)?;
    logfile::open(&log_options(config)).map_err(|error| match error.is_no_room() {
        true => StartError::no_room(error.to_string()),
        false => wrong(error.to_string()),
    })
}

fn log_options(config: &Config) -> LogOptions {
    LogOptions {
        path: config.log.file.clone(),
        level: config.log.level,
        terminal: config.log.terminal,
        max_bytes: config.log.max_mb << 20,
        keep: config.log.keep,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::node::{End, ProposeError, WaitError};
    use crate::store::engine::EngineError;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn start(disk: &MemoryDisk) -> Node {
        let peers = [(1, "127.0.0.1:0".parse().unwrap())];
        let config = Config::new("test", 1, peers, "unused").unwrap();
        Node::builder(config).in_memory(disk).start().unwrap()
    }

    /// A flush that fails ends the node: those that wait are told, nothing more is accepted, the process goes
    /// on.
    #[test]
    fn a_failed_disk_ends_the_node_only() {
        let disk = MemoryDisk::default();
        let node = start(&disk);
        node.propose("a").unwrap().wait(PATIENCE).unwrap();
        disk.0.fail_sync(EngineError::Failed("a test let it fail".into()));
        let proposed = node.propose("b").unwrap();
        assert_eq!(proposed.wait(PATIENCE), Err(WaitError::Ended));
        let End::Failed(failure) = node.wait() else { panic!("nobody asked for the end") };
        assert_eq!(failure.code, ExitCode::Disk);
        assert!(failure.text.contains("a test let it fail"), "{failure}");
        assert_eq!(node.propose("c").unwrap_err(), ProposeError::Ended);
        assert_eq!(node.stop(), Err(failure));
    }

    /// A full disk is temporary: proposals are refused until there is room, and what was delivered before
    /// stays.
    #[test]
    fn a_full_disk_passes() {
        let disk = MemoryDisk::default();
        let node = start(&disk);
        let first = node.propose("a").unwrap().wait(PATIENCE).unwrap();
        disk.0.set_full(true);
        let began = Instant::now();
        // One may be accepted before the failure is noticed; what became of it is unknown.
        while !matches!(node.propose("b").map(drop), Err(ProposeError::Busy(_))) {
            assert!(began.elapsed() < PATIENCE, "the full disk was not noticed");
        }
        disk.0.set_full(false);
        let delivered = loop {
            match node.propose("c") {
                Ok(proposed) => break proposed.wait(PATIENCE).unwrap(),
                Err(ProposeError::Busy(_)) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
            assert!(began.elapsed() < PATIENCE, "there is room, but no proposal is accepted");
        };
        assert!(delivered.index > first.index);
        assert_eq!(node.get(first.index).unwrap().unwrap().command.unwrap().payload, "a");
        node.stop().unwrap();
    }
}
