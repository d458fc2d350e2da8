//! The state of the simulated network: which links are cut, which are connected, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::random::Random;
use crate::consensus::types::NodeId;

/// All links.
pub struct Network {
    pub random: Random,
    /// Links that lose everything, as pairs of from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    last_message: u64,
}

/// The link from one node to another.
#[derive(Default)]
pub struct Link {
    /// The processes at both ends, once the hello was accepted.
    pub connected: Option<(u64, u64)>,
    pub is_dialled: bool,
    pub in_flight: usize,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        Network {
            random: Random::new(seed ^ 0x0E7),
            cut: BTreeSet::new(),
            links: BTreeMap::new(),
            last_message: 0,
        }
    }

    pub fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

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
