//! The shape of a cluster, drawn from the seed: intervals, windows, and queues that are small enough to fill.

use crate::consensus::random::Random;

/// What all nodes of a run have in common.
pub struct Shape {
    pub election_ms: u64,
    pub heartbeat_ms: u64,
    pub window_entries: u64,
    pub window_bytes: usize,
    pub sizes: Sizes,
}

/// The sizes of a node's queues and limits.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub works_bytes: usize,
    pub outgoing_bytes: usize,
    pub peers_bytes: usize,
    pub proposals_bytes: usize,
    pub recent_bytes: usize,
    /// The delivery window: this many distinct delivered requests are remembered.
    pub window: usize,
}

impl Shape {
    pub fn drawn(random: &mut Random) -> Shape {
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let election_ms = pick(&[100, 200, 300]);
        Shape {
            election_ms,
            heartbeat_ms: election_ms / pick(&[5, 10]),
            window_entries: pick(&[1, 3, 8, 64, 1024]),
            window_bytes: pick(&[300, 10_000, 4_000_000]) as usize,
            sizes: Sizes {
                works_bytes: pick(&[1000, 100_000, 32 << 20]) as usize,
                outgoing_bytes: pick(&[1000, 100_000, 64 << 20]) as usize,
                peers_bytes: pick(&[2000, 100_000, 64 << 20]) as usize,
                proposals_bytes: pick(&[500, 10_000, 32 << 20]) as usize,
                recent_bytes: pick(&[1, 600, 3000, 1_000_000]) as usize,
                window: pick(&[16, 100, 1000, 1 << 16]) as usize,
            },
        }
    }
}
