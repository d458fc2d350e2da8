//! What requests take, and the shares that a node's own ones and all others leave each other.
//!
//! Without shares, the side that asks more fills all places: a leader with busy clients drops all that
//! others forward, or what others forward keeps its own clients waiting. So each side has a quarter of the
//! places and of the bytes for itself, and the other half goes to the side that comes first. A side that
//! exceeds its three quarters (a list that is taken whole, what a new leader adopts) still leaves the other
//! its quarter.
//!
//! Left out: shares among the nodes that forward, and the requests (`proposals.rs`).

use super::types::Command;

/// What some requests take, or may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, command: &Command) {
        self.requests += 1;
        self.bytes += command.cost_bytes();
    }

    pub(super) fn remove(&mut self, command: &Command) {
        self.requests -= 1;
        self.bytes -= command.cost_bytes();
    }

    /// How many more requests this side may take of the capacities.
    pub(super) fn room(self, other: Load, capacities: Load) -> usize {
        let has_bytes = self.bytes < share(capacities.bytes, other.bytes);
        if has_bytes { self.places(other, capacities) } else { 0 }
    }

    /// The same, whatever their bytes.
    pub(super) fn places(self, other: Load, capacities: Load) -> usize {
        share(capacities.requests, other.requests).saturating_sub(self.requests)
    }

    /// This side leaves the other its places.
    pub(super) fn assert_leaves_a_share(self, whose: &str, capacities: Load) {
        let (held, most) = (self.requests, share(capacities.requests, 0));
        assert!(held <= most, "{held} {whose} requests are held, but at most {most} may be");
    }
}

/// What one side may have of a capacity: what the other leaves, at least a quarter and at most three.
fn share(capacity: usize, other: usize) -> usize {
    let quarter = capacity / 4;
    capacity - other.clamp(quarter, capacity - quarter)
}
