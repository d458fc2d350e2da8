//! The one monotonic clock of a node, in milliseconds, as are a core's ticks, deadlines and limits.

use std::time::Instant;

/// Starts at 0 with the node.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Returns a clock that shows 0 now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Milliseconds since [`Clock::start`].
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
