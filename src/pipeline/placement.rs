//! Proposals of whoever embeds the node, and where the leader put them: what the labs' `Start` gives back.
//!
//! The core knows nothing of it. A leader that places a proposal writes it, so the turn finds the places
//! among the entries that it gives to storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::consensus::protocol::{Proposal, Role, Status};
use crate::consensus::types::{Ballot, Entry, Index, RequestId};

/// Proposals that go into the core together or not at all.
#[derive(Debug)]
pub struct Submission {
    /// At least one.
    pub proposals: Vec<Proposal>,
    /// Where the turn says what became of them.
    pub placed: Arc<Placed>,
}

impl Submission {
    /// What it takes in the queue.
    pub fn cost_bytes(&self) -> usize {
        self.proposals.iter().map(|proposal| proposal.command.cost_bytes()).sum()
    }
}

/// What the turn that took a submission made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The core took it.
    Taken {
        /// The ballot (Raft: term) that the node is in.
        ballot: Ballot,
        /// Whether the node leads.
        leads: bool,
        /// Of each proposal in turn: where it stands if it is ever chosen; `None` if it has no place yet.
        indexes: Vec<Option<Index>>,
    },
    /// Certainly not proposed, for this reason.
    Refused(&'static str),
}

impl Placement {
    /// Looks for the proposals among the entries of the turn that took them. What a leader places it writes
    /// in the same turn, under a ballot of the round that it leads in.
    pub(super) fn find(ids: &[RequestId], status: &Status, entries: &[Entry]) -> Placement {
        let leads = status.role == Role::Leader;
        let own = entries.iter().filter(|entry| leads && entry.ballot.round == status.promised.round);
        let places: BTreeMap<RequestId, Index> =
            own.map(|entry| (entry.command.request, entry.index)).collect();
        let indexes = ids.iter().map(|id| places.get(id).copied()).collect();
        Placement::Taken { ballot: status.promised, leads, indexes }
    }
}

/// Takes a [`Placement`] from the state machine's thread to the one that waits for it.
#[derive(Debug, Default)]
pub struct Placed {
    placement: Mutex<Option<Placement>>,
    changed: Condvar,
}

impl Placed {
    /// Told once, by the turn.
    pub fn tell(&self, placement: Placement) {
        *self.placement.lock() = Some(placement);
        self.changed.notify_one();
    }

    /// Waits for it, at most so long.
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

    /// Only what this leader wrote under its own round says where a request stands.
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

    /// Who waits in vain goes on; what was told before the wait is found.
    #[test]
    fn a_placement_is_waited_for() {
        let placed = Placed::default();
        assert_eq!(placed.wait(Duration::ZERO), None);
        placed.tell(Placement::Refused("a test"));
        assert_eq!(placed.wait(Duration::ZERO), Some(Placement::Refused("a test")));
    }
}
