//! The requests that a node works on: its own clients', until they are chosen or out of time, and, while
//! it leads, those that others forwarded.
//!
//! One request is placed in the log at most once by one leader as long as it is held: [`Proposals`] knows
//! where. (Different leaders may still place it twice; delivery takes care of that.) Of requests that were
//! chosen, the latest are remembered (`chosen.rs`). Left out: deciding when to forward (`forwarding.rs`) and
//! when to place, which depends on who leads.
//!
//! A leader's clients and those of other nodes leave each other a share (`load.rs`). A request that is placed
//! and out of time still counts as its client's: if it did not, clients with short deadlines could take the
//! others' share as well. This holds at every node, since each may lead next.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use super::chosen::ChosenRequests;
use super::load::Load;
use super::places::{Key, Places};
use super::protocol::Proposal;
use super::types::{Command, Index, RequestId};

/// Requests not yet known to be chosen. Own ones and others' are held up to [`Proposals::CAPACITY`] and
/// [`Proposals::CAPACITY_BYTES`]; more are refused (own ones wait in the proposing queue, forwarded ones are
/// sent again). Own ones come in lists, each of which is taken whole while there is room: they may exceed the
/// bytes by one list, which the proposing queue bounds. What a new leader adopts is held in any case.
#[derive(Clone, Debug)]
pub struct Proposals {
    /// The requests that are held; each keeps its place.
    held: Vec<Option<Request>>,
    /// The places in `held` without a request.
    free: Vec<u32>,
    /// How requests are hashed, in all tables.
    key: Key,
    /// The places by request.
    places: Places,
    chosen: ChosenRequests,
    /// What this node's clients' requests take.
    own: Load,
    /// What all others take: those that were forwarded or adopted.
    others: Load,
    arrivals: u64,
    /// Own requests in order of arrival, each once, with the time at which they are checked: one with a
    /// shorter time than those before it is given up late.
    expiry: VecDeque<(u64, Arrival)>,
    /// Requests that wait for a place in the log or, at a node that does not lead, to be sent to the leader;
    /// in order of arrival.
    waiting: VecDeque<Arrival>,
    /// Own requests that the leader was sent, in the order of when it was sent them last.
    forwarded: VecDeque<(u64, Arrival)>,
}

/// Names a request in a queue. A request that was chosen and comes again has a new arrival, so that what the
/// queues still hold of its first life means nothing: a queue names each held request at most once.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// The place in [`Proposals::held`], where another request may be by then: its arrival has a different
    /// number.
    place: u32,
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Request {
    command: Command,
    /// The number of its [`Arrival`].
    arrival: u64,
    /// Whether it counts as own.
    own: bool,
    /// The deadline of an own request; 0 for a forwarded one or one out of time.
    deadline_ms: u64,
    /// Where this leader placed it.
    placed: Option<Index>,
}

impl Proposals {
    /// The most requests that are held. A quarter is for own ones only, a quarter for others only: each side
    /// may take what the other leaves, at least a quarter and at most three.
    pub const CAPACITY: usize = 65_536;
    /// The most that they take, not counting the last own list and forwarded request; shared likewise.
    pub const CAPACITY_BYTES: usize = 64 << 20;

    const CAPACITIES: Load = Load { requests: Self::CAPACITY, bytes: Self::CAPACITY_BYTES };

    /// Holds none yet. A different seed only changes how requests are found.
    pub fn new(seed: u64) -> Proposals {
        Proposals {
            held: Vec::new(),
            free: Vec::new(),
            key: Key::new(seed),
            places: Places::default(),
            chosen: ChosenRequests::default(),
            own: Load::default(),
            others: Load::default(),
            arrivals: 0,
            expiry: VecDeque::new(),
            waiting: VecDeque::new(),
            forwarded: VecDeque::new(),
        }
    }

    /// How many requests are held.
    pub fn len(&self) -> usize {
        self.held.len() - self.free.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more own requests can be taken.
    pub fn room(&self) -> usize {
        self.own.room(self.others, Self::CAPACITIES)
    }

    /// Takes a request of this node's client. Returns `false` if the same request is held already (it only
    /// waits longer), or if own ones are as many as they may be. Bytes are not checked: the caller asks for
    /// [`Proposals::room`] before the list, and to drop its end here would lose it.
    pub fn add_own(&mut self, proposal: Proposal) -> bool {
        let Proposal { command, deadline_ms } = proposal;
        assert_ne!(command.request, RequestId::NONE, "a proposal has a request id");
        let hash = self.key.hash(command.request);
        let held = self.find(hash, command.request);
        let counted =
            held.is_some_and(|place| self.held[place as usize].as_ref().is_some_and(|held| held.own));
        if !counted && self.own.places(self.others, Self::CAPACITIES) == 0 {
            return false;
        }
        if let Some(place) = held {
            self.add_own_again(place, command, deadline_ms);
        } else {
            let arrival = self.insert(hash, command, Some(deadline_ms));
            self.waiting.push_back(arrival);
            self.expiry.push_back((deadline_ms, arrival));
        }
        self.own.assert_leaves_a_share("own", Self::CAPACITIES);
        self.trim_queues();
        held.is_none()
    }

    /// Takes a request that is held already.
    fn add_own_again(&mut self, place: u32, command: Command, deadline_ms: u64) {
        let held = self.held[place as usize].as_mut().expect("it was found there");
        if held.deadline_ms == 0 {
            // It was another node's so far, or out of time: now it is repeated under this node's name.
            let load = if held.own { &mut self.own } else { &mut self.others };
            load.remove(&held.command);
            self.own.add(&command);
            (held.command, held.own) = (command, true);
            self.expiry.push_back((deadline_ms, Arrival { place, number: held.arrival }));
        }
        held.deadline_ms = held.deadline_ms.max(deadline_ms);
    }

    /// Takes a request that another node forwarded to this leader, unless it is held already. Returns `false`
    /// if there is no room for it.
    pub fn add_forwarded(&mut self, command: Command) -> bool {
        let hash = self.key.hash(command.request);
        if self.find(hash, command.request).is_some() {
            return true;
        }
        if self.others.room(self.own, Self::CAPACITIES) == 0 {
            return false;
        }
        let arrival = self.insert(hash, command, None);
        self.others.assert_leaves_a_share("others'", Self::CAPACITIES);
        self.waiting.push_back(arrival);
        self.trim_queues();
        true
    }

    /// Holds a request that is not held. An own one has a deadline.
    fn insert(&mut self, hash: u64, command: Command, deadline_ms: Option<u64>) -> Arrival {
        self.arrivals += 1;
        let number = self.arrivals;
        let (own, deadline_ms) = (deadline_ms.is_some(), deadline_ms.unwrap_or(0));
        let load = if own { &mut self.own } else { &mut self.others };
        load.add(&command);
        let request = Some(Request { command, arrival: number, own, deadline_ms, placed: None });
        let place = match self.free.pop() {
            Some(place) => {
                self.held[place as usize] = request;
                place
            }
            None => {
                self.held.push(request);
                u32::try_from(self.held.len() - 1).expect("far fewer than 2^32 are held")
            }
        };
        self.places.insert(hash, place);
        Arrival { place, number }
    }

    fn find(&self, hash: u64, request: RequestId) -> Option<u32> {
        let is_it =
            |held: &Option<Request>| held.as_ref().is_some_and(|held| held.command.request == request);
        self.places.find(hash, |place| is_it(&self.held[place as usize]))
    }

    /// Forgets what the queues hold of requests that are gone, before that grows without limit.
    fn trim_queues(&mut self) {
        let held = &self.held;
        if self.expiry.len() > 2 * Self::CAPACITY {
            self.expiry.retain(|(_, arrival)| arrival.of(held).is_some());
        }
        if self.waiting.len() > 2 * Self::CAPACITY {
            self.waiting.retain(|arrival| arrival.of(held).is_some());
        }
        if self.forwarded.len() > 2 * Self::CAPACITY {
            self.forwarded.retain(|(_, arrival)| arrival.of(held).is_some());
        }
    }

    /// An upper bound of how many wait for a place: some of them may be gone.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the next request that waits for a place, if it `fits`: it is placed at this index now, and not
    /// placed again.
    pub fn place_next(&mut self, index: Index, fits: impl Fn(&Command) -> bool) -> Option<Command> {
        while let Some(arrival) = self.waiting.front() {
            let held = self.held[arrival.place as usize].as_mut();
            match held.filter(|held| held.arrival == arrival.number) {
                Some(Request { command, placed, .. }) if placed.is_none() => {
                    if !fits(command) {
                        return None;
                    }
                    *placed = Some(index);
                    self.waiting.pop_front();
                    return Some(command.clone());
                }
                _ => self.waiting.pop_front(),
            };
        }
        None
    }

    /// Notes that this leader adopted a command at an index: it is not placed again.
    pub fn adopted(&mut self, command: &Command, index: Index) {
        if command.request == RequestId::NONE {
            return;
        }
        let hash = self.key.hash(command.request);
        let place = match self.find(hash, command.request) {
            Some(place) => place,
            None => self.insert(hash, command.clone(), None).place,
        };
        if let Some(request) = &mut self.held[place as usize] {
            request.placed = Some(index);
        }
    }

    /// Notes that a request was chosen at an index: nothing more needs doing for it.
    pub fn chosen(&mut self, request: RequestId, index: Index) {
        if request != RequestId::NONE {
            self.chosen.push(self.key, request, index);
            self.forget(request);
        }
    }

    /// Where a request was chosen, if it is one of the latest. Only a leader knows.
    pub fn chosen_at(&self, request: RequestId) -> Option<Index> {
        self.chosen.find(self.key, request)
    }

    fn forget(&mut self, request: RequestId) {
        if self.is_empty() {
            return;
        }
        let hash = self.key.hash(request);
        if let Some(place) = self.find(hash, request) {
            self.remove(hash, place);
        }
    }

    fn remove(&mut self, hash: u64, place: u32) {
        let gone = self.held[place as usize].take().expect("it was found there");
        let load = if gone.own { &mut self.own } else { &mut self.others };
        load.remove(&gone.command);
        self.places.remove(hash, place);
        self.free.push(place);
    }

    /// This node leads from now on: what waits is placed, and what was chosen lately can be found.
    pub fn begin_to_place(&mut self) {
        self.restart();
        self.chosen.begin_to_find(self.key);
    }

    /// This node leads no more.
    pub fn end_to_place(&mut self) {
        self.restart();
        self.chosen.end_to_find();
    }

    /// Another leads than before: all placements are void, other nodes' requests are dropped, own ones wait
    /// again.
    pub fn restart(&mut self) {
        for place in 0..self.held.len() {
            match &mut self.held[place] {
                Some(request) if request.deadline_ms > 0 => request.placed = None,
                Some(request) => {
                    let hash = self.key.hash(request.command.request);
                    self.remove(hash, place as u32);
                }
                None => {}
            }
        }
        self.forwarded.clear();
        self.waiting.clear();
        self.waiting.extend(self.expiry.iter().map(|(_, arrival)| *arrival));
    }

    /// Gives up own requests that are out of time; placed ones stay until they are chosen.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some((look_ms, arrival)) = self.expiry.front().copied() {
            let held = self.held[arrival.place as usize].as_mut();
            let held = held.filter(|held| held.arrival == arrival.number);
            if held.is_some() && look_ms > now_ms {
                return;
            }
            self.expiry.pop_front();
            let Some(held) = held else { continue };
            if held.deadline_ms > now_ms {
                self.expiry.push_back((held.deadline_ms, arrival));
                continue;
            }
            held.deadline_ms = 0;
            if held.placed.is_none() {
                let request = held.command.request;
                self.forget(request);
            }
        }
    }

    /// Whether a request that the leader was sent is not known to be chosen.
    pub fn has_forwarded(&mut self) -> bool {
        while let Some((_, arrival)) = self.forwarded.front() {
            if arrival.of(&self.held).is_some() {
                return true;
            }
            self.forwarded.pop_front();
        }
        false
    }

    /// Own requests that wait, in order of arrival: the leader is sent them now.
    pub fn forward_waiting(&mut self, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some(arrival) = self.waiting.pop_front() {
            if let Some(Request { command, .. }) = arrival.of(&self.held) {
                commands.push(command.clone());
                self.forwarded.push_back((now_ms, arrival));
            }
        }
        commands
    }

    /// Own requests that the leader was sent at `until_ms` or before, and not since: it is sent them again
    /// now.
    pub fn forward_again(&mut self, until_ms: u64, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        let due = self.forwarded.iter().take_while(|(sent_ms, _)| *sent_ms <= until_ms).count();
        for (_, arrival) in self.forwarded.drain(..due).collect::<Vec<_>>() {
            if let Some(Request { command, .. }) = arrival.of(&self.held) {
                commands.push(command.clone());
                self.forwarded.push_back((now_ms, arrival));
            }
        }
        commands
    }

    /// See [`Paxos::normalize`](super::paxos::Paxos::normalize): when what was sent does not matter.
    #[cfg(feature = "internals")]
    pub fn normalize(&mut self, now_ms: u64) {
        self.forwarded.iter_mut().for_each(|(sent_ms, _)| *sent_ms = now_ms);
    }

    /// All that makes two of them equal, wherever it is kept: the requests by arrival, the queues.
    fn facts(&self) -> impl Eq + Hash + '_ {
        let mut held: Vec<&Request> = self.held.iter().flatten().collect();
        held.sort_by_key(|request| request.arrival);
        let expiry: Vec<(u64, u64)> =
            self.expiry.iter().map(|(look_ms, arrival)| (*look_ms, arrival.number)).collect();
        let waiting: Vec<u64> = self.waiting.iter().map(|arrival| arrival.number).collect();
        let forwarded: Vec<(u64, u64)> =
            self.forwarded.iter().map(|(sent_ms, arrival)| (*sent_ms, arrival.number)).collect();
        (held, self.arrivals, expiry, waiting, forwarded, &self.chosen)
    }
}

impl PartialEq for Proposals {
    fn eq(&self, other: &Proposals) -> bool {
        self.facts() == other.facts()
    }
}

impl Eq for Proposals {}

impl Hash for Proposals {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.facts().hash(state);
    }
}

impl Arrival {
    /// The request that arrived then, if it is still held.
    fn of(self, held: &[Option<Request>]) -> Option<&Request> {
        held[self.place as usize].as_ref().filter(|held| held.arrival == self.number)
    }
}

#[cfg(test)]
mod tests;
