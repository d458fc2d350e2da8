//! Works that storage has no room for yet, and what the state machine may do in the meantime.
//!
//! The state machine waits for storage when the queue between them is full. If it waited inside the queue, a
//! disk that hangs would stop its clock as well: a leader would neither notice that it is in trouble nor hand
//! over. So what did not fit is held here, and the thread waits with a clock that ticks.
//!
//! Bounded: with anything held, nothing is taken but ticks, which need a write once in a T at most. Only a
//! core that makes way takes more, since a leader must hear who is up to date, and places nothing. Above
//! [`HeldWorks::LIMIT_BYTES`] it stops that, and above twice as much the ticks stop as well. The works of one
//! turn come on top.

use std::collections::VecDeque;

use super::queue::Queue;
use super::state_machine::Work;

/// Works for which the queue to storage had no room, oldest first. They are pushed before anything else.
#[derive(Debug, Default)]
pub struct HeldWorks {
    works: VecDeque<Work>,
    bytes: usize,
}

impl HeldWorks {
    /// Above this weight nothing is taken any more but ticks; above twice as much, nothing at all. The works
    /// of one turn come on top.
    pub const LIMIT_BYTES: usize = 4 << 20;
    /// What each work counts for at least, which bounds their number.
    pub const WORK_MIN_BYTES: usize = 32 << 10;
    /// The most works that are held.
    pub const LIMIT: usize = 2 * HeldWorks::LIMIT_BYTES / HeldWorks::WORK_MIN_BYTES + 1;

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// What the state machine may do now; `makes_way` says whether its core makes way.
    pub fn takes(&self, makes_way: bool) -> Takes {
        match self.bytes {
            0 => Takes::All,
            _ if self.bytes < HeldWorks::LIMIT_BYTES && makes_way => Takes::All,
            _ if self.bytes < 2 * HeldWorks::LIMIT_BYTES => Takes::Ticks,
            _ => Takes::Nothing,
        }
    }

    /// Pushes a work behind all others, or holds it.
    pub fn push(&mut self, work: Work, queue: &Queue<Work>) {
        self.push_into(queue);
        let refused = if self.works.is_empty() { queue.try_push(work).err() } else { Some(work) };
        if let Some(work) = refused {
            self.bytes += HeldWorks::weigh(&work);
            self.works.push_back(work);
        }
    }

    /// Pushes what the queue has room for.
    pub fn push_into(&mut self, queue: &Queue<Work>) {
        if !self.works.is_empty() {
            queue.try_push_all(&mut self.works);
            self.bytes = self.works.iter().map(HeldWorks::weigh).sum();
        }
    }

    /// Pushes all, and waits for room as long as it takes. Returns whether the queue took them: it may be
    /// closed.
    pub fn push_all_into(self, queue: &Queue<Work>) -> bool {
        self.works.into_iter().all(|work| queue.push(work).is_ok())
    }

    fn weigh(work: &Work) -> usize {
        work.cost_bytes().max(HeldWorks::WORK_MIN_BYTES)
    }
}

/// What a state machine may do while works are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Everything that waits: nothing is held, or the core makes way. A leader that makes way places nothing,
    /// so it needs little room, and it must hear who is up to date.
    All,
    /// Ticks only. They need a write once in a T at most.
    Ticks,
    /// Nothing: it waits for room.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::queue::Bell;

    fn work(number: u64) -> Work {
        Work { number, ..Work::default() }
    }

    /// Works keep their order, whether they were held or not.
    #[test]
    fn works_stay_in_order() {
        let queue = Queue::new(2, |_| 1, Bell::new());
        let mut held = HeldWorks::default();
        let mut written = Vec::new();
        for number in 1..=5 {
            held.push(work(number), &queue);
        }
        assert_eq!((queue.len(), held.is_empty(), held.takes(false)), (2, false, Takes::Ticks));
        while !held.is_empty() {
            queue.drain(&mut written);
            held.push_into(&queue);
        }
        held.push(work(6), &queue);
        assert_eq!(held.takes(false), Takes::All);
        queue.drain(&mut written);
        assert_eq!(written.iter().map(|work| work.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }

    /// However small works are, only so many are held before nothing is taken any more.
    #[test]
    fn what_is_held_is_bounded() {
        let queue = Queue::new(1, |_| 1, Bell::new());
        let (mut held, mut takes) = (HeldWorks::default(), Vec::new());
        held.push(work(0), &queue);
        for number in 1.. {
            held.push(work(number), &queue);
            takes.push((held.takes(false), held.takes(true)));
            if held.takes(true) == Takes::Nothing {
                assert!(number as usize <= HeldWorks::LIMIT, "{number}");
                break;
            }
        }
        takes.dedup();
        let (all, ticks, nothing) = (Takes::All, Takes::Ticks, Takes::Nothing);
        assert_eq!(takes, [(ticks, all), (ticks, ticks), (nothing, nothing)]);
    }
}
