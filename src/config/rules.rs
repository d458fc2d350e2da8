//! What a configuration may say, as functions of plain values: the reader of TOML adds the place to what is
//! wrong, and a configuration made in code is held to the same ([`check`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::consensus::types::{MAX_PAYLOAD_BYTES, MAX_WINDOW_BYTES, MAX_WINDOW_ENTRIES, NodeId};

use super::{Config, MAX_CLUSTER_BYTES, MAX_PEERS};

/// A rule that is broken, in words: the key, what it is, what is allowed.
pub type Result<T> = std::result::Result<T, String>;

pub type Allowed = RangeInclusive<u64>;

pub const NODE: Allowed = 1..=i64::MAX as u64;
pub const MAX_MB: Allowed = 1..=1 << 20;
pub const KEEP: Allowed = 1..=1000;
pub const ELECTION_MS: Allowed = 50..=60_000;
pub const HEARTBEAT_MIN_MS: u64 = 5;
pub const VALUE_BYTES: Allowed = 1..=MAX_PAYLOAD_BYTES as u64;
pub const WINDOW_ENTRIES: Allowed = 1..=MAX_WINDOW_ENTRIES;
pub const WINDOW_BYTES: Allowed = 1 << 16..=MAX_WINDOW_BYTES as u64;
pub const CLIENTS: Allowed = 1..=100_000;
pub const PENDING: Allowed = 1..=1_000_000;
pub const TIMEOUT_MS: Allowed = 10..=3_600_000;
pub const IDLE_S: Allowed = 1..=604_800;
pub const PARTIAL_S: Allowed = 1..=3600;
pub const CACHE_MB: Allowed = 1..=65_536;
pub const FREE_MB: Allowed = 0..=1 << 20;

/// All of a configuration that was made in code; the first rule that is broken.
pub fn check(config: &Config) -> Result<()> {
    let Config { cluster: name, node, data, peers, log, timing, limits, client, store, protocol: _ } = config;
    cluster(name)?;
    in_range("node", *node, &NODE, "")?;
    check_peers(peers)?;
    member(*node, peers)?;
    path("data", data)?;
    path("log.file", &log.file)?;
    in_range("log.max_mb", log.max_mb, &MAX_MB, "")?;
    in_range("log.keep", u64::from(log.keep), &KEEP, "")?;
    in_range("timing.election_ms", timing.election_ms, &ELECTION_MS, "")?;
    let (allowed, why) = heartbeat_ms(timing.election_ms);
    in_range("timing.heartbeat_ms", timing.heartbeat_ms, &allowed, &why)?;
    in_range("limits.value_bytes", limits.value_bytes as u64, &VALUE_BYTES, "")?;
    in_range("limits.window_entries", limits.window_entries, &WINDOW_ENTRIES, "")?;
    in_range("limits.window_bytes", limits.window_bytes as u64, &WINDOW_BYTES, "")?;
    in_range("limits.clients", limits.clients as u64, &CLIENTS, "")?;
    in_range("limits.pending", limits.pending as u64, &PENDING, "")?;
    in_range("client.timeout_ms", client.timeout_ms, &TIMEOUT_MS, "")?;
    in_range("client.idle_s", client.idle_s, &IDLE_S, "")?;
    in_range("client.partial_s", client.partial_s, &PARTIAL_S, "")?;
    in_range("store.cache_mb", store.cache_mb, &CACHE_MB, "")?;
    in_range("store.free_mb", store.free_mb, &FREE_MB, "")
}

fn check_peers(peers: &BTreeMap<NodeId, SocketAddr>) -> Result<()> {
    peer_count(peers.len())?;
    let mut before = BTreeMap::new();
    for (node, at) in peers {
        in_range("node", *node, &NODE, "")?;
        address(*at, peers.len())?;
        own_address(&before, *node, *at)?;
        before.insert(*node, *at);
    }
    Ok(())
}

pub fn cluster(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_CLUSTER_BYTES || !name.bytes().all(good) {
        return Err(format!(
            "cluster is {name:?}; allowed are 1 to {MAX_CLUSTER_BYTES} ASCII letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(())
}

pub fn peer_count(count: usize) -> Result<()> {
    if !(1..=MAX_PEERS).contains(&count) {
        return Err(format!("{count} [[peers]]; allowed are 1 to {MAX_PEERS}"));
    }
    Ok(())
}

/// This node is one of the peers.
pub fn member(node: NodeId, peers: &BTreeMap<NodeId, SocketAddr>) -> Result<()> {
    if peers.contains_key(&node) {
        return Ok(());
    }
    let listed = peers.keys().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("node {node} is not among [[peers]], which lists {listed}: list it there, too"))
}

/// An address that the other nodes can connect to; a cluster of one has no others.
pub fn address(at: SocketAddr, peer_count: usize) -> Result<()> {
    if peer_count > 1 && (at.port() == 0 || at.ip().is_unspecified()) {
        return Err(format!(
            "address {at} is none that other nodes can connect to: give the IP and the port"
        ));
    }
    Ok(())
}

/// No two nodes have the same address.
pub fn own_address(before: &BTreeMap<NodeId, SocketAddr>, node: NodeId, at: SocketAddr) -> Result<()> {
    match before.iter().find(|(_, taken)| **taken == at) {
        Some((other, _)) => {
            Err(format!("nodes {other} and {node} have the same address {at}; each needs its own"))
        }
        None => Ok(()),
    }
}

pub fn stands_twice(node: NodeId) -> String {
    format!("node {node} stands twice among [[peers]]; each id may stand there once")
}

pub fn path(key: &str, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(format!("{key} is empty; write a path"));
    }
    Ok(())
}

/// What is allowed with this `election_ms`, and why.
pub fn heartbeat_ms(election_ms: u64) -> (Allowed, String) {
    let highest = election_ms.saturating_sub(1) / 2;
    (HEARTBEAT_MIN_MS..=highest, format!(" (less than half of election_ms, which is {election_ms})"))
}

pub fn in_range(key: &str, number: impl Into<i128> + Copy, allowed: &Allowed, why: &str) -> Result<()> {
    let number: i128 = number.into();
    let (first, last) = (*allowed.start(), *allowed.end());
    if number < i128::from(first) || number > i128::from(last) {
        return Err(format!("{key} is {number}; allowed are {first} to {last}{why}"));
    }
    Ok(())
}
