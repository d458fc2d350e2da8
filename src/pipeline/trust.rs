//! Who may talk to this node: the judgement of a hello, as a function of what is known of the members.
//!
//! *A node id is bound durably to a data directory before the node's first message counts, and any other
//! directory is refused from then on*: a node that lost its disk may have forgotten what it promised. Left
//! out: connections (`node::peers`).

use std::collections::BTreeMap;

use crate::consensus::types::NodeId;
use crate::store::{Binding, DirectoryId};
use crate::wire::hello::{Hello, Refusal, RefusalCode};

/// What is known of the other members.
pub struct Trust {
    own: Hello,
    members: BTreeMap<NodeId, Member>,
}

/// Invariant: `start` is 0 as long as `directory` is unknown, so that an impostor cannot raise it.
#[derive(Default)]
struct Member {
    /// The directory that the member is durably bound to.
    directory: Option<DirectoryId>,
    /// The latest start seen.
    start: u64,
}

/// What happens to a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its messages count.
    Accept,
    /// Its node id must be bound to its directory first.
    Bind(Binding),
    /// The connection is refused, and the other end is told why.
    Refuse(Refusal),
}

impl Trust {
    /// Knows nothing of `members` yet.
    pub fn new(own: Hello, members: impl Iterator<Item = NodeId>) -> Trust {
        Trust { own, members: members.map(|node| (node, Member::default())).collect() }
    }

    /// This node's own hello.
    pub fn own(&self) -> &Hello {
        &self.own
    }

    /// Takes note of a durable binding. Bindings of nodes that are not, or no longer, members do not matter.
    pub fn bind(&mut self, binding: Binding) {
        let Some(member) = self.members.get_mut(&binding.node) else { return };
        let directory = *member.directory.get_or_insert(binding.directory);
        assert_eq!(
            directory, binding.directory,
            "node {} is bound permanently to {directory:032x}, not to {:032x}",
            binding.node, binding.directory
        );
    }

    /// Judges a hello, and remembers the start of one that is accepted.
    pub fn judge(&mut self, theirs: &Hello) -> Verdict {
        if let Err(refusal) = self.own.check(theirs) {
            return Verdict::Refuse(refusal);
        }
        let refuse = |code, text| Verdict::Refuse(Refusal { code, text });
        if theirs.node == self.own.node {
            return refuse(
                RefusalCode::OwnNode,
                format!(
                    "node {} is here as well as there: two configurations name the same node",
                    theirs.node
                ),
            );
        }
        let Some(member) = self.members.get_mut(&theirs.node) else {
            let members: Vec<_> = self.members.keys().chain([&self.own.node]).collect();
            return refuse(
                RefusalCode::UnknownNode,
                format!("the members here are nodes {members:?}, and node {} is not among them", theirs.node),
            );
        };
        match member.directory {
            None => Verdict::Bind(Binding { node: theirs.node, directory: theirs.directory }),
            Some(directory) if directory != theirs.directory => refuse(
                RefusalCode::WrongDirectory,
                format!(
                    // The ends of the ids: anyone who knew a whole id could pass for that node.
                    "node {} is bound to data directory …{:08x}, not …{:08x}: its disk was wiped or replaced",
                    theirs.node, directory as u32, theirs.directory as u32
                ),
            ),
            Some(_) if theirs.start < member.start => refuse(
                RefusalCode::OldStart,
                format!(
                    "node {} was already seen in its start {}, but this is its start {}: an old copy of its \
                     data directory, or a replay",
                    theirs.node, member.start, theirs.start
                ),
            ),
            Some(_) => {
                member.start = theirs.start;
                Verdict::Accept
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hello::{LOWEST_WIRE_VERSION, WIRE_VERSION};

    fn hello(node: NodeId, directory: DirectoryId, start: u64) -> Hello {
        Hello {
            version: WIRE_VERSION,
            lowest_version: LOWEST_WIRE_VERSION,
            cluster: "demo".into(),
            node,
            directory,
            start,
            protocol: "paxos".into(),
            founding: 1,
            client_address: String::new(),
        }
    }

    fn refused(verdict: Verdict) -> RefusalCode {
        match verdict {
            Verdict::Refuse(refusal) => refusal.code,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// A node id is bound to its first directory, and any other directory is refused from then on.
    #[test]
    fn a_node_is_bound_to_one_directory() {
        let mut trust = Trust::new(hello(1, 11, 1), [2, 3].into_iter());
        let binding = Binding { node: 2, directory: 22 };
        assert_eq!(trust.judge(&hello(2, 22, 5)), Verdict::Bind(binding));
        trust.bind(binding);
        assert_eq!(trust.judge(&hello(2, 22, 5)), Verdict::Accept);
        assert_eq!(refused(trust.judge(&hello(2, 23, 9))), RefusalCode::WrongDirectory);
        assert_eq!(refused(trust.judge(&hello(1, 11, 1))), RefusalCode::OwnNode);
        assert_eq!(refused(trust.judge(&hello(4, 44, 1))), RefusalCode::UnknownNode);
        let other_cluster = Hello { cluster: "prod".into(), ..hello(2, 22, 5) };
        assert_eq!(refused(trust.judge(&other_cluster)), RefusalCode::Cluster);
    }

    /// A start never goes back. A node that is refused or not yet bound does not raise it.
    #[test]
    fn starts_only_rise_and_only_by_the_bound_directory() {
        let mut trust = Trust::new(hello(1, 11, 1), [2].into_iter());
        trust.judge(&hello(2, 22, 100));
        trust.bind(Binding { node: 2, directory: 22 });
        trust.judge(&hello(2, 23, 100));
        assert_eq!(trust.judge(&hello(2, 22, 7)), Verdict::Accept);
        assert_eq!(trust.judge(&hello(2, 22, 7)), Verdict::Accept);
        assert_eq!(trust.judge(&hello(2, 22, 8)), Verdict::Accept);
        assert_eq!(refused(trust.judge(&hello(2, 22, 7))), RefusalCode::OldStart);
    }
}
