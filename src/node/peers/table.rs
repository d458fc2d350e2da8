//! The state of the connections to the peers, for STATUS and LEADER on other threads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::types::NodeId;

/// How one peer is connected. Counters are since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// The address at which it is dialled.
    pub address: SocketAddr,
    /// Whether messages to it are being sent.
    pub connected_out: bool,
    /// Whether messages from it are being read.
    pub connected_in: bool,
    /// Where clients reach it, as it last told us; `None` before its first hello, or when it has no client
    /// port.
    pub client_address: Option<String>,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
    /// Messages handed to its connection.
    pub sent: u64,
    /// Messages for it that were dropped since it was first reached, because it was not connected or its
    /// out-buffer was full.
    pub dropped_out: u64,
    /// Messages for it that were dropped before it was first reached.
    pub unreached: u64,
    /// Messages from it that were accepted.
    pub received: u64,
    /// Messages from it that were dropped because the inbox was full.
    pub dropped_in: u64,
    /// Messages from it of a kind that only a newer version knows.
    pub unknown_kinds: u64,
    /// How often someone at its address took this node's data directory for the wrong one and was not
    /// believed.
    pub disowned: u64,
}

/// All peers, written by the network thread once a turn.
#[derive(Clone, Debug)]
pub struct PeerTable {
    peers: Arc<Mutex<BTreeMap<NodeId, PeerState>>>,
}

impl PeerTable {
    pub(super) fn new(peers: impl Iterator<Item = (NodeId, SocketAddr)>) -> PeerTable {
        let state = |address| PeerState {
            address,
            connected_out: false,
            connected_in: false,
            client_address: None,
            queued_bytes: 0,
            sent: 0,
            dropped_out: 0,
            unreached: 0,
            received: 0,
            dropped_in: 0,
            unknown_kinds: 0,
            disowned: 0,
        };
        let peers = peers.map(|(node, address)| (node, state(address))).collect();
        PeerTable { peers: Arc::new(Mutex::new(peers)) }
    }

    /// Returns a copy of all peers.
    pub fn all(&self) -> BTreeMap<NodeId, PeerState> {
        self.peers.lock().clone()
    }

    /// Where clients reach a peer, if it told us.
    pub fn client_address(&self, node: NodeId) -> Option<String> {
        self.peers.lock().get(&node)?.client_address.clone()
    }

    pub(super) fn update(&self, mut change: impl FnMut(NodeId, &mut PeerState)) {
        for (node, state) in self.peers.lock().iter_mut() {
            change(*node, state);
        }
    }
}
