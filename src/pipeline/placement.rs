//! The embedder's proposals, and where the leader put them: what `Start` returns in the labs.
//!
//! The core knows nothing of this. A leader that places a proposal writes it, so the turn finds the places
//! among the entries that it hands to storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::consensus::protocol::{Proposal, Role, Status};
use crate::consensus::types::{Ballot, Entry, Index, RequestId};

/// Proposals that go into the core together or not at all.
#[derive(Debug)]
pub struct Submission {
    /// The proposals, at least one.
    pub proposals: Vec<Proposal>,
    /// Takes the turn's answer: what became of them.
    pub placed: Arc<Placed>,
}

impl Submission {
    /// What the submission takes in the queue.
    pub fn cost_bytes(&self) -> usize {
        self.proposals.iter().map(|proposal| proposal.command.cost_bytes()).sum()
    }
}

/// What became of a submission in the turn that took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The core took it.
    Taken {
        /// The ballot (Raft: term) that the node is in.
        ballot: Ballot,
        /// Whether the node leads.
        leads: bool,
        /// For each proposal in order, its index if it is ever chosen; `None` if it has no place yet.
        indexes: Vec<Option<Index>>,
    },
    /// Nothing was proposed, certainly, for this reason.
    Refused(&'static str),
}

impl Placement {
    /// Looks for the proposals among the entries of the turn that took them. A leader writes what it places
    /// in the same turn, under a ballot of the round in which it leads.
    pub(super) fn find(ids: &[RequestId], status: &Status, entries: &[Entry]) -> Placement {
        let leads = status.role == Role::Leader;
        let own = entries.iter().filter(|entry| leads && entry.ballot.round == status.promised.round);
        let places: BTreeMap<RequestId, Index> =
            own.map(|entry| (entry.command.request, entry.index)).collect();
        let indexes = ids.iter().map(|id| places.get(id).copied()).collect();
        Placement::Taken { ballot: status.promised, leads, indexes }
    }
}

/// Carries a [`Placement`] from the state machine's thread to the thread that waits for it.
#[derive(Debug, Default)]
pub struct Placed {
    placement: Mutex<Option<Placement>>,
    changed: Condvar,
}

impl Placed {
    /// Tells the placement. The turn calls this once.
    pub fn tell(&self, placement: Placement) {
        *self.placement.lock() = Some(placement);
        self.changed.notify_one();
    }

    /// Waits for the placement, at most this long.
    pub fn wait(&self, timeout: Duration) -> Option<Placement> {
        let mut placement = self.placement.lock();
        let _ = self.changed.wait_while_for(&mut placement, |placement| placement.is_none(), timeout);
        placement.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::config::{Config, Restored};
    use crate::consensus::protocols::ProtocolName;
    use crate::consensus::quorum::Voters;
    use crate::consensus::types::Command;

    fn config() -> Config {
        Config {
            node: 1,
            voters: Voters::new(vec![1]),
            election_ms: 100,
            heartbeat_ms: 10,
            window_entries: 16,
            window_bytes: 1 << 20,
            seed: 1,
        }
    }

    /// Only entries that this leader wrote under its own round show where a request is.
    #[test]
    fn places_are_those_of_the_leaders_own_round() {
        let ballot = |round, node| Ballot { round, node };
        let entry = |index, round, reqid| Entry {
            index,
            ballot: ballot(round, 1),
            command: Command::value(reqid, 1, "v"),
        };
        let status = |role| {
            let mut status = ProtocolName::Raft.core(config(), Restored::default()).status();
            (status.role, status.promised) = (role, ballot(3, 1));
            status
        };
        let ids = [1, 2, 3].map(RequestId::user);
        let entries = [entry(5, 2, 2), entry(6, 3, 3), entry(7, 3, 1)];
        let found = |role, indexes: [Option<Index>; 3]| {
            let taken = Placement::Taken {
                ballot: ballot(3, 1),
                leads: role == Role::Leader,
                indexes: indexes.to_vec(),
            };
            assert_eq!(Placement::find(&ids, &status(role), &entries), taken);
        };
        found(Role::Leader, [Some(7), None, Some(6)]);
        found(Role::Follower, [None, None, None]);
    }

    /// A wait in vain ends; a placement that was told before the wait is found.
    #[test]
    fn a_placement_is_waited_for() {
        let placed = Placed::default();
        assert_eq!(placed.wait(Duration::ZERO), None);
        placed.tell(Placement::Refused("a test"));
        assert_eq!(placed.wait(Duration::ZERO), Some(Placement::Refused("a test")));
    }
}
