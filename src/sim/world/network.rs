//! The state of the simulated network: which links are cut, which are connected, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::wire::hello::{Greeting, Nonce};

use super::stream::Stream;

/// All links.
pub struct Network {
    pub random: Random,
    /// Draws what strangers do, and nonces: without either, a run is the same otherwise.
    pub strangers: Random,
    /// Links that lose everything, as pairs of from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Each message is on its own: there are no streams.
    pub is_of_datagrams: bool,
    links: BTreeMap<(NodeId, NodeId), Link>,
    streams: BTreeMap<u64, Stream>,
    last_stream: u64,
    /// What both ends said in turn when a link was opened last.
    overheard: BTreeMap<(NodeId, NodeId), Vec<Greeting>>,
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
            strangers: Random::new(seed ^ 0x57A6E),
            cut: BTreeSet::new(),
            is_of_datagrams,
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            overheard: BTreeMap::new(),
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

    /// A number that was not used before, as far as anyone knows.
    pub fn nonce(&mut self) -> Nonce {
        let halves = [self.strangers.draw(), self.strangers.draw()];
        (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_le_bytes()
    }

    /// A stranger hears all that is said when a link is opened.
    pub fn overhear(&mut self, from: NodeId, to: NodeId, said: Vec<Greeting>) {
        self.overheard.insert((from, to), said);
    }

    /// What he heard last, the dialler first.
    pub fn overheard(&self, from: NodeId, to: NodeId) -> &[Greeting] {
        self.overheard.get(&(from, to)).map_or(&[], Vec::as_slice)
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
