//! Who the members are: a bit for each id, and which of them vote.
//!
//! A core keeps many sets of members: who accepted an entry, who promised, who confirmed a read. Each is one
//! word ([`Set`]), and the [`Roster`] says which bit is whose. What is known of each single member is kept by
//! id.
//!
//! Invariants:
//!
//! * A node keeps its bit while it is on the roster, whatever other nodes join: a set means the same before
//!   and after a change of members. (A place among sorted ids would not do: it moves when a lower id joins.)
//! * Only voters count ([`Electorate`]). A member without a vote has a bit as well, so that sets can name it;
//!   and two electorates, an old one and a new one, can be counted over the same sets.
//! * Members come in ascending order of id, so that the same inputs give the same batches.
//!
//! Left out: changes of members. All members are founders today, and all of them vote.

use super::quorum::{Bit, Electorate, Set, Voters};
use super::types::NodeId;

/// The members of a cluster, as a core knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Roster {
    /// By ascending id.
    members: Vec<(NodeId, Bit)>,
    electorate: Electorate,
}

impl Roster {
    /// The founders, who all vote.
    pub(super) fn new(founders: &Voters) -> Roster {
        let mut roster = Roster { members: Vec::new(), electorate: Electorate::default() };
        let mut voters = Set::default();
        for node in founders.ids() {
            voters.insert(roster.admit(*node));
        }
        roster.electorate = Electorate::new(voters);
        roster
    }

    /// Takes in a node that is not a member, under the lowest free bit.
    fn admit(&mut self, node: NodeId) -> Bit {
        let is_free = |bit: &Bit| self.members.iter().all(|(_, other)| other != bit);
        let bit = Bit::all().find(is_free).expect("a roster has at most Voters::MAX members");
        let place = self.members.binary_search_by_key(&node, |(member, _)| *member);
        let place = place.expect_err("a member is not taken in again");
        self.members.insert(place, (node, bit));
        bit
    }

    /// The bit of a member.
    pub(super) fn bit(&self, node: NodeId) -> Option<Bit> {
        let place = self.members.binary_search_by_key(&node, |(member, _)| *member).ok()?;
        Some(self.members[place].1)
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Every member with its bit, by ascending id.
    pub(super) fn members(&self) -> impl Iterator<Item = (NodeId, Bit)> + '_ {
        self.members.iter().copied()
    }

    /// The members whose votes count.
    pub(super) fn electorate(&self) -> Electorate {
        self.electorate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(roster: &Roster, nodes: &[NodeId]) -> Set {
        let mut set = Set::default();
        for node in nodes {
            set.insert(roster.bit(*node).expect("it is a member"));
        }
        set
    }

    #[test]
    fn members_come_by_id_and_strangers_have_no_bit() {
        let roster = Roster::new(&Voters::new(vec![30, 10, 20]));
        assert_eq!(roster.members().map(|(node, _)| node).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!((roster.bit(5), roster.bit(25), roster.len()), (None, None, 3));
    }

    /// A lower id that joins moves nobody: a set that was made before means the same.
    #[test]
    fn a_bit_stays_when_another_node_joins() {
        let mut roster = Roster::new(&Voters::new(vec![10, 20, 30]));
        let before = bits(&roster, &[10, 30]);
        roster.admit(5);
        assert_eq!(roster.members().map(|(node, _)| node).collect::<Vec<_>>(), [5, 10, 20, 30]);
        let named = |node| before.contains(roster.bit(node).unwrap());
        assert_eq!([5, 10, 20, 30].map(named), [false, true, false, true]);
    }

    /// A member without a vote can be named by a set and does not count; an electorate with it counts the
    /// same set.
    #[test]
    fn two_electorates_count_over_the_same_sets() {
        let mut roster = Roster::new(&Voters::new(vec![10, 20, 30]));
        roster.admit(5);
        let (old, new) = (roster.electorate(), Electorate::new(bits(&roster, &[5, 10, 20, 30])));
        let newcomer = roster.bit(5).unwrap();
        assert_eq!([old, new].map(|electorate| electorate.contains(newcomer)), [false, true]);
        for (nodes, quorum_of_old, quorum_of_new) in [
            (&[5, 10][..], false, false),
            (&[10, 20], true, false),
            (&[5, 10, 20], true, true),
            (&[5, 20, 30], true, true),
        ] {
            let set = bits(&roster, nodes);
            assert_eq!((old.is_quorum(set), new.is_quorum(set)), (quorum_of_old, quorum_of_new), "{nodes:?}");
        }
    }
}
