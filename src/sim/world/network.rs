//! The state of the simulated network: which links are cut, which are connected, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::random::Random;
use crate::consensus::types::NodeId;

use super::stream::Stream;

/// All links.
pub struct Network {
    pub random: Random,
    /// Links that lose everything, as pairs of from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Each message is on its own: there are no streams.
    pub is_of_datagrams: bool,
    links: BTreeMap<(NodeId, NodeId), Link>,
    streams: BTreeMap<u64, Stream>,
    last_stream: u64,
    last_message: u64,
}

/// The link from one node to another.
#[derive(Default)]
pub struct Link {
    /// In a network of datagrams, the processes at both ends, once the hello was accepted.
    pub connected: Option<(u64, u64)>,
    /// Otherwise the connection; 0 is none.
    pub stream: u64,
    /// When the next attempt to connect begins, if there is one.
    pub dials_at_us: Option<u64>,
    /// The longest wait before the next attempt that is refused is repeated.
    pub backoff_us: u64,
    /// Datagrams on their way.
    pub in_flight: usize,
}

impl Network {
    pub fn new(seed: u64, is_of_datagrams: bool) -> Network {
        Network {
            random: Random::new(seed ^ 0x0E7),
            cut: BTreeSet::new(),
            is_of_datagrams,
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            last_message: 0,
        }
    }

    pub fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    // ---- streams ----

    pub fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }

    /// Returns its name.
    pub fn add_stream(&mut self, stream: Stream) -> u64 {
        self.last_stream += 1;
        self.streams.insert(self.last_stream, stream);
        self.last_stream
    }

    pub fn remove_stream(&mut self, id: u64) -> Option<Stream> {
        self.streams.remove(&id)
    }

    /// All connections, and whom they connect.
    pub fn ends_of_streams(&self) -> Vec<(u64, NodeId, NodeId)> {
        self.streams.iter().map(|(id, stream)| (*id, stream.from, stream.to)).collect()
    }

    /// The connections from one node to another: the one in use, and those of ended processes.
    pub fn streams_of(&self, from: NodeId, to: NodeId) -> Vec<u64> {
        let ends = self.ends_of_streams().into_iter();
        ends.filter(|(_, a, b)| (*a, *b) == (from, to)).map(|(id, ..)| id).collect()
    }

    // ---- datagrams ----

    /// Every connection of this node is gone.
    pub fn disconnect(&mut self, id: NodeId) {
        for ((from, to), link) in &mut self.links {
            if *from == id || *to == id {
                link.connected = None;
            }
        }
    }

    /// Names the next message in the run, from 1.
    pub fn name_message(&mut self) -> u64 {
        self.last_message += 1;
        self.last_message
    }

    /// Draws whether something happens that has this likelihood, in percent.
    pub fn percent(&mut self, likelihood: u64) -> bool {
        self.random.between(0, 100) < likelihood
    }
}
