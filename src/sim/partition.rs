//! The ways in which a network splits, each as the set of links that it cuts. A function of numbers only.

use std::collections::BTreeSet;

use crate::consensus::random::Random;
use crate::consensus::types::NodeId;

use super::counts::Count;

/// A split network.
pub(super) struct Partition {
    /// Links that lose everything, as pairs of from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Its kind.
    pub count: Count,
    /// In words.
    pub text: String,
}

/// What a partition is drawn from.
struct Draw<'a> {
    ids: &'a [NodeId],
    /// The same in another order.
    shuffled: Vec<NodeId>,
    dice: Random,
}

impl Partition {
    /// One of five kinds, around node `id` or the leader where one node is special.
    pub fn draw(ids: &[NodeId], id: NodeId, leader: Option<NodeId>, variant: u64) -> Partition {
        let mut dice = Random::new(variant);
        let mut shuffled = ids.to_vec();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, dice.between(0, place as u64 + 1) as usize);
        }
        let kind = dice.between(0, 5);
        let draw = Draw { ids, shuffled, dice };
        match kind {
            0 => draw.halves(),
            1 => draw.one_way(id),
            2 => draw.bridge(),
            3 => draw.chain(),
            _ => draw.isolated(leader.unwrap_or(id)),
        }
    }
}

impl Draw<'_> {
    fn halves(mut self) -> Partition {
        let bits = self.dice.draw();
        let side = |id: NodeId| bits >> id & 1;
        let left: Vec<_> = self.ids.iter().filter(|id| side(**id) == 0).collect();
        let text = format!("{left:?} see nothing of the others");
        Partition { cut: self.links(|a, b| side(a) != side(b)), count: Count::Halves, text }
    }

    /// Between a node and one other, or all others.
    fn one_way(mut self, id: NodeId) -> Partition {
        let to = *self.ids.iter().find(|other| **other != id).unwrap_or(&id);
        let everyone = self.dice.between(0, 2) == 0;
        let inward = self.dice.between(0, 2) == 0;
        let cut = self.links(|a, b| match (everyone, inward) {
            (true, true) => b == id,
            (true, false) => a == id,
            (false, true) => (b, a) == (id, to),
            (false, false) => (a, b) == (id, to),
        });
        let from = if inward { to } else { id };
        let whom = if everyone { "anyone".to_owned() } else { format!("node {}", from.max(to)) };
        let text = format!("one way between node {id} and {whom}, inward: {inward}");
        Partition { cut, count: Count::OneWays, text }
    }

    fn bridge(self) -> Partition {
        let bridge = self.shuffled[0];
        let half = |id: NodeId| self.place(id) % 2;
        let cut = self.links(|a, b| a != bridge && b != bridge && half(a) != half(b));
        let text = format!("two halves, and node {bridge} sees both");
        Partition { cut, count: Count::Bridges, text }
    }

    fn chain(self) -> Partition {
        let cut = self.links(|a, b| self.place(a).abs_diff(self.place(b)) > 1);
        Partition { cut, count: Count::Chains, text: format!("a chain: {:?}", self.shuffled) }
    }

    fn isolated(self, isolated: NodeId) -> Partition {
        let cut = self.links(|a, b| a == isolated || b == isolated);
        Partition { cut, count: Count::Isolated, text: format!("node {isolated} sees nobody") }
    }

    /// The links from `a` to `b` for which this holds.
    fn links(&self, holds: impl Fn(NodeId, NodeId) -> bool) -> BTreeSet<(NodeId, NodeId)> {
        let all = self.ids.iter().flat_map(|a| self.ids.iter().map(move |b| (*a, *b)));
        all.filter(|(a, b)| a != b && holds(*a, *b)).collect()
    }

    fn place(&self, id: NodeId) -> usize {
        self.shuffled.iter().position(|other| *other == id).unwrap_or(0)
    }
}
