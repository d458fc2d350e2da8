//! Who may talk to this node, as a function of what is known of the members: whose connections are taken,
//! whose messages count, and whom this node believes that its own disk is the wrong one.
//!
//! **A node id is bound durably to a data directory before any message of the core from that node counts,
//! and any other directory is refused from then on.** A node that lost its disk may have forgotten what
//! it promised, and a majority that counts it may forget with it.
//!
//! - *What binds.* Not a hello and not an introduction: a visitor that says no more leaves no trace. A
//!   node id is bound by the first message for the core ([`Trust::admit`]), which waits until the binding
//!   is durable; messages of services bind nothing. So that a node is known before it promises anything
//!   to anybody that it is connected to, each node says something empty on every connection that it opens
//!   ([`first_word`]).
//!   Without that, a follower might never say a word to another follower. Wiped, it would be new to that
//!   one, and both together could choose again what it had already helped to choose.
//! - *A connection to a node that is not bound opens without a binding.* On it this node only sends. What
//!   an impostor hears is of no use to it: a promise counts where it arrives, an impostor's messages come
//!   on connections of their own, and those are judged here.
//! - *A binding is never replaced*, since nobody can know later whether a promise of that directory had
//!   counted.
//! - *Who is believed.* A node that hears that it has the wrong directory must stop, because it may have
//!   promised what it does not know. But anyone could say so. In a cluster with a key one member is
//!   believed if it proves itself. Without a key a majority of the *other* members must say so, each at
//!   its own address, and none of them may have accepted this node since. A node that goes on without
//!   reason does no harm: those that know another directory refuse it.
//!
//! Left out: connections (`node::peers`); proofs, and what is said before a node is judged (`handshake`).

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::message::{ClusterBody, Message};
use crate::consensus::types::NodeId;
use crate::store::{Binding, DirectoryId};
use crate::wire::hello::{Introduction, Refusal, RefusalCode};
use crate::wire::proof::Keys;

/// What is known of the other members.
pub struct Trust {
    own: Introduction,
    keys: Option<Keys>,
    members: BTreeMap<NodeId, Member>,
    /// The members that refused this node's data directory, without a proof, and have not accepted it
    /// since.
    disowned_by: BTreeSet<NodeId>,
}

/// Invariant: `start` is 0 as long as `directory` is unknown, so that an impostor cannot raise it.
#[derive(Default)]
struct Member {
    /// The directory that the member is durably bound to.
    directory: Option<DirectoryId>,
    /// The latest start seen.
    start: u64,
}

/// What happens to a message of the core.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It counts.
    Counts,
    /// It waits until its node id is bound durably.
    BindsFirst(Binding),
    /// Its node id is bound to a different directory.
    Refused,
}

impl Trust {
    /// Knows nothing of `members` yet, which are the other members.
    pub fn new(own: Introduction, keys: Option<Keys>, members: impl Iterator<Item = NodeId>) -> Trust {
        let members = members.map(|node| (node, Member::default())).collect();
        Trust { own, keys, members, disowned_by: BTreeSet::new() }
    }

    /// This node's own introduction.
    pub fn own(&self) -> &Introduction {
        &self.own
    }

    /// The cluster's shared secret, if it has one.
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Takes note of a durable binding. Bindings of nodes that are not, or no longer, members do not
    /// matter.
    pub fn bind(&mut self, binding: Binding) {
        let Some(member) = self.members.get_mut(&binding.node) else { return };
        let directory = *member.directory.get_or_insert(binding.directory);
        assert_eq!(
            directory, binding.directory,
            "node {} is bound permanently to {directory:032x}, not to {:032x}",
            binding.node, binding.directory
        );
    }

    /// Compares the node id in a hello with those of the members.
    pub fn check_member(&self, node: NodeId) -> Result<(), Refusal> {
        if node == self.own.node {
            let text = format!("node {node} is here as well as there: two configurations name the same node");
            return Err(Refusal::new(RefusalCode::OwnNode, text));
        }
        if !self.members.contains_key(&node) {
            let members: Vec<_> = self.members.keys().chain([&self.own.node]).collect();
            let text = format!("the members here are nodes {members:?}, and node {node} is not among them");
            return Err(Refusal::new(RefusalCode::UnknownNode, text));
        }
        Ok(())
    }

    /// Judges an introduction. Remembers the start of a bound node that is accepted; one that is not
    /// bound yet leaves no trace.
    pub fn judge(&mut self, theirs: &Introduction) -> Result<(), Refusal> {
        self.own.check(theirs)?;
        self.check_member(theirs.node)?;
        let Some(member) = self.members.get_mut(&theirs.node) else { return Ok(()) };
        match member.directory {
            Some(directory) if directory != theirs.directory => Err(Refusal::new(
                RefusalCode::WrongDirectory,
                format!(
                    // The ends of the ids: anyone who knew a whole id could pass for that node.
                    "node {} is bound to data directory …{:08x}, not …{:08x}: its disk was wiped or replaced",
                    theirs.node, directory as u32, theirs.directory as u32
                ),
            )),
            Some(_) if theirs.start < member.start => Err(Refusal::new(
                RefusalCode::OldStart,
                format!(
                    "node {} was already seen in its start {}, but this is its start {}: an old copy of its \
                     data directory, or a replay",
                    theirs.node, member.start, theirs.start
                ),
            )),
            Some(_) => {
                member.start = theirs.start;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What happens to a message of the core that this node sent from this directory.
    pub fn admit(&self, node: NodeId, directory: DirectoryId) -> Admission {
        match self.members.get(&node).map(|member| member.directory) {
            Some(Some(bound)) if bound == directory => Admission::Counts,
            Some(None) => Admission::BindsFirst(Binding { node, directory }),
            _ => Admission::Refused,
        }
    }

    /// A member, at its own address, takes this node's data directory for the wrong one. `is_proven`: it
    /// proved that it knows the key. Returns the members on whose word this node must end; none if it
    /// goes on.
    pub fn handle_disowned(&mut self, by: NodeId, is_proven: bool) -> Vec<NodeId> {
        if is_proven {
            return vec![by];
        }
        self.disowned_by.insert(by);
        let is_majority = 2 * self.disowned_by.len() > self.members.len();
        if self.keys.is_none() && is_majority { self.disowned_by.iter().copied().collect() } else { vec![] }
    }

    /// A member accepted this node's data directory.
    pub fn handle_accepted(&mut self, by: NodeId) {
        self.disowned_by.remove(&by);
    }
}

/// What a node says first on a connection that it has opened: nothing, as a message of the core, which
/// binds its node id.
pub fn first_word(from: NodeId, to: NodeId) -> Message {
    Message { from, to, body: ClusterBody::Forward { commands: Vec::new() }.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proof::MIN_KEY_BYTES;

    fn introduction(node: NodeId, directory: DirectoryId, start: u64) -> Introduction {
        Introduction {
            node,
            cluster: "demo".into(),
            protocol: "paxos".into(),
            founding: 1,
            directory,
            start,
            client_address: String::new(),
        }
    }

    fn trust(keys: Option<Keys>, others: &[NodeId]) -> Trust {
        Trust::new(introduction(1, 11, 1), keys, others.iter().copied())
    }

    fn refused(judged: Result<(), Refusal>) -> RefusalCode {
        judged.expect_err("a refusal").code
    }

    /// A node id is bound by its first message, and any other directory is refused from then on.
    #[test]
    fn a_node_is_bound_to_one_directory() {
        let mut trust = trust(None, &[2, 3]);
        let binding = Binding { node: 2, directory: 22 };
        assert_eq!(trust.judge(&introduction(2, 22, 5)), Ok(()));
        assert_eq!(trust.judge(&introduction(2, 23, 5)), Ok(()), "an introduction binds nothing");
        assert_eq!(trust.admit(2, 22), Admission::BindsFirst(binding));
        trust.bind(binding);
        assert_eq!(trust.admit(2, 22), Admission::Counts);
        assert_eq!(trust.admit(2, 23), Admission::Refused);
        assert_eq!(trust.admit(4, 44), Admission::Refused);
        assert_eq!(trust.judge(&introduction(2, 22, 5)), Ok(()));
        assert_eq!(refused(trust.judge(&introduction(2, 23, 9))), RefusalCode::WrongDirectory);
        assert_eq!(refused(trust.judge(&introduction(1, 11, 1))), RefusalCode::OwnNode);
        assert_eq!(refused(trust.judge(&introduction(4, 44, 1))), RefusalCode::UnknownNode);
        let other_cluster = Introduction { cluster: "prod".into(), ..introduction(2, 22, 5) };
        assert_eq!(refused(trust.judge(&other_cluster)), RefusalCode::Cluster);
    }

    /// A start never goes back. A node that is refused or not yet bound does not raise it.
    #[test]
    fn starts_only_rise_and_only_by_the_bound_directory() {
        let mut trust = trust(None, &[2]);
        assert_eq!(trust.judge(&introduction(2, 22, 100)), Ok(()));
        trust.bind(Binding { node: 2, directory: 22 });
        assert!(trust.judge(&introduction(2, 23, 100)).is_err());
        assert_eq!(trust.judge(&introduction(2, 22, 7)), Ok(()));
        assert_eq!(trust.judge(&introduction(2, 22, 7)), Ok(()));
        assert_eq!(trust.judge(&introduction(2, 22, 8)), Ok(()));
        assert_eq!(refused(trust.judge(&introduction(2, 22, 7))), RefusalCode::OldStart);
    }

    /// With a key, one member that proves itself is enough, and all others together are not.
    #[test]
    fn with_a_key_only_a_proof_ends_a_node() {
        let mut trust = trust(Some(Keys::new(vec![1; MIN_KEY_BYTES], None)), &[2, 3]);
        for by in [2, 3, 2, 3] {
            assert!(trust.handle_disowned(by, false).is_empty());
        }
        assert_eq!(trust.handle_disowned(3, true), [3]);
    }

    /// Without a key, a majority of the others must say so, and one that accepts the node takes back its
    /// word.
    #[test]
    fn without_a_key_a_majority_of_the_others_ends_a_node() {
        let mut three = trust(None, &[2, 3]);
        assert!(three.handle_disowned(2, false).is_empty());
        assert!(three.handle_disowned(2, false).is_empty(), "one member said so twice");
        three.handle_accepted(2);
        assert!(three.handle_disowned(3, false).is_empty());
        assert_eq!(three.handle_disowned(2, false), [2, 3]);
        let mut five = trust(None, &[2, 3, 4, 5]);
        let needed = [2, 4, 3].map(|by| five.handle_disowned(by, false));
        assert_eq!(needed, [vec![], vec![], vec![2, 3, 4]]);
        assert_eq!(trust(None, &[2]).handle_disowned(2, false), [2], "the only other member is a majority");
    }
}
