//! The ways in which a network is cut.

use spaxos::consensus::protocols::ProtocolName;

use super::net::{Links, both_ways, links};

/// A way in which a network is cut. The order of the nodes, which begins with the leader, says which of them
/// are where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Nobody reaches the leader, nor does it reach anybody.
    Isolated,
    /// The leader hears nobody, and all hear it.
    Deaf,
    /// Nobody hears the leader, and it hears all.
    Mute,
    /// All are connected to one node only, which does not lead.
    QuorumLoss,
    /// Each is connected to its neighbours only; the leader is at an end.
    Chained,
    /// Two halves, and one node that sees both; the leader is in a half.
    Bridge,
    /// The leader is in the smaller half.
    Halves,
    /// No node reaches another.
    AllApart,
}

impl Case {
    pub const ALL: [Case; 8] = [
        Case::Isolated,
        Case::Deaf,
        Case::Mute,
        Case::QuorumLoss,
        Case::Chained,
        Case::Bridge,
        Case::Halves,
        Case::AllApart,
    ];

    /// The links that are cut.
    pub fn links(self, order: &[u64]) -> Links {
        let nodes = order.len() as u64;
        let leader = order[0];
        let place = |node: u64| order.iter().position(|other| *other == node).expect("a node");
        let last = order.len() - 1;
        match self {
            Case::Isolated => both_ways(nodes, |a, _| a == leader),
            Case::Deaf => links(nodes, |_, b| b == leader),
            Case::Mute => links(nodes, |a, _| a == leader),
            Case::QuorumLoss => both_ways(nodes, |a, b| place(a) < last && place(b) < last),
            Case::Chained => both_ways(nodes, |a, b| place(a).abs_diff(place(b)) > 1),
            Case::Bridge => {
                let half = |node| place(node) % 2;
                both_ways(nodes, |a, b| place(a) < last && place(b) < last && half(a) != half(b))
            }
            Case::Halves => {
                both_ways(nodes, |a, b| place(a) < order.len() / 2 && place(b) >= order.len() / 2)
            }
            Case::AllApart => links(nodes, |_, _| true),
        }
    }

    /// Whether a majority still serves.
    pub fn serves(self) -> bool {
        self != Case::AllApart
    }

    /// Within how many T the cluster serves after the cut. Raft takes longer where some node reaches a
    /// majority that does not reach each other: such a node may lack entries, and must then wait for a leader
    /// that has them (`tests/partial.rs` holds both protocols to the same).
    pub fn limit_t(self, protocol: ProtocolName) -> f64 {
        let in_part = matches!(self, Case::QuorumLoss | Case::Chained | Case::Bridge);
        if in_part && protocol == ProtocolName::Raft { 8.0 } else { 4.0 }
    }
}
