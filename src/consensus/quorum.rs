//! Majorities: who is a member, and when a set of members is a quorum.
//!
//! Any two quorums of the same members intersect: the one fact that all else rests on. The test below looks
//! at every pair of quorums for 1 to 9 members.

use super::types::NodeId;

/// The voters of a cluster, by ascending id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voters(Vec<NodeId>);

/// A set of voters, by their place in [`Voters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u32);

impl Voters {
    /// The most voters that a cluster may have; a [`Set`] has a bit for each.
    pub const MAX: usize = 31;

    /// Between 1 and [`Voters::MAX`] distinct ids above 0, in any order. (The configuration checks this
    /// and answers in words; here it is an assertion.)
    pub fn new(mut ids: Vec<NodeId>) -> Voters {
        ids.sort_unstable();
        assert!(!ids.is_empty() && ids.len() <= Voters::MAX, "1 to {} voters, not {ids:?}", Voters::MAX);
        assert!(ids[0] > 0, "a node id is above 0: {ids:?}");
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "voters are distinct: {ids:?}");
        Voters(ids)
    }

    /// The ids, ascending.
    pub fn ids(&self) -> &[NodeId] {
        &self.0
    }

    /// All but one, ascending.
    pub fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().copied().filter(move |id| *id != node)
    }

    /// A node's place, or `None` when it is no voter.
    pub fn place(&self, node: NodeId) -> Option<usize> {
        self.0.binary_search(&node).ok()
    }

    /// How many make a quorum: more than half.
    pub fn quorum_size(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Whether the set is a quorum.
    pub fn is_quorum(&self, set: Set) -> bool {
        set.len() >= self.quorum_size()
    }
}

impl Set {
    /// Adds the voter at `place`.
    pub fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    /// Whether the voter at `place` is in it.
    pub fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Known bug 9, "a quorum of majority - 1": every two quorums of 1 to 9 nodes share a member, and a
    /// quorum survives the loss of any minority.
    #[test]
    fn every_two_quorums_intersect() {
        for n in 1..=9u32 {
            let voters = Voters::new((1..=u64::from(n)).collect());
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
            set.insert(place);
        }
        let members: Vec<_> = (0..Voters::MAX).filter(|place| set.contains(*place)).collect();
        assert_eq!((members, set.len(), set.is_empty()), (vec![0, 3, 30], 3, false));
    }

    #[test]
    fn places_follow_ids() {
        let voters = Voters::new(vec![30, 10, 20]);
        assert_eq!(voters.ids(), [10, 20, 30]);
        assert_eq!(voters.place(20), Some(1));
        assert_eq!(voters.place(5), None);
        assert_eq!(voters.others(20).collect::<Vec<_>>(), [10, 30]);
    }
}
