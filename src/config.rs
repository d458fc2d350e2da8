//! The configuration of a node, read from TOML ([`Config::load`]) or made in code ([`Config::new`]). Either
//! it is valid, or an error names the key and what is allowed, and for TOML the file and line.
//!
//! Everything is checked here and held as what it means (addresses, paths, ranges), so that nothing is
//! checked again later. Left out: the client address, which is on the command line, and what only the machine
//! knows (whether an address can be bound or a folder written).
//!
//! ```
//! use spaxos::Config;
//!
//! let peers = [(1, "10.0.0.1:7001"), (2, "10.0.0.2:7001"), (3, "10.0.0.3:7001")];
//! let peers = peers.map(|(node, address)| (node, address.parse().unwrap()));
//! let mut config = Config::new("chat", 2, peers, "/var/lib/chat").unwrap();
//! config.timing.election_ms = 500;
//! config.timing.heartbeat_ms = 300;
//! let error = config.check().unwrap_err().to_string();
//! assert!(error.contains("timing.heartbeat_ms is 300; allowed are 5 to 249"), "{error}");
//! ```

mod reader;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::NodeId;

use rules::in_range;

pub use rules::{MAX_CLUSTER_BYTES, MAX_PEERS};

/// A valid configuration. Relative paths are relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name: 1 to 64 ASCII letters, digits, `.`, `_` or `-`. Nodes with different cluster names
    /// refuse each other.
    pub cluster: String,
    /// This node, which is one of `peers`.
    pub node: NodeId,
    /// How the nodes agree.
    pub protocol: ProtocolName,
    /// The data directory.
    pub data: PathBuf,
    /// The founding members by id with their peer addresses, this node included; 1 to [`MAX_PEERS`].
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// `peers_key`: the file with the secret by which the nodes of a cluster know each other, the same on all
    /// of them; none by default, and then anyone who reaches a peer port can pass for a node. One or two
    /// lines of 64 hexadecimal digits: a node proves itself with the first key and accepts both. If all
    /// members are on loopback addresses, the first that starts makes the file.
    pub peers_key: Option<PathBuf>,
    /// `[log]`.
    pub log: LogConfig,
    /// `[timing]`.
    pub timing: Timing,
    /// `[limits]`.
    pub limits: Limits,
    /// `[client]`.
    pub client: ClientConfig,
    /// `[store]`.
    pub store: StoreConfig,
    /// The file that it was read from; [`Source::default`] if it was made otherwise.
    pub source: Source,
}

/// The file that a configuration was read from, if it was. Configurations from different files may be equal.
#[derive(Clone, Debug, Default)]
pub struct Source(Option<PathBuf>);

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Eq for Source {}

/// `[log]`: the log file and the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `file`: where chosen and diagnostic lines go; `simplesvr.log` in the data directory by default. A FIFO
    /// or a device works as well; each start writes the lines of the whole log into it again.
    pub file: PathBuf,
    /// `level`: the least important level of diagnostic lines that is written: `error`, `warn`, `info`
    /// (default), `debug` or `trace`. Chosen lines are written whatever the level.
    pub level: log::LevelFilter,
    /// `terminal`: what stdout shows as well.
    pub terminal: Terminal,
    /// `max_mb`: the size at which the log file is rotated, in MiB; 1 to 1,048,576, 256 by default.
    pub max_mb: u64,
    /// `keep`: how many rotated files are kept; 1 to 1000, 4 by default.
    pub keep: u32,
}

/// What the terminal shows of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// `"diagnostics"` (default): all lines except chosen lines.
    #[default]
    Diagnostics,
    /// `"all"`: chosen lines as well. Lines that come faster than the terminal shows them are dropped there.
    All,
    /// `"off"`: nothing.
    Off,
}

/// `[timing]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `election_ms`, the T of the design: a node that hears from no leader for a random time in [T, 2T)
    /// campaigns. 50 to 60,000, 300 by default; the same on all nodes.
    pub election_ms: u64,
    /// `heartbeat_ms`: how often an idle leader shows that it is alive. 5 to 29,999 and less than half of
    /// `election_ms`; 50 by default, or a sixth of `election_ms` if only that is given.
    pub heartbeat_ms: u64,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `value_bytes`: the longest value that clients may propose; 1 to 1,048,576 (default). Longer values are
    /// answered with `-TOOLARGE`.
    pub value_bytes: usize,
    /// `window_entries`: how many indexes may be proposed and not yet chosen; 1 to 65,536, 4096 by default.
    pub window_entries: u64,
    /// `window_bytes`: how many bytes may be proposed and not yet chosen, although one entry is always
    /// allowed; 65,536 to 1 GiB, 16 MiB by default.
    pub window_bytes: usize,
    /// `clients`: the most client connections; 1 to 100,000, 10,000 by default. Further ones are told so and
    /// closed. A node serves fewer, and warns, if the limit of open files leaves no room for so many next to
    /// what peers, disk and log need.
    pub clients: usize,
    /// `pending`: how many requests of all clients may wait for their answer; 1 to 1,000,000, 100,000 by
    /// default. Further ones are answered with `-BUSY`.
    pub pending: usize,
}

/// `[client]`: the client port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `timeout_ms`: a proposal that is not delivered in this time is answered with `-TIMEOUT`; 10 to
    /// 3,600,000, 5000 by default.
    pub timeout_ms: u64,
    /// `idle_s`: a connection on which no request and no answer is pending is closed after this many seconds;
    /// 1 to 604,800, 3600 by default.
    pub idle_s: u64,
    /// `partial_s`: a connection whose request stays half-sent is closed after this many seconds; 1 to 3600,
    /// 30 by default.
    pub partial_s: u64,
}

/// `[store]`: the data on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// `cache_mb`: how much memory the storage engine may use for its cache, in MiB; 1 to 65,536, 64 by
    /// default.
    pub cache_mb: u64,
    /// `free_mb`: with less free space on the disk than this, in MiB, proposals are answered with `-BUSY`; 0
    /// to 1,048,576, 64 by default.
    pub free_mb: u64,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file does not exist or cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted in characters from 1.
        column: usize,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// Something in a configuration that was made in code is wrong.
    #[error("the configuration: {what}")]
    Value {
        /// The key as in TOML, its value, and what is allowed.
        what: String,
    },
}

impl Config {
    /// Makes a configuration in code, with the defaults that the fields document, except that nothing is
    /// shown on the terminal ([`Terminal::Off`]). Change fields as you like: [`Config::check`] is called
    /// again when a node starts. A cluster of one may have port 0, which takes any free port.
    pub fn new(
        cluster: impl Into<String>,
        node: NodeId,
        peers: impl IntoIterator<Item = (NodeId, SocketAddr)>,
        data: impl Into<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let mut by_id = BTreeMap::new();
        for (peer, address) in peers {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            if by_id.insert(peer, address).is_some() {
                return Err(ConfigError::Value { what: rules::stands_twice(peer) });
            }
        }
        let config = reader::with_defaults(cluster.into(), node, by_id, data.into())
            .map_err(|wrong| ConfigError::Value { what: wrong.what })?;
        config.check()?;
        Ok(config)
    }

    /// Checks that everything is allowed. This is useful after a field was changed.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_rules().map_err(|what| ConfigError::Value { what })
    }

    fn check_rules(&self) -> rules::Result<()> {
        let Config {
            cluster,
            node,
            data,
            peers,
            peers_key,
            log,
            timing,
            limits,
            client,
            store,
            protocol: _,
            source: _,
        } = self;
        rules::cluster(cluster)?;
        in_range("node", *node, &rules::NODE, "")?;
        rules::peers(peers)?;
        rules::member(*node, peers)?;
        rules::path("data", data)?;
        peers_key.iter().try_for_each(|file| rules::path("peers_key", file))?;
        rules::path("log.file", &log.file)?;
        in_range("log.max_mb", log.max_mb, &rules::MAX_MB, "")?;
        in_range("log.keep", u64::from(log.keep), &rules::KEEP, "")?;
        in_range("timing.election_ms", timing.election_ms, &rules::ELECTION_MS, "")?;
        let (allowed, why) = rules::heartbeat_ms(timing.election_ms);
        in_range("timing.heartbeat_ms", timing.heartbeat_ms, &allowed, &why)?;
        in_range("limits.value_bytes", limits.value_bytes as u64, &rules::VALUE_BYTES, "")?;
        in_range("limits.window_entries", limits.window_entries, &rules::WINDOW_ENTRIES, "")?;
        in_range("limits.window_bytes", limits.window_bytes as u64, &rules::WINDOW_BYTES, "")?;
        in_range("limits.clients", limits.clients as u64, &rules::CLIENTS, "")?;
        in_range("limits.pending", limits.pending as u64, &rules::PENDING, "")?;
        in_range("client.timeout_ms", client.timeout_ms, &rules::TIMEOUT_MS, "")?;
        in_range("client.idle_s", client.idle_s, &rules::IDLE_S, "")?;
        in_range("client.partial_s", client.partial_s, &rules::PARTIAL_S, "")?;
        in_range("store.cache_mb", store.cache_mb, &rules::CACHE_MB, "")?;
        in_range("store.free_mb", store.free_mb, &rules::FREE_MB, "")
    }

    /// Reads a file of at most 1 MiB.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let text =
            reader::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config = Config::parse(&text, path)?;
        Ok(Config { source: Source(Some(path.to_owned())), ..config })
    }

    /// The files that belong to the configuration, each with what it is: nothing else may be written into
    /// them.
    pub(crate) fn own_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let source = self.source.0.iter().map(|path| ("the configuration", path.as_path()));
        source.chain(self.peers_key.iter().map(|path| ("the key of the peers", path.as_path())))
    }

    /// Reads a text. `path` is what errors name.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        reader::parse(text).map_err(|wrong| {
            let (line, column) = reader::position(text, wrong.at);
            ConfigError::Invalid { path: path.to_owned(), line, column, what: wrong.what }
        })
    }

    /// What a person should know before a node runs with this client address, one sentence each.
    pub fn warnings(&self, client: SocketAddr) -> Vec<String> {
        let mut warnings = Vec::new();
        if !client.ip().to_canonical().is_loopback() {
            warnings.push(format!(
                "the client port {client} can be reached from other machines, and there is no \
                 authentication: anyone who reaches it can read and propose"
            ));
        }
        if self.peers.len().is_multiple_of(2) {
            let nodes = self.peers.len();
            warnings.push(format!(
                "{nodes} nodes survive the loss of {}, as {} would: an odd number is better",
                (nodes - 1) / 2,
                nodes - 1
            ));
        }
        warnings
    }
}

/// Reads an address as IP and port, such as `127.0.0.1:9001` or `[::1]:9001`. The error explains the form.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not an address: write IP:PORT, such as \"127.0.0.1:9001\" or \"[::1]:9001\" \
             (host names are not looked up)"
        )
    })
}
