//! What a leader knows of a follower's log, and how it sends it what it lacks (the thesis has nextIndex and
//! matchIndex, section 3.5; states and limits are those that etcd/raft and TiKV arrived at).

use std::collections::VecDeque;

use super::super::types::Index;

/// The most Appends that are under way to a follower; then the leader waits for an answer. What they carry is
/// bounded as well, by the window's bytes.
pub(super) const MAX_IN_FLIGHT: usize = 256;

/// Invariant: `matched < next`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// The follower said that its log is durably the leader's up to this index.
    pub(super) matched: Index,
    /// The first index of the next Append.
    pub(super) next: Index,
    pub(super) state: State,
}

/// How entries are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Where the logs agree is not known: one Append is sent at a time, until one matches.
    Probe {
        /// Whether an Append is under way. A heartbeat's answer ends the wait: the Append may be lost.
        waits: bool,
    },
    /// The logs agree: Appends are sent one after the other as entries come.
    Replicate {
        /// The last index of each Append under way, and what it carries.
        in_flight: VecDeque<(Index, usize)>,
        /// The sum of what they carry.
        bytes: usize,
    },
    /// It lacks chosen entries that have left this core's memory: pages of them are read from the store, one
    /// at a time. (In the thesis a snapshot takes their place.)
    CatchUp {
        /// When the page is sent again, unless there was an answer.
        again_at_ms: u64,
    },
}

impl Progress {
    /// The progress at a new leader, which knows nothing of the follower.
    pub(super) fn new(next: Index) -> Progress {
        Progress { matched: 0, next, state: State::Probe { waits: false } }
    }

    /// See [`Raft::normalize`](super::Raft::normalize).
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, page_again_at_ms: u64) {
        match &mut self.state {
            State::Probe { .. } => {}
            State::Replicate { in_flight, bytes } => {
                in_flight.clear();
                *bytes = 0;
            }
            State::CatchUp { again_at_ms } => *again_at_ms = page_again_at_ms,
        }
    }

    /// Whether nothing may be sent now.
    pub(super) fn waits(&self, now_ms: u64, max_bytes: usize) -> bool {
        match &self.state {
            State::Probe { waits } => *waits,
            State::Replicate { in_flight, bytes } => in_flight.len() >= MAX_IN_FLIGHT || *bytes >= max_bytes,
            State::CatchUp { again_at_ms } => now_ms < *again_at_ms,
        }
    }

    /// An Append up to `last` leaves.
    pub(super) fn sent(&mut self, last: Index, append_bytes: usize) {
        match &mut self.state {
            State::Replicate { in_flight, bytes } if last >= self.next => {
                in_flight.push_back((last, append_bytes));
                *bytes += append_bytes;
                self.next = last + 1;
            }
            State::Replicate { .. } => {}
            state => *state = State::Probe { waits: true },
        }
    }

    /// The follower's log is the leader's up to `matched`. Returns whether that is news.
    pub(super) fn handle_appended(&mut self, matched: Index) -> bool {
        if matched < self.matched {
            return false;
        }
        let news = matched > self.matched;
        self.matched = matched;
        self.next = self.next.max(matched + 1);
        match &mut self.state {
            State::Replicate { in_flight, bytes } => {
                while let Some((_, freed)) = in_flight.front().copied().filter(|(last, _)| *last <= matched) {
                    in_flight.pop_front();
                    *bytes -= freed;
                }
            }
            State::Probe { .. } | State::CatchUp { .. } => {
                self.next = matched + 1;
                self.state = State::Replicate { in_flight: VecDeque::new(), bytes: 0 };
            }
        }
        news
    }

    /// An Append after `previous` did not match; the logs may agree before `next`. Returns whether that is
    /// news.
    pub(super) fn handle_mismatch(&mut self, previous: Index, next: Index) -> bool {
        let is_late = match self.state {
            State::Probe { .. } => previous + 1 != self.next,
            State::Replicate { .. } => previous <= self.matched,
            State::CatchUp { .. } => true,
        };
        if !is_late {
            self.next = next.min(previous).max(self.matched + 1);
            self.state = State::Probe { waits: false };
        }
        !is_late
    }

    /// The follower lives: a probe that it did not answer may be lost.
    pub(super) fn handle_heartbeat_reply(&mut self) {
        if let State::Probe { waits } = &mut self.state {
            *waits = false;
        }
    }
}
