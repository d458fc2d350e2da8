//! The queue of steps, in a total order: by time, then in the order in which they were added.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::step::Step;

/// All steps to come.
#[derive(Default)]
pub struct Schedule {
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
}

/// A step at its time. The sequence makes the order total.
struct Scheduled {
    at_us: u64,
    sequence: u64,
    step: Step,
}

impl Schedule {
    pub fn add(&mut self, at_us: u64, step: Step) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at_us, sequence: self.sequence, step }));
    }

    pub fn next_us(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(next)| next.at_us)
    }

    pub fn take(&mut self) -> Option<(u64, Step)> {
        self.queue.pop().map(|Reverse(next)| (next.at_us, next.step))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (self.at_us, self.sequence).cmp(&(other.at_us, other.sequence))
    }
}
