//! The state of a node, as plain data. A client face renders it; `STATUS` and `INFO` do so as lines
//! ([`NodeStatus::lines`]).
//!
//! A field has the name of its line, so that readers of one form find it in the other.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::consensus::protocol::Role;
use crate::consensus::types::{Ballot, Index, NodeId};
use crate::wire::message::Trouble;

/// The state of a node at one moment, in sections. Counters are since the start of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its identity and its role.
    pub node: NodeSection,
    /// Its log.
    pub log: LogSection,
    /// The other members, by id.
    pub peers: Vec<PeerSection>,
    /// What waits in it.
    pub queues: QueueSection,
    /// What it has done.
    pub counters: CounterSection,
}

/// The identity and the role of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSection {
    /// The name of the cluster.
    pub cluster: String,
    /// The id of this node.
    pub node: NodeId,
    /// Its role in the cluster.
    pub role: Role,
    /// The highest ballot that it promised (Raft: its term, and the node that has its vote).
    pub ballot: Ballot,
    /// The leader, as far as it knows, and where clients reach that node (empty if unknown).
    pub leader: Option<(NodeId, String)>,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Why it refuses proposals, if it does.
    pub refuses_proposals: Option<&'static str>,
    /// Where nodes are known to have delivered something else than this one, as `INDEX:NODES`.
    pub fork: Option<String>,
    /// What keeps it from leading while others can.
    pub trouble: Trouble,
}

/// A node's log: `compacted <= applied <= chosen <= last`, and if it leads, `last - chosen` is
/// [`QueueSection::in_flight`].
///
/// After a failed write the core starts again from what is durable; until it has learned what was delivered
/// before that, `chosen` and `last` are not below `applied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSection {
    /// Entries up to this index are no longer kept.
    pub compacted: Index,
    /// Every index up to this one was delivered here.
    pub applied: Index,
    /// Every index up to this one is known to be chosen.
    pub chosen: Index,
    /// The highest index that has an entry.
    pub last: Index,
}

/// What a node knows about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSection {
    /// The peer.
    pub node: NodeId,
    /// How many chosen indexes it has not yet reported as chosen; its report is up to a heartbeat old. `None`
    /// if unknown (followers hear only from the leader).
    pub lag: Option<u64>,
    /// How long nothing has been heard from it.
    pub silent_ms: u64,
    /// How it is connected.
    pub link: Option<LinkSection>,
}

/// The two connections to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSection {
    /// The address at which the peer is dialled.
    pub address: SocketAddr,
    /// Whether messages to it are being sent.
    pub sends: bool,
    /// Whether messages from it are being read.
    pub receives: bool,
    /// Bytes that wait for it.
    pub queued_bytes: usize,
    /// Messages handed to its connection.
    pub sent: u64,
    /// Messages from it that were accepted.
    pub received: u64,
    /// Messages to it and from it that were dropped since it was first reached.
    pub dropped: u64,
    /// Messages to it that were dropped before it was first reached: it had not started yet, say.
    pub unreached: u64,
}

/// What waits in a node: items of its queues, indexes, requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSection {
    /// Clients' proposals that the state machine has not taken.
    pub proposing: usize,
    /// Peers' messages that the state machine has not taken.
    pub recvmsg: usize,
    /// Writes whose own messages the state machine has not taken.
    pub own: usize,
    /// Works that wait for storage.
    pub storage: usize,
    /// Items that wait for the network.
    pub network: usize,
    /// Indexes proposed by this leader and not yet chosen.
    pub in_flight: u64,
    /// Requests that the core works on.
    pub pending: u64,
    /// Waiters for deliveries on this node.
    pub waiting: usize,
}

/// What a node has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSection {
    /// Durable writes.
    pub durable_writes: u64,
    /// Entries in them.
    pub entries_written: u64,
    /// How often a leader was elected here.
    pub elections: u64,
    /// Messages that made no sense.
    pub messages_ignored: u64,
    /// Messages that the core dropped because a limit was reached.
    pub messages_dropped: u64,
    /// Chosen lines in the log file.
    pub chosen_lines: u64,
    /// The writes that these lines took.
    pub chosen_blocks: u64,
    /// Diagnostic lines that did not get into the file.
    pub log_lines_dropped: u64,
    /// How often the log file was rotated.
    pub log_rotations: u64,
    /// Whether the log file takes nothing at present.
    pub log_stuck: bool,
}

impl Default for NodeSection {
    /// A follower that knows nobody.
    fn default() -> NodeSection {
        NodeSection {
            cluster: String::new(),
            node: 0,
            role: Role::Follower,
            ballot: Ballot::ZERO,
            leader: None,
            uptime_ms: 0,
            refuses_proposals: None,
            fork: None,
            trouble: Trouble::None,
        }
    }
}

/// A heading, and its keys and values.
pub type Lines = (&'static str, Vec<(String, String)>);

impl NodeStatus {
    /// The sections as text, in their order.
    pub fn lines(&self) -> [Lines; 5] {
        [
            ("Node", self.node.lines()),
            ("Log", self.log.lines()),
            ("Peers", self.peers.iter().map(PeerSection::line).collect()),
            ("Queues", self.queues.lines()),
            ("Counters", self.counters.lines()),
        ]
    }
}

impl NodeSection {
    fn lines(&self) -> Vec<(String, String)> {
        let (leader, leader_address) = match &self.leader {
            Some((node, address)) => (node.to_string(), address.clone()),
            None => ("none".to_owned(), "none".to_owned()),
        };
        lines([
            ("cluster", self.cluster.clone()),
            ("node", self.node.to_string()),
            ("role", self.role.to_string()),
            ("ballot", self.ballot.to_string()),
            ("leader", leader),
            ("leader_address", leader_address),
            ("uptime_ms", self.uptime_ms.to_string()),
            ("accepts_proposals", self.refuses_proposals.unwrap_or("yes").to_owned()),
            ("fork", self.fork.clone().unwrap_or("none".to_owned())),
            ("trouble", self.trouble.to_string()),
        ])
    }
}

impl LogSection {
    fn lines(&self) -> Vec<(String, String)> {
        lines([
            ("compacted", self.compacted.to_string()),
            ("applied", self.applied.to_string()),
            ("chosen", self.chosen.to_string()),
            ("last", self.last.to_string()),
        ])
    }
}

impl PeerSection {
    fn line(&self) -> (String, String) {
        let lag = self.lag.map_or("unknown".to_owned(), |lag| lag.to_string());
        let mut text = format!("lag={lag},silent_ms={}", self.silent_ms);
        if let Some(link) = &self.link {
            let _ = write!(
                text,
                ",address={},sends={},receives={},queued_bytes={},sent={},received={},dropped={},unreached={}",
                link.address,
                yes_no(link.sends),
                yes_no(link.receives),
                link.queued_bytes,
                link.sent,
                link.received,
                link.dropped,
                link.unreached
            );
        }
        (format!("peer_{}", self.node), text)
    }
}

impl QueueSection {
    fn lines(&self) -> Vec<(String, String)> {
        lines([
            ("proposing", self.proposing.to_string()),
            ("recvmsg", self.recvmsg.to_string()),
            ("own", self.own.to_string()),
            ("storage", self.storage.to_string()),
            ("network", self.network.to_string()),
            ("in_flight", self.in_flight.to_string()),
            ("pending", self.pending.to_string()),
            ("waiting", self.waiting.to_string()),
        ])
    }
}

impl CounterSection {
    fn lines(&self) -> Vec<(String, String)> {
        lines([
            ("durable_writes", self.durable_writes.to_string()),
            ("entries_written", self.entries_written.to_string()),
            ("elections", self.elections.to_string()),
            ("messages_ignored", self.messages_ignored.to_string()),
            ("messages_dropped", self.messages_dropped.to_string()),
            ("chosen_lines", self.chosen_lines.to_string()),
            ("chosen_blocks", self.chosen_blocks.to_string()),
            ("log_lines_dropped", self.log_lines_dropped.to_string()),
            ("log_rotations", self.log_rotations.to_string()),
            ("log_stuck", yes_no(self.log_stuck).to_owned()),
        ])
    }
}

fn lines<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: &NodeStatus, section: &str) -> String {
        let sections = status.lines();
        let (_, lines) = sections.iter().find(|(name, _)| *name == section).expect("it has this section");
        lines.iter().map(|(key, value)| format!("{key}:{value} ")).collect()
    }

    /// Tools read these lines: their keys, order and form stay.
    #[test]
    fn the_lines_of_a_status() {
        let link = LinkSection {
            address: "127.0.0.1:7002".parse().unwrap(),
            sends: true,
            receives: false,
            queued_bytes: 1,
            sent: 2,
            received: 3,
            dropped: 4,
            unreached: 5,
        };
        let status = NodeStatus {
            node: NodeSection { cluster: "demo".into(), node: 1, uptime_ms: 12, ..NodeSection::default() },
            log: LogSection { compacted: 1, applied: 2, chosen: 3, last: 4 },
            peers: vec![
                PeerSection { node: 2, lag: Some(5), silent_ms: 6, link: Some(link) },
                PeerSection { node: 3, lag: None, silent_ms: 7, link: None },
            ],
            queues: QueueSection {
                proposing: 1,
                recvmsg: 2,
                own: 3,
                storage: 4,
                network: 5,
                in_flight: 6,
                pending: 7,
                waiting: 8,
            },
            counters: CounterSection {
                durable_writes: 1,
                entries_written: 2,
                elections: 3,
                messages_ignored: 4,
                messages_dropped: 5,
                chosen_lines: 6,
                chosen_blocks: 7,
                log_lines_dropped: 8,
                log_rotations: 9,
                log_stuck: true,
            },
        };
        assert_eq!(status.lines().map(|(name, _)| name), ["Node", "Log", "Peers", "Queues", "Counters"]);
        assert_eq!(
            text(&status, "Node"),
            "cluster:demo node:1 role:follower ballot:0.0 leader:none leader_address:none uptime_ms:12 \
             accepts_proposals:yes fork:none trouble:none "
        );
        assert_eq!(text(&status, "Log"), "compacted:1 applied:2 chosen:3 last:4 ");
        assert_eq!(
            text(&status, "Peers"),
            "peer_2:lag=5,silent_ms=6,address=127.0.0.1:7002,sends=yes,receives=no,queued_bytes=1,sent=2,\
             received=3,dropped=4,unreached=5 peer_3:lag=unknown,silent_ms=7 "
        );
        assert_eq!(
            text(&status, "Queues"),
            "proposing:1 recvmsg:2 own:3 storage:4 network:5 in_flight:6 pending:7 waiting:8 "
        );
        assert_eq!(
            text(&status, "Counters"),
            "durable_writes:1 entries_written:2 elections:3 messages_ignored:4 messages_dropped:5 \
             chosen_lines:6 chosen_blocks:7 log_lines_dropped:8 log_rotations:9 log_stuck:yes "
        );
    }

    /// A node that leads is named with its address, and a node that refuses proposals says why.
    #[test]
    fn who_leads_and_what_is_refused() {
        let node = NodeSection {
            role: Role::Leader,
            ballot: Ballot { round: 3, node: 1 },
            leader: Some((1, "127.0.0.1:9001".into())),
            refuses_proposals: Some("the disk is full"),
            trouble: Trouble::LogFile,
            ..NodeSection::default()
        };
        let text = text(&NodeStatus { node, ..NodeStatus::default() }, "Node");
        assert_eq!(
            text,
            "cluster: node:0 role:leader ballot:3.1 leader:1 leader_address:127.0.0.1:9001 uptime_ms:0 \
             accepts_proposals:the disk is full fork:none trouble:log-file "
        );
    }
}
