//! What a connection waits for: requests whose outcome is not known yet, and replies that have to wait
//! because an earlier one is missing.
//!
//! Each request is in one of two lanes. In the *ordered* lane each request is owed a reply, in order. In the
//! *silent* lane none is (the seed's `PROP` lines, and what comes under `CLIENT REPLY OFF`), and they hold up
//! nothing. A request's sequence number is its place in its lane and, in the lowest bit, the lane, so that an
//! outcome finds its slot directly. Once nothing waits any more, the memory that a burst took is freed.

use std::collections::{BTreeSet, VecDeque};

/// A request whose outcome is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The reqid of the proposal, or the one that is awaited.
    pub reqid: u64,
    /// What was asked.
    pub asked: Asked,
    /// When its time is up.
    pub deadline_ms: u64,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `PROP` that is owed a reply.
    Prop,
    /// `PROP` of which only a failure is reported.
    QuietProp,
    /// `PROP` of which nothing is reported.
    MutedProp,
    /// `AWAIT`.
    Await,
}

impl Asked {
    fn lane(self) -> u64 {
        match self {
            Asked::Prop | Asked::Await => ORDERED,
            Asked::QuietProp | Asked::MutedProp => SILENT,
        }
    }
}

/// How many places without a request keep their memory for the next one.
const KEPT_PLACES: usize = 256;

const ORDERED: u64 = 0;
const SILENT: u64 = 1;

/// A place in a lane.
#[derive(Debug)]
enum Slot {
    Waiting(Waiting),
    /// Its reply.
    Ready(Vec<u8>),
    /// Nothing is owed, or no longer.
    Done,
}

/// Invariants: `waiting` is the number of slots that wait; the first slot of each lane waits; every
/// waiting request has its deadline in one of the two collections.
#[derive(Debug, Default)]
pub struct Pending {
    ordered: Lane,
    silent: Lane,
    waiting: usize,
    /// Sum of the lengths of the replies that have to wait.
    ready_bytes: usize,
    /// (deadline, sequence) of proposals in the order in which they came. All have the same time limit, so
    /// this is also the order of the deadlines. There may be answered ones, but not at the front.
    prop_deadlines: VecDeque<(u64, u64)>,
    await_deadlines: BTreeSet<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Lane {
    /// The place of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
}

impl Pending {
    /// The sequence number that [`Pending::begin`] will give to the next request that asks for this.
    pub fn next_sequence(&self, asked: Asked) -> u64 {
        let lane = self.lane(asked.lane());
        (lane.base + lane.slots.len() as u64) << 1 | asked.lane()
    }

    /// Adds a request. Proposals must come in the order of their deadlines.
    pub fn begin(&mut self, waiting: Waiting) -> u64 {
        let sequence = self.next_sequence(waiting.asked);
        self.lane_mut(waiting.asked.lane()).slots.push_back(Slot::Waiting(waiting));
        self.waiting += 1;
        match waiting.asked {
            Asked::Await => {
                self.await_deadlines.insert((waiting.deadline_ms, sequence));
            }
            _ => {
                let last_ms = self.prop_deadlines.back().map_or(0, |(deadline_ms, _)| *deadline_ms);
                assert!(
                    last_ms <= waiting.deadline_ms,
                    "deadlines of proposals must ascend: {last_ms} came before {}",
                    waiting.deadline_ms
                );
                self.prop_deadlines.push_back((waiting.deadline_ms, sequence));
            }
        }
        sequence
    }

    /// The request with this number, if it still waits.
    pub fn find(&self, sequence: u64) -> Option<Waiting> {
        let lane = self.lane(sequence & 1);
        let place = (sequence >> 1).checked_sub(lane.base)?;
        match lane.slots.get(usize::try_from(place).ok()?)? {
            Slot::Waiting(waiting) => Some(*waiting),
            Slot::Ready(_) | Slot::Done => None,
        }
    }

    /// Ends the wait of a request that [`Pending::find`] found: its reply takes its place (in the silent
    /// lane it has none). Replies whose turn it is now are appended to `out`.
    pub fn finish(&mut self, sequence: u64, reply: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        let waiting = self.find(sequence).expect("it was found waiting");
        self.waiting -= 1;
        if waiting.asked == Asked::Await {
            self.await_deadlines.remove(&(waiting.deadline_ms, sequence));
        }
        let lane = self.lane_mut(sequence & 1);
        let place = ((sequence >> 1) - lane.base) as usize;
        if sequence & 1 == SILENT {
            lane.slots[place] = Slot::Done;
        } else if place == 0 {
            reply(out);
            lane.slots[0] = Slot::Done;
        } else {
            let mut bytes = Vec::new();
            reply(&mut bytes);
            self.ready_bytes += bytes.len();
            self.ordered.slots[place] = Slot::Ready(bytes);
        }
        self.advance(out);
    }

    /// Adds a reply that is known immediately.
    pub fn reply(&mut self, reply: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        if self.ordered.slots.is_empty() {
            return reply(out);
        }
        let mut bytes = Vec::new();
        reply(&mut bytes);
        self.ready_bytes += bytes.len();
        self.ordered.slots.push_back(Slot::Ready(bytes));
    }

    /// Returns a request whose time is up.
    pub fn expired(&self, now_ms: u64) -> Option<(u64, Waiting)> {
        let props = self.prop_deadlines.front();
        let first = props.into_iter().chain(self.await_deadlines.first()).min()?;
        let (deadline_ms, sequence) = *first;
        let waiting = self.find(sequence).expect("the first deadline is of a request that waits");
        (deadline_ms <= now_ms).then_some((sequence, waiting))
    }

    /// The time at which the next request's time is up.
    pub fn deadline_ms(&self) -> Option<u64> {
        let props = self.prop_deadlines.front();
        props.into_iter().chain(self.await_deadlines.first()).map(|(deadline_ms, _)| *deadline_ms).min()
    }

    /// All requests that wait.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Waiting)> {
        let props = self.prop_deadlines.iter().chain(&self.await_deadlines);
        props.filter_map(|(_, sequence)| Some((*sequence, self.find(*sequence)?)))
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many slots are taken, including those of answered requests behind one that waits.
    pub fn slots(&self) -> usize {
        self.ordered.slots.len() + self.silent.slots.len()
    }

    /// How many bytes of replies have to wait for an earlier one.
    pub fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// About how many bytes it holds in memory.
    pub fn held_bytes(&self) -> usize {
        let slots = self.ordered.slots.capacity() + self.silent.slots.capacity();
        slots * size_of::<Slot>()
            + self.prop_deadlines.capacity() * size_of::<(u64, u64)>()
            + self.await_deadlines.len() * 32
            + self.ready_bytes
    }

    /// Takes finished slots and deadlines from the front.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while let Some(Slot::Ready(_) | Slot::Done) = self.ordered.slots.front() {
            if let Some(Slot::Ready(bytes)) = self.ordered.pop() {
                self.ready_bytes -= bytes.len();
                out.extend_from_slice(&bytes);
            }
        }
        while let Some(Slot::Done) = self.silent.slots.front() {
            self.silent.pop();
        }
        while let Some((_, sequence)) = self.prop_deadlines.front() {
            if self.find(*sequence).is_some() {
                break;
            }
            self.prop_deadlines.pop_front();
        }
        if self.slots() == 0 {
            self.release(KEPT_PLACES);
        }
    }

    /// Frees the memory of places without a request, except for so many of them.
    pub fn release(&mut self, kept: usize) {
        self.ordered.slots.shrink_to(kept);
        self.silent.slots.shrink_to(kept);
        self.prop_deadlines.shrink_to(kept);
    }

    fn lane(&self, lane: u64) -> &Lane {
        if lane == ORDERED { &self.ordered } else { &self.silent }
    }

    fn lane_mut(&mut self, lane: u64) -> &mut Lane {
        if lane == ORDERED { &mut self.ordered } else { &mut self.silent }
    }
}

impl Lane {
    fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.base += 1;
        Some(slot)
    }
}
