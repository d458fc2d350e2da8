//! The one queue type. It is bounded by a weight that the caller defines, and one consumer, which a [`Bell`]
//! wakes, drains it whole.
//!
//! A consumer that takes everything that waits gets group commit, coalesced messages and one wake-up for many
//! items. A consumer with several queues shares one bell among them. The producer chooses what happens when
//! the queue is full: [`Queue::push`] waits (inside the pipeline's ring), [`Queue::try_push`] refuses (at its
//! edges).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes a consumer. Rings are counted, so one that comes before the wait is not lost.
#[derive(Clone)]
pub struct Bell {
    inner: Arc<BellInner>,
}

struct BellInner {
    rung: Mutex<bool>,
    condvar: Condvar,
    /// Called instead of the condition variable, for a consumer that sleeps in something else (a poll).
    wake: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Default for Bell {
    fn default() -> Bell {
        Bell::new()
    }
}

impl Bell {
    /// A bell for a consumer that waits in [`Bell::wait`].
    pub fn new() -> Bell {
        Bell { inner: Arc::new(BellInner { rung: Mutex::new(false), condvar: Condvar::new(), wake: None }) }
    }

    /// A bell for a consumer that sleeps elsewhere. `wake` interrupts that sleep; only the first ring since
    /// the last [`Bell::clear`] calls it.
    pub fn calling(wake: impl Fn() + Send + Sync + 'static) -> Bell {
        let inner =
            BellInner { rung: Mutex::new(false), condvar: Condvar::new(), wake: Some(Box::new(wake)) };
        Bell { inner: Arc::new(inner) }
    }

    /// Wakes the consumer, or lets its next wait return immediately.
    pub fn ring(&self) {
        let mut rung = self.inner.rung.lock();
        if *rung {
            return;
        }
        *rung = true;
        drop(rung);
        match &self.inner.wake {
            Some(wake) => wake(),
            None => {
                self.inner.condvar.notify_one();
            }
        }
    }

    /// Forgets past rings. The consumer must call this *before* it drains, or it may miss one.
    pub fn clear(&self) {
        *self.inner.rung.lock() = false;
    }

    /// Waits for a ring, at most `timeout`, and clears it.
    pub fn wait(&self, timeout: Duration) {
        let mut rung = self.inner.rung.lock();
        if !*rung {
            let _ = self.inner.condvar.wait_for(&mut rung, timeout);
        }
        *rung = false;
    }
}

/// A bounded queue with one consumer.
///
/// Invariant: the sum of the items' weights is at most `capacity`, unless a single item alone exceeds it (an
/// item heavier than the whole queue is let in when the queue is empty, or it would wait forever).
pub struct Queue<T> {
    state: Mutex<State<T>>,
    not_full: Condvar,
    bell: Bell,
    capacity: usize,
    weigh: fn(&T) -> usize,
}

struct State<T> {
    items: VecDeque<T>,
    weight: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue that holds `capacity` in the unit of `weigh` (`|_| 1` counts items) and rings `bell` when an
    /// item comes in.
    pub fn new(capacity: usize, weigh: fn(&T) -> usize, bell: Bell) -> Queue<T> {
        assert!(capacity > 0, "a queue of capacity 0 would never pass anything");
        let state = State { items: VecDeque::new(), weight: 0, closed: false };
        Queue { state: Mutex::new(state), not_full: Condvar::new(), bell, capacity, weigh }
    }

    /// Adds an item, waiting for room. Returns the item as `Err` if the queue was closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let weight = (self.weigh)(&item);
        let mut state = self.state.lock();
        while !state.closed && !state.has_room(weight, self.capacity) {
            self.not_full.wait(&mut state);
        }
        if state.closed {
            return Err(item);
        }
        state.add(item, weight);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Adds an item if there is room. Returns it as `Err` if there is none or the queue was closed.
    pub fn try_push(&self, item: T) -> Result<(), T> {
        let weight = (self.weigh)(&item);
        let mut state = self.state.lock();
        if state.closed || !state.has_room(weight, self.capacity) {
            return Err(item);
        }
        state.add(item, weight);
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// Adds items from the front of `items` as long as there is room, under one lock and with one ring. Items
    /// that do not fit stay in `items`.
    pub fn try_push_all(&self, items: &mut VecDeque<T>) {
        let mut state = self.state.lock();
        let mut any = false;
        while let Some(item) = items.front() {
            let weight = (self.weigh)(item);
            if state.closed || !state.has_room(weight, self.capacity) {
                break;
            }
            let item = items.pop_front().expect("there is a front");
            state.add(item, weight);
            any = true;
        }
        drop(state);
        if any {
            self.bell.ring();
        }
    }

    /// Moves everything that waits to the end of `into`. Returns whether there was anything.
    pub fn drain(&self, into: &mut Vec<T>) -> bool {
        self.drain_some(usize::MAX, into)
    }

    /// Moves at most `count` items to the end of `into`. Returns whether there was anything.
    pub fn drain_some(&self, count: usize, into: &mut Vec<T>) -> bool {
        let mut state = self.state.lock();
        let count = count.min(state.items.len());
        if count == 0 {
            return false;
        }
        let before = into.len();
        into.extend(state.items.drain(..count));
        let weight: usize = into[before..].iter().map(self.weigh).sum();
        assert!(weight <= state.weight, "drained {weight} of {}: an item's weight changed", state.weight);
        state.weight -= weight;
        drop(state);
        self.not_full.notify_all();
        true
    }

    /// Waits until the consumer has taken something or the queue is closed, at most for `timeout`.
    pub fn wait_for_drain(&self, timeout: Duration) {
        let mut state = self.state.lock();
        if !state.closed && !state.items.is_empty() {
            let _ = self.not_full.wait_for(&mut state, timeout);
        }
    }

    /// Refuses all items from now on, and lets waiting producers go. What is inside can still be drained.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.not_full.notify_all();
        self.bell.ring();
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bell that wakes the consumer.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}

impl<T> State<T> {
    fn has_room(&self, weight: usize, capacity: usize) -> bool {
        self.weight + weight <= capacity || self.items.is_empty()
    }

    fn add(&mut self, item: T, weight: usize) {
        self.items.push_back(item);
        self.weight += weight;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a waiting producer needs a thread
mod tests {
    use super::*;

    fn queue(capacity: usize) -> Queue<usize> {
        Queue::new(capacity, |item| *item, Bell::new())
    }

    #[test]
    fn refuses_when_full_and_takes_again_after_a_drain() {
        let queue = queue(10);
        assert_eq!(queue.try_push(6), Ok(()));
        assert_eq!(queue.try_push(5), Err(5));
        assert_eq!(queue.try_push(4), Ok(()));
        let mut out = vec![];
        assert!(queue.drain_some(1, &mut out));
        assert_eq!(queue.try_push(5), Ok(()));
        assert!(queue.drain(&mut out));
        assert!(!queue.drain(&mut out));
        assert_eq!(out, [6, 4, 5]);
    }

    #[test]
    fn an_item_heavier_than_the_queue_passes_alone() {
        let queue = queue(10);
        assert_eq!(queue.try_push(50), Ok(()));
        assert_eq!(queue.try_push(1), Err(1));
        queue.drain(&mut vec![]);
        assert_eq!(queue.try_push(1), Ok(()));
        assert_eq!(queue.try_push(50), Err(50));
    }

    #[test]
    fn what_does_not_fit_stays_with_the_producer() {
        let queue = queue(10);
        let mut items = VecDeque::from([4, 4, 4]);
        queue.try_push_all(&mut items);
        assert_eq!(items, [4]);
    }

    #[test]
    fn a_waiting_producer_goes_on_after_a_drain_and_gives_up_at_close() {
        let queue = Arc::new(queue(1));
        queue.push(1).unwrap();
        let producer = std::thread::spawn({
            let queue = queue.clone();
            move || (queue.push(1), queue.push(1))
        });
        let mut out = vec![];
        while out.len() < 2 {
            queue.bell().wait(Duration::from_secs(10));
            queue.drain(&mut out);
            if out.len() == 2 {
                break;
            }
        }
        queue.close();
        let (first, second) = producer.join().unwrap();
        assert_eq!(first, Ok(()));
        // The third push either found room before the close or was let go by it.
        assert!(second == Ok(()) || second == Err(1));
        assert_eq!(queue.try_push(1), Err(1));
    }

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::new();
        bell.ring();
        bell.wait(Duration::from_secs(3600));
    }
}
