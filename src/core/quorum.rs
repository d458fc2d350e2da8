//! Majorities: who votes, and when a set of members is a quorum.
//!
//! Any two quorums of the same voters intersect: everything else rests on this fact. The test below looks at
//! every pair of quorums for 1 to 9 voters.

use super::types::NodeId;

/// The founding voters of a cluster, by ascending id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voters(Vec<NodeId>);

/// A set of members: a bit for each. The roster of the core that made the set says which bit is whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u32);

/// What represents a member in a [`Set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bit(u8);

/// The members whose votes count, as a set: the rule of the majority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Electorate(Set);

impl Voters {
    /// The most voters that a cluster may have; a [`Set`] has a bit for each.
    pub const MAX: usize = 31;

    /// Takes between 1 and [`Voters::MAX`] distinct ids above 0, in any order. (The configuration checks this
    /// and returns an error; here it is an assertion.)
    pub fn new(mut ids: Vec<NodeId>) -> Voters {
        ids.sort_unstable();
        assert!(
            !ids.is_empty() && ids.len() <= Voters::MAX,
            "a cluster has 1 to {} voters, not {ids:?}",
            Voters::MAX
        );
        assert!(ids[0] > 0, "a node id is above 0: {ids:?}");
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "voters are distinct: {ids:?}");
        Voters(ids)
    }

    /// The ids, ascending.
    pub fn ids(&self) -> &[NodeId] {
        &self.0
    }

    /// All ids but one, ascending.
    pub fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().copied().filter(move |id| *id != node)
    }
}

impl Bit {
    /// Every bit that a [`Set`] has, the lowest first.
    pub(super) fn all() -> impl Iterator<Item = Bit> {
        (0..Voters::MAX as u8).map(Bit)
    }
}

impl Set {
    /// Adds a member.
    pub fn insert(&mut self, Bit(bit): Bit) {
        self.0 |= 1 << bit;
    }

    /// Whether a member is in it.
    pub fn contains(self, Bit(bit): Bit) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Electorate {
    /// Exactly these members vote.
    pub fn new(voters: Set) -> Electorate {
        Electorate(voters)
    }

    /// Whether a member's vote counts.
    pub fn contains(self, bit: Bit) -> bool {
        self.0.contains(bit)
    }

    /// How many make a quorum: more than half.
    pub fn quorum_size(self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Whether the voters in a set are a quorum. Members without a vote do not count.
    pub fn is_quorum(self, set: Set) -> bool {
        Set(set.0 & self.0.0).len() >= self.quorum_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known bug 9, "a quorum of majority - 1": every two quorums of 1 to 9 nodes share a member, and a
    /// quorum survives the loss of any minority.
    #[test]
    fn every_two_quorums_intersect() {
        for n in 1..=9u32 {
            let voters = Electorate::new(Set((1 << n) - 1));
            let quorums: Vec<u32> = (0..1u32 << n).filter(|set| voters.is_quorum(Set(*set))).collect();
            for a in &quorums {
                for b in &quorums {
                    assert_ne!(a & b, 0, "{n} nodes: quorums {a:b} and {b:b} share no member");
                }
            }
            for dead in (0..1u32 << n).filter(|set| set.count_ones() <= (n - 1) / 2) {
                let alive = !dead & ((1 << n) - 1);
                assert!(quorums.contains(&alive), "{n} nodes: {alive:b} alive are no quorum");
            }
        }
    }

    /// A voter that is in a set stays in it, and counts once.
    #[test]
    fn a_set_counts_each_voter_once() {
        let mut set = Set::default();
        assert!(set.is_empty());
        for place in [0, 30, 30, 3] {
            set.insert(Bit(place));
        }
        let members: Vec<_> = (0..31).filter(|place| set.contains(Bit(*place))).collect();
        assert_eq!((members, set.len(), set.is_empty()), (vec![0, 3, 30], 3, false));
    }

    #[test]
    fn voters_come_by_id() {
        let voters = Voters::new(vec![30, 10, 20]);
        assert_eq!(voters.ids(), [10, 20, 30]);
        assert_eq!(voters.others(20).collect::<Vec<_>>(), [10, 30]);
    }
}
