//! How long a node waits for others before it takes their silence for an answer: a follower for its leader, a
//! candidate for success, a leader for its followers.
//!
//! # The time that ticks saw
//!
//! A process that does not run hears nothing, and what others said in the meantime waits unread. So silence
//! is not counted by the clock but by ticks: each counts what passed since the one before, and at most a
//! heartbeat interval. A node whose ticks come in time (several in each heartbeat interval) sees all the time
//! that passes. One that was stopped for a second, or gets a tenth of a processor, sees a heartbeat interval
//! of it for each tick: it counts chances to hear the others, and between two ticks it reads what waits.
//!
//! A leader that is cut off and runs steps down after T, as before. One that is starved as well steps down
//! after at most T / heartbeat ticks without an answer, however long they take; each of them sends a
//! heartbeat. That it stays in office harms nobody: the others elect a leader by their own clocks, what it
//! places needs a majority, and it answers a read only after a majority has confirmed since that it leads
//! (`reads.rs`). No lease hangs on this clock.
//!
//! # Waits that grow
//!
//! A follower's wait is drawn from [T, 2T), so that two rarely campaign together (Raft thesis section 3.4).
//! If all is so slow that a leader is given up before it gets anything chosen, the next one fares no better,
//! without end. So if an election was won, and nothing was chosen until the next one was won, waits are drawn
//! from [2T, 4T) until something is chosen. Only elections that were won count: a node which is cut off asks
//! and asks, and must be quick once it is heard again. No wait exceeds 4T.
//!
//! Left out: what is done when a wait is over (`campaign.rs`, `leadership.rs`).

use super::random::Random;
use super::types::Ballot;

/// The longest wait, in T.
pub(super) const MAX_WAIT_T: u64 = 4;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Patience {
    /// The time that this node's ticks saw.
    seen_ms: u64,
    /// When a follower campaigns, or a candidate starts again, in the time that ticks saw.
    over_at_ms: u64,
    /// Waits are drawn from here to twice as much.
    wait_ms: u64,
    /// The ballot of the last election that is known to be won.
    won: Ballot,
    /// Whether nothing is known to be chosen since then.
    is_barren: bool,
}

impl Patience {
    /// A wait that is over.
    pub(super) fn new(election_ms: u64) -> Patience {
        Patience { seen_ms: 0, over_at_ms: 0, wait_ms: election_ms, won: Ballot::ZERO, is_barren: false }
    }

    /// The time that this node's ticks saw.
    pub(super) fn seen_ms(&self) -> u64 {
        self.seen_ms
    }

    /// A tick comes this long after the one before.
    pub(super) fn see(&mut self, gap_ms: u64, heartbeat_ms: u64) {
        self.seen_ms += gap_ms.min(heartbeat_ms);
    }

    /// A new wait begins.
    pub(super) fn restart(&mut self, random: &mut Random) {
        self.over_at_ms = self.seen_ms + random.between(self.wait_ms, 2 * self.wait_ms);
    }

    /// Whether the wait is over.
    pub(super) fn is_over(&self) -> bool {
        self.seen_ms >= self.over_at_ms
    }

    /// An election was won: by this node, or by one that it hears. Returns whether that is news. If the one
    /// before it chose nothing, waits grow.
    pub(super) fn note_won(&mut self, ballot: Ballot, election_ms: u64) -> bool {
        if ballot == self.won {
            return false;
        }
        if self.is_barren {
            self.wait_ms = (2 * self.wait_ms).min(election_ms * MAX_WAIT_T / 2);
        }
        (self.won, self.is_barren) = (ballot, true);
        true
    }

    /// Something was chosen: leaders have enough time. Returns whether waits had grown.
    pub(super) fn note_chosen(&mut self, election_ms: u64) -> bool {
        let had_grown = self.wait_ms > election_ms;
        (self.wait_ms, self.is_barren) = (election_ms, false);
        had_grown
    }

    /// See [`Paxos::normalize`](super::paxos::Paxos::normalize). Who won matters only while that node leads.
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, now_ms: u64, election_ms: u64, is_led: bool) {
        let won = if is_led { self.won } else { Ballot::ZERO };
        let over_at_ms = now_ms + 2 * election_ms - 1;
        *self = Patience { seen_ms: now_ms, over_at_ms, won, ..Patience::new(election_ms) };
    }
}
