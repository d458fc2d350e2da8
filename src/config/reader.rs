//! From text to a [`Config`]: serde reads the shape, then each value is checked for its meaning. Errors carry
//! the place of what is wrong.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::consensus::protocols::{ProtocolName, UnknownProtocol};
use crate::consensus::types::{MAX_PAYLOAD_BYTES, NodeId};

use super::rules::{self, Allowed};
use super::{ClientConfig, Config, Limits, LogConfig, Source, StoreConfig};
use super::{Terminal, Timing, parse_address};

/// The longest configuration that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What is wrong, and at which byte.
pub struct Wrong {
    pub at: usize,
    pub what: String,
}

type Result<T> = std::result::Result<T, Wrong>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    cluster: Spanned<String>,
    node: Spanned<i64>,
    protocol: Spanned<String>,
    data: Spanned<String>,
    peers: Spanned<Vec<RawPeer>>,
    peers_key: Option<Spanned<String>>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    timing: RawTiming,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    client: RawClient,
    #[serde(default)]
    store: RawStore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    node: Spanned<i64>,
    address: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    file: Option<Spanned<String>>,
    level: Option<Spanned<String>>,
    terminal: Option<Spanned<String>>,
    max_mb: Option<Spanned<i64>>,
    keep: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTiming {
    election_ms: Option<Spanned<i64>>,
    heartbeat_ms: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLimits {
    value_bytes: Option<Spanned<i64>>,
    window_entries: Option<Spanned<i64>>,
    window_bytes: Option<Spanned<i64>>,
    clients: Option<Spanned<i64>>,
    pending: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawClient {
    timeout_ms: Option<Spanned<i64>>,
    idle_s: Option<Spanned<i64>>,
    partial_s: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStore {
    cache_mb: Option<Spanned<i64>>,
    free_mb: Option<Spanned<i64>>,
}

/// The text of a file.
pub fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("the file is longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// The line and column of a byte, counted from 1. The column counts characters.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    (line, 1 + String::from_utf8_lossy(&before[line_start..]).chars().count())
}

/// Reads and checks the whole text. The first thing that is wrong ends it.
pub fn parse(text: &str) -> Result<Config> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let what = shape_error(text, at, error.message());
        Wrong { at: if has_line(text, at, error.message()) { at } else { first_key(text) }, what }
    })?;
    let node = node_id("node", &raw.node)?;
    let peers = peers(&raw.peers)?;
    at(&raw.node.span(), rules::member(node, &peers))?;
    let data = path("data", &raw.data)?;
    Ok(Config {
        cluster: cluster(&raw.cluster)?,
        node,
        protocol: protocol(&raw.protocol)?,
        peers,
        peers_key: raw.peers_key.as_ref().map(|file| path("peers_key", file)).transpose()?,
        log: log(&raw.log, &data)?,
        data,
        timing: timing(&raw.timing)?,
        limits: limits(&raw.limits)?,
        client: client(&raw.client)?,
        store: store(&raw.store)?,
        source: Source::default(),
    })
}

/// A configuration in which everything that has a default has it. It is not checked yet.
pub fn with_defaults(
    cluster: String,
    node: NodeId,
    peers: BTreeMap<NodeId, SocketAddr>,
    data: PathBuf,
) -> Result<Config> {
    Ok(Config {
        cluster,
        node,
        protocol: ProtocolName::Paxos,
        peers,
        peers_key: None,
        log: LogConfig { terminal: Terminal::Off, ..log(&RawLog::default(), &data)? },
        data,
        timing: timing(&RawTiming::default())?,
        limits: limits(&RawLimits::default())?,
        client: client(&RawClient::default())?,
        store: store(&RawStore::default())?,
        source: Source::default(),
    })
}

/// Whether what is wrong is on the line that serde names. A key that is missing has no line, only the table
/// that lacks it, and if that is the whole file serde names the first line, whatever that is.
fn has_line(text: &str, at: usize, message: &str) -> bool {
    !message.starts_with("missing field") || line_at(text, at).starts_with('[')
}

fn line_at(text: &str, at: usize) -> &str {
    let (line, _) = position(text, at);
    text.lines().nth(line - 1).unwrap_or_default().trim()
}

/// Where the first line begins that is neither empty nor a comment: a key of the whole file belongs there.
fn first_key(text: &str) -> usize {
    let is_nothing = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    text.split_inclusive('\n').take_while(is_nothing).map(str::len).sum()
}

/// serde's message names keys, but not always the one with the wrong type; the line shows that.
fn shape_error(text: &str, at: usize, message: &str) -> String {
    let here = if has_line(text, at, message) { line_at(text, at) } else { "" };
    let here: String = here.chars().take(80).collect();
    let message = message.replace("unknown field", "unknown key").replace("missing field", "missing key");
    let message = message.replace("expected one of", "allowed are");
    let hint = if message.starts_with("missing key") {
        "; cluster, node, protocol, data and [[peers]] with node and address are required"
    } else {
        ""
    };
    if here.is_empty() { format!("{message}{hint}") } else { format!("{message}{hint}, in `{here}`") }
}

fn cluster(name: &Spanned<String>) -> Result<String> {
    at(&name.span(), rules::cluster(name.get_ref()))?;
    Ok(name.get_ref().clone())
}

fn protocol(name: &Spanned<String>) -> Result<ProtocolName> {
    name.get_ref().parse().or_else(|error: UnknownProtocol| wrong(&name.span(), error.to_string()))
}

fn peers(list: &Spanned<Vec<RawPeer>>) -> Result<BTreeMap<NodeId, SocketAddr>> {
    let raw = list.get_ref();
    at(&list.span(), rules::peer_count(raw.len()))?;
    let mut peers = BTreeMap::new();
    for peer in raw {
        let node = node_id("node", &peer.node)?;
        let address = peer_address(&peer.address, raw.len())?;
        at(&peer.address.span(), rules::own_address(&peers, node, address))?;
        if peers.insert(node, address).is_some() {
            return wrong(&peer.node.span(), rules::stands_twice(node));
        }
    }
    Ok(peers)
}

fn peer_address(text: &Spanned<String>, peer_count: usize) -> Result<SocketAddr> {
    let address = match parse_address(text.get_ref()) {
        Ok(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
        Err(what) => return wrong(&text.span(), format!("address {what}")),
    };
    at(&text.span(), rules::address(address, peer_count))?;
    Ok(address)
}

fn node_id(key: &str, number: &Spanned<i64>) -> Result<NodeId> {
    in_range(key, number, &rules::NODE, "")
}

fn path(key: &str, text: &Spanned<String>) -> Result<PathBuf> {
    let path = PathBuf::from(text.get_ref());
    at(&text.span(), rules::path(key, &path))?;
    Ok(path)
}

fn log(raw: &RawLog, data: &Path) -> Result<LogConfig> {
    let levels = [
        ("error", log::LevelFilter::Error),
        ("warn", log::LevelFilter::Warn),
        ("info", log::LevelFilter::Info),
        ("debug", log::LevelFilter::Debug),
        ("trace", log::LevelFilter::Trace),
    ];
    let terminals = [("diagnostics", Terminal::Diagnostics), ("all", Terminal::All), ("off", Terminal::Off)];
    Ok(LogConfig {
        file: match &raw.file {
            Some(file) => path("log.file", file)?,
            None => data.join("simplesvr.log"),
        },
        level: one_of("log.level", &raw.level, log::LevelFilter::Info, &levels)?,
        terminal: one_of("log.terminal", &raw.terminal, Terminal::Diagnostics, &terminals)?,
        max_mb: number("log.max_mb", &raw.max_mb, 256, rules::MAX_MB)?,
        keep: number("log.keep", &raw.keep, 4, rules::KEEP)? as u32,
    })
}

fn timing(raw: &RawTiming) -> Result<Timing> {
    let election_ms = number("timing.election_ms", &raw.election_ms, 300, rules::ELECTION_MS)?;
    let heartbeat_ms = match &raw.heartbeat_ms {
        Some(given) => {
            let (allowed, why) = rules::heartbeat_ms(election_ms);
            in_range("timing.heartbeat_ms", given, &allowed, &why)?
        }
        None => election_ms / 6,
    };
    assert!(
        2 * heartbeat_ms < election_ms,
        "a heartbeat every {heartbeat_ms} ms with an election_ms of {election_ms}"
    );
    Ok(Timing { election_ms, heartbeat_ms })
}

fn limits(raw: &RawLimits) -> Result<Limits> {
    let value_bytes = MAX_PAYLOAD_BYTES as u64;
    Ok(Limits {
        value_bytes: number("limits.value_bytes", &raw.value_bytes, value_bytes, rules::VALUE_BYTES)?
            as usize,
        window_entries: number("limits.window_entries", &raw.window_entries, 4096, rules::WINDOW_ENTRIES)?,
        window_bytes: number("limits.window_bytes", &raw.window_bytes, 16 << 20, rules::WINDOW_BYTES)?
            as usize,
        clients: number("limits.clients", &raw.clients, 10_000, rules::CLIENTS)? as usize,
        pending: number("limits.pending", &raw.pending, 100_000, rules::PENDING)? as usize,
    })
}

fn client(raw: &RawClient) -> Result<ClientConfig> {
    Ok(ClientConfig {
        timeout_ms: number("client.timeout_ms", &raw.timeout_ms, 5000, rules::TIMEOUT_MS)?,
        idle_s: number("client.idle_s", &raw.idle_s, 3600, rules::IDLE_S)?,
        partial_s: number("client.partial_s", &raw.partial_s, 30, rules::PARTIAL_S)?,
    })
}

fn store(raw: &RawStore) -> Result<StoreConfig> {
    Ok(StoreConfig {
        cache_mb: number("store.cache_mb", &raw.cache_mb, 64, rules::CACHE_MB)?,
        free_mb: number("store.free_mb", &raw.free_mb, 64, rules::FREE_MB)?,
    })
}

fn number(key: &str, given: &Option<Spanned<i64>>, default: u64, allowed: Allowed) -> Result<u64> {
    assert!(allowed.contains(&default), "the default of {key}, {default}, is not in {allowed:?}");
    match given {
        Some(given) => in_range(key, given, &allowed, ""),
        None => Ok(default),
    }
}

fn in_range(key: &str, given: &Spanned<i64>, allowed: &Allowed, why: &str) -> Result<u64> {
    at(&given.span(), rules::in_range(key, *given.get_ref(), allowed, why))?;
    Ok(given.get_ref().unsigned_abs())
}

fn one_of<T: Copy>(key: &str, given: &Option<Spanned<String>>, default: T, all: &[(&str, T)]) -> Result<T> {
    let Some(given) = given else { return Ok(default) };
    match all.iter().find(|(name, _)| name == given.get_ref()) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let names = all.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            wrong(&given.span(), format!("{key} is {:?}; allowed are {names}", given.get_ref()))
        }
    }
}

/// Adds the place to the text of a broken rule.
fn at<T>(span: &Range<usize>, result: rules::Result<T>) -> Result<T> {
    result.map_err(|what| Wrong { at: span.start, what })
}

fn wrong<T>(span: &Range<usize>, what: String) -> Result<T> {
    Err(Wrong { at: span.start, what })
}
