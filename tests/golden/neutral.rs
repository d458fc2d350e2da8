//! What a script shows that runs under both protocols: who leads, what is delivered and answered; not how. It
//! is shown after each command, by node, so that the order of messages inside a command does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use spaxos::consensus::protocol::Role;
use spaxos::consensus::types::{NodeId, RequestId};

use super::Command;
use super::common::cluster::Cluster;

/// What both protocols have, and the kinds of messages that it is in either. Kinds that they share
/// (Heartbeat, Forward, TimeoutNow, Refuse) go by their names.
pub const KINDS: [(&str, [&str; 2]); 6] = [
    ("pre-vote", ["PreVote", "RequestPreVote"]),
    ("pre-vote-reply", ["PreVoteReply", "PreVoteReply"]),
    ("request", ["Prepare", "RequestVote"]),
    ("vote", ["Promise", "Vote"]),
    ("entries", ["Accept", "Append"]),
    ("accepted", ["Accepted", "Appended"]),
];

/// Whether messages of that name are of that neutral kind.
pub fn is_kind(kind: &str, name: &str) -> bool {
    KINDS.iter().any(|(neutral, names)| *neutral == kind && names.contains(&name))
}

/// What was shown so far.
#[derive(Default)]
pub struct Neutral {
    leaders: BTreeSet<NodeId>,
    /// How many requests each node delivered.
    delivered: BTreeMap<NodeId, usize>,
    /// Requests that clients of a node wait for.
    asked: BTreeSet<(NodeId, RequestId)>,
    /// How many reads were answered.
    reads: u64,
}

impl Neutral {
    /// What is new since the last command. A node that starts goes silently through what it delivered before.
    pub fn news(&mut self, cluster: &Cluster, command: &Command) -> String {
        let mut out = String::new();
        match command {
            Command::Propose(id, values) | Command::ProposeFor(id, _, values) => {
                self.asked.extend(values.iter().map(|(reqid, _)| (*id, RequestId::user(*reqid))));
            }
            Command::Crash(id) => self.asked.retain(|(asked, _)| asked != id),
            Command::Restart(id, _) | Command::Rebuild(id) => {
                self.delivered.insert(*id, cluster.delivered(*id).len());
                self.asked.retain(|(asked, _)| asked != id);
            }
            _ => {}
        }
        for id in cluster.ids() {
            let leads = cluster.is_up(id) && cluster.status(id).role == Role::Leader;
            let changed = if leads { self.leaders.insert(id) } else { self.leaders.remove(&id) };
            if changed {
                let _ = writeln!(out, "{id} {}", if leads { "leads" } else { "no longer leads" });
            }
        }
        for id in cluster.ids().filter(|id| cluster.is_up(*id)) {
            let entries = cluster.delivered(id);
            let shown = self.delivered.insert(id, entries.len()).unwrap_or(0);
            for entry in &entries[shown..] {
                let answers = self.asked.remove(&(id, entry.command.request));
                let word = if answers { ", and answers its client" } else { "" };
                let _ = writeln!(out, "{id} delivers {}{word}", entry.command);
            }
        }
        let reads = cluster.reached().reads;
        for _ in std::mem::replace(&mut self.reads, reads)..reads {
            out.push_str("a read is answered\n");
        }
        out
    }
}
