//! Chosen commands as a channel: what the labs call `applyCh`, and the spaxos document calls the chosen
//! queue.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::application::Item;
use crate::pipeline::queue::{Bell, Queue};

/// A channel for the items that a node delivers: the sender goes to
/// [`Builder::apply_channel`](super::Builder), the receiver returns them in order. It holds `capacity` items,
/// at least one; the receiver takes all waiting items together, so as many again may wait inside it. **When
/// it is full the node delivers nothing more until there is room**: answers on this node wait, consensus does
/// not. If the receiver is dropped, the node goes on without it.
pub fn apply_channel(capacity: usize) -> (ApplySender, Items) {
    let queue = Arc::new(Queue::new(capacity.max(1), |_| 1, Bell::new()));
    (ApplySender { queue: queue.clone() }, Items { queue, taken: Vec::new() })
}

/// Closes a channel.
pub(super) type Closer = Arc<dyn Fn() + Send + Sync>;

/// The end of an [`apply_channel`] that a node holds.
pub struct ApplySender {
    queue: Arc<Queue<Item>>,
}

impl ApplySender {
    /// Waits for room; does nothing if there is no receiver.
    pub(super) fn send(&self, item: Item) {
        let _ = self.queue.push(item);
    }

    /// Closes the channel: nobody waits for room any more.
    pub(super) fn closer(&self) -> Closer {
        let queue = self.queue.clone();
        Arc::new(move || queue.close())
    }
}

impl Drop for ApplySender {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Delivered items, in order, from the first one of the log: after the node is started again all of them come
/// again. As an iterator it waits for each item, and ends when the node was stopped or has failed. What was
/// not received by then comes after the next start.
pub struct Items {
    queue: Arc<Queue<Item>>,
    /// Items taken from the queue, in reverse order.
    taken: Vec<Item>,
}

impl Items {
    /// Waits for the next item; returns `None` at the end.
    pub fn recv(&mut self) -> Option<Item> {
        loop {
            match self.recv_until(None) {
                Received::Item(item) => return Some(item),
                Received::Ended => return None,
                Received::TimedOut => {}
            }
        }
    }

    /// Waits for the next item, at most this long.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Received {
        self.recv_until(Some(Instant::now() + timeout))
    }

    /// Returns the next item if it has already arrived.
    pub fn try_recv(&mut self) -> Received {
        self.recv_timeout(Duration::ZERO)
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Received {
        loop {
            // Asked before the drain: what comes after a close is refused, so nothing is left behind.
            let is_closed = self.queue.is_closed();
            if self.taken.is_empty() && self.queue.drain(&mut self.taken) {
                self.taken.reverse();
            }
            if let Some(item) = self.taken.pop() {
                return Received::Item(item);
            }
            if is_closed {
                return Received::Ended;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Received::TimedOut;
            }
            self.queue.bell().wait(left.unwrap_or(Duration::from_secs(3600)));
        }
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.recv()
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for ApplySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplySender").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.len() + self.taken.len();
        f.debug_struct("Items").field("waiting", &waiting).finish_non_exhaustive()
    }
}

/// The result of waiting for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The next item.
    Item(Item),
    /// No item came in time.
    TimedOut,
    /// No more items will come: the node was stopped, or it failed ([`Node::failure`](super::Node::failure)).
    Ended,
}
