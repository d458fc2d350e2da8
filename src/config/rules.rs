//! What a configuration may contain, as functions of plain values. The reader of TOML adds the place of what
//! is wrong, and a configuration made in code must keep the same rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::consensus::types::{MAX_PAYLOAD_BYTES, MAX_WINDOW_BYTES, MAX_WINDOW_ENTRIES, NodeId};

/// The most nodes in a cluster.
pub const MAX_PEERS: usize = 31;

/// The longest name of a cluster, in bytes.
pub const MAX_CLUSTER_BYTES: usize = 64;

/// The error is the text of a broken rule: the key, its value, and what is allowed.
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

/// Checks all nodes with their addresses.
pub fn peers(peers: &BTreeMap<NodeId, SocketAddr>) -> Result<()> {
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

/// Checks that this node is one of the peers.
pub fn member(node: NodeId, peers: &BTreeMap<NodeId, SocketAddr>) -> Result<()> {
    if peers.contains_key(&node) {
        return Ok(());
    }
    let listed = peers.keys().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("node {node} is not among [[peers]], which lists {listed}: add it there"))
}

/// Checks that the other nodes can connect to the address. A cluster of one has no other nodes.
pub fn address(at: SocketAddr, peer_count: usize) -> Result<()> {
    if peer_count > 1 && (at.port() == 0 || at.ip().is_unspecified()) {
        return Err(format!("address {at} cannot be reached by other nodes: give the IP and the port"));
    }
    Ok(())
}

/// Checks that no other node has the same address.
pub fn own_address(before: &BTreeMap<NodeId, SocketAddr>, node: NodeId, at: SocketAddr) -> Result<()> {
    match before.iter().find(|(_, taken)| **taken == at) {
        Some((other, _)) => {
            Err(format!("nodes {other} and {node} have the same address {at}; each needs its own"))
        }
        None => Ok(()),
    }
}

pub fn stands_twice(node: NodeId) -> String {
    format!("node {node} is listed twice among [[peers]]; each id may be listed once")
}

pub fn path(key: &str, path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(format!("{key} is empty; write a path"));
    }
    Ok(())
}

/// The range that is allowed with this `election_ms`, and the reason.
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
