//! The requests that a node works on: its own clients', until they are chosen or out of time, and, while
//! it leads, those that others forwarded.
//!
//! One request is placed in the log at most once by one leader: [`Proposals`] knows where. (Different
//! leaders may still place it twice; delivery takes care of that.) Left out: deciding when to forward and
//! when to place, which depends on who leads.

use std::collections::{BTreeMap, VecDeque};

use super::protocol::Proposal;
use super::types::{Command, Index, RequestId};

/// Requests not yet known to be chosen. At most [`Proposals::CAPACITY`] and [`Proposals::CAPACITY_BYTES`];
/// what comes beyond is refused (own ones wait in the proposing queue, forwarded ones are sent again).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proposals {
    requests: BTreeMap<RequestId, Request>,
    bytes: usize,
    /// Own requests in order of arrival, each once, with the time after which they are looked at: one with
    /// a shorter time than those before it is given up late.
    expiry: VecDeque<(u64, RequestId)>,
    /// Requests that wait for a place in the log, in order of arrival. Used by a leader only. May hold ids
    /// that are gone or placed by now.
    waiting: VecDeque<RequestId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Request {
    command: Command,
    /// The deadline of an own request; 0 for a forwarded one or one out of time.
    deadline_ms: u64,
    /// Where this leader placed it.
    placed: Option<Index>,
}

impl Proposals {
    /// How many requests are held at most.
    pub const CAPACITY: usize = 65_536;
    /// What they take at most, unless a single one takes more.
    pub const CAPACITY_BYTES: usize = 64 << 20;

    /// How many requests are held.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many more can be taken.
    pub fn room(&self) -> usize {
        match self.bytes < Self::CAPACITY_BYTES {
            true => Self::CAPACITY - self.requests.len().min(Self::CAPACITY),
            false => 0,
        }
    }

    /// Takes a request of this node's client. `false` if the same request is held already (it only waits
    /// longer), or there is no room.
    pub fn add_own(&mut self, proposal: Proposal) -> bool {
        let Proposal { command, deadline_ms } = proposal;
        let request = command.request;
        assert_ne!(request, RequestId::NONE, "a proposal has a request id");
        let added = self.add(command);
        if let Some(held) = self.requests.get_mut(&request) {
            if held.deadline_ms == 0 {
                self.expiry.push_back((deadline_ms, request));
            }
            held.deadline_ms = held.deadline_ms.max(deadline_ms);
            if self.expiry.len() > 2 * Self::CAPACITY {
                self.expiry.retain(|(_, request)| self.requests.contains_key(request));
            }
        }
        added
    }

    /// Takes a request that another node forwarded to this leader; `false` as for [`Proposals::add_own`].
    pub fn add_forwarded(&mut self, command: Command) -> bool {
        self.add(command)
    }

    fn add(&mut self, command: Command) -> bool {
        if self.requests.contains_key(&command.request) || self.room() == 0 {
            return false;
        }
        self.bytes += command.cost_bytes();
        self.waiting.push_back(command.request);
        self.requests.insert(command.request, Request { command, deadline_ms: 0, placed: None });
        true
    }

    /// The next request that waits for a place, if `fits`; it is then the caller's to place.
    pub fn next_waiting(&mut self, fits: impl Fn(&Command) -> bool) -> Option<Command> {
        while let Some(request) = self.waiting.front() {
            match self.requests.get(request) {
                Some(Request { command, placed: None, .. }) if fits(command) => {
                    let command = command.clone();
                    self.waiting.pop_front();
                    return Some(command);
                }
                Some(Request { placed: None, .. }) => return None,
                _ => self.waiting.pop_front(),
            };
        }
        None
    }

    /// Notes that this leader placed a request at an index: it is not placed again.
    pub fn placed(&mut self, command: &Command, index: Index) {
        if command.request == RequestId::NONE {
            return;
        }
        let bytes = &mut self.bytes;
        let request = self.requests.entry(command.request).or_insert_with(|| {
            *bytes += command.cost_bytes();
            Request { command: command.clone(), deadline_ms: 0, placed: None }
        });
        request.placed = Some(index);
    }

    /// Notes that a request was chosen somewhere: nothing more is to be done for it.
    pub fn chosen(&mut self, request: RequestId) {
        if let Some(gone) = self.requests.remove(&request) {
            self.bytes -= gone.command.cost_bytes();
        }
    }

    /// Leadership ends or begins: all placements are void, forwarded requests go, own ones wait again.
    pub fn restart(&mut self) {
        self.requests.retain(|_, request| request.deadline_ms > 0);
        self.waiting.clear();
        self.bytes = 0;
        for request in self.requests.values_mut() {
            request.placed = None;
            self.bytes += request.command.cost_bytes();
        }
        self.waiting.extend(self.expiry.iter().map(|(_, request)| *request));
    }

    /// Gives up own requests that are out of time; placed ones stay until they are chosen.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some((look_ms, request)) = self.expiry.front().copied() {
            let held = self.requests.get_mut(&request);
            if held.is_some() && look_ms > now_ms {
                return;
            }
            self.expiry.pop_front();
            let Some(held) = held else { continue };
            if held.deadline_ms > now_ms {
                self.expiry.push_back((held.deadline_ms, request));
                continue;
            }
            held.deadline_ms = 0;
            if held.placed.is_none() {
                self.chosen(request);
            }
        }
    }

    /// Own requests that are still to be chosen, in order of arrival, for a forward to the leader.
    pub fn own(&self) -> impl Iterator<Item = &Command> {
        let held = |(_, request): &(u64, RequestId)| {
            self.requests.get(request).filter(|held| held.deadline_ms > 0).map(|held| &held.command)
        };
        self.expiry.iter().filter_map(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(reqid: u64, deadline_ms: u64) -> Proposal {
        Proposal { command: Command::value(reqid, 1, "v"), deadline_ms }
    }

    #[test]
    fn a_request_is_placed_once_and_gone_when_chosen() {
        let mut proposals = Proposals::default();
        assert!(proposals.add_own(proposal(1, 100)));
        assert!(!proposals.add_own(proposal(1, 200)));
        assert!(proposals.add_forwarded(Command::value(2, 2, "w")));
        let command = proposals.next_waiting(|_| true).unwrap();
        assert_eq!(command.request, RequestId::user(1));
        proposals.placed(&command, 5);
        assert!(!proposals.add_forwarded(Command::value(1, 2, "v")));
        assert_eq!(proposals.next_waiting(|_| false), None);
        assert_eq!(proposals.next_waiting(|_| true).unwrap().request, RequestId::user(2));
        proposals.chosen(RequestId::user(1));
        proposals.chosen(RequestId::user(2));
        assert_eq!((proposals.len(), proposals.bytes), (0, 0));
    }

    #[test]
    fn own_requests_wait_again_after_a_change_of_leader_until_out_of_time() {
        let mut proposals = Proposals::default();
        proposals.add_own(proposal(1, 100));
        proposals.add_own(proposal(2, 150));
        proposals.add_own(proposal(1, 200));
        proposals.add_forwarded(Command::value(3, 2, "w"));
        let command = proposals.next_waiting(|_| true).unwrap();
        proposals.placed(&command, 5);
        proposals.restart();
        assert_eq!(proposals.len(), 2);
        proposals.expire(160);
        assert_eq!(proposals.own().map(|command| command.request.number).collect::<Vec<_>>(), [1]);
        assert_eq!(proposals.next_waiting(|_| true).unwrap().request, RequestId::user(1));
        proposals.expire(200);
        assert_eq!((proposals.len(), proposals.bytes), (0, 0));
        assert_eq!(proposals.next_waiting(|_| true), None);
    }
}
