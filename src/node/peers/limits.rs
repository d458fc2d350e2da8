//! How patient the network thread is, and how much it holds. Its times follow from T.
//!
//! **When the other end is given up.** A cut link drops packets without a word, and what TCP does then
//! suits nobody who waits for the heal. It repeats what was lost after 0.2, 0.6, 1.4, 3, 6.2 s, so that a
//! connection may be silent for as long again as the cut took. It repeats an unanswered SYN only after 1 s.
//! It gives up after a quarter of an hour. Therefore:
//!
//! - An open connection always has something under way: it carries a ping if nothing was written for T/2.
//!   Nobody answers a ping; what counts is that the system at the other end acknowledges it.
//! - Bytes that stay unacknowledged for [`PeerLimits::unacknowledged_timeout`], 2 T, end the connection, and
//!   the peer is dialled again immediately. What waited is dropped: a node that heard nothing for 2 T
//!   follows nobody any more, and the protocol repeats.
//! - An attempt to connect is replaced by a fresh one after T, and so is one that failed earlier. From the
//!   heal on it thus takes at most T until a SYN passes. Candidates repeat their question, so that a node
//!   leads soon after, or after one more election timeout. (The network must carry a message there and
//!   back within T anyway, or no election would succeed.)
//! - A node that is dialled by a peer dials that peer, unless it is connected to it.
//!
//! **A slow connection is kept.** Whatever the other end acknowledges starts the time again, however much
//! waits behind it. The system acknowledges for a process that stands still, until its buffers are full.
//! From then on the process has 2 T to read something, since Linux counts a window that stays shut as
//! unacknowledged.
//!
//! **The listener's end.** A listener writes nothing after the handshake, so it has nothing unacknowledged
//! when its dialler vanishes. It does not judge by silence, because a process that stands still is silent as
//! well. Instead its system asks the other one (keep-alive) when nothing came for as long as bytes may stay
//! unacknowledged, in whole seconds, and closes the connection a second later if no answer came. Until then a
//! half-open connection costs the one place that its node has: a newer connection of this node replaces it.
//!
//! Left out: systems other than Linux do not limit how long bytes stay unacknowledged. There, keep-alive and
//! a newer connection end an old one.

use std::time::Duration;

/// Times and sizes. The defaults are those of the default T; tests are less patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// An open connection to which nothing was written for this long carries a ping.
    pub ping_every: Duration,
    /// Bytes that the other end does not acknowledge for this long end the connection.
    pub unacknowledged_timeout: Duration,
    /// The shortest time from one attempt to connect to the next; each failure doubles it.
    pub backoff_min: Duration,
    /// The longest of these times.
    pub backoff_max: Duration,
    /// How long an attempt to connect may take before a fresh one replaces it.
    pub connect_timeout: Duration,
    /// How long each answer in the handshake may take before the connection is dialled again.
    pub answer_timeout: Duration,
    /// How long a dialler's handshake or the durable binding may take before the connection is closed.
    pub hello_timeout: Duration,
    /// The most that may wait for one peer, give or take one message; beyond that new messages are dropped.
    pub out_buffer_bytes: usize,
    /// How long out-buffers are flushed when the node stops.
    pub flush_timeout: Duration,
}

impl PeerLimits {
    /// The limits of a cluster whose T this is.
    pub fn of(election_ms: u64) -> PeerLimits {
        let t = Duration::from_millis(election_ms);
        // With less, a busy machine would lose its connections; with more, dead ones would last for minutes.
        let unacknowledged_timeout = (2 * t).clamp(Duration::from_millis(500), Duration::from_secs(10));
        let redial = t.clamp(Duration::from_millis(100), unacknowledged_timeout);
        PeerLimits {
            ping_every: t / 2,
            unacknowledged_timeout,
            backoff_min: Duration::from_millis(50),
            backoff_max: redial,
            connect_timeout: redial,
            answer_timeout: unacknowledged_timeout,
            hello_timeout: Duration::from_secs(5),
            out_buffer_bytes: 32 << 20,
            flush_timeout: Duration::from_secs(1),
        }
    }
}

impl Default for PeerLimits {
    fn default() -> PeerLimits {
        PeerLimits::of(300)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever T is (50 ms to 60 s), a dead connection is given up within 2 T, and not earlier than after
    /// 500 ms nor later than after 10 s; nothing that comes before a new one takes longer.
    #[test]
    fn times_follow_from_t() {
        for election_ms in [50, 100, 200, 250, 300, 400, 1000, 5000, 5001, 10_000, 20_000, 60_000] {
            let limits = PeerLimits::of(election_ms);
            let t = Duration::from_millis(election_ms);
            let given_up = limits.unacknowledged_timeout;
            assert_eq!(given_up.as_millis() as u64, (2 * election_ms).clamp(500, 10_000));
            assert!(limits.ping_every <= t / 2, "{election_ms}: {limits:?}");
            for wait in [limits.connect_timeout, limits.backoff_max, limits.answer_timeout] {
                assert!(wait <= given_up && wait >= limits.backoff_min, "{election_ms}: {limits:?}");
            }
            assert!(limits.connect_timeout <= t.max(Duration::from_millis(100)), "{election_ms}: {limits:?}");
        }
    }
}
