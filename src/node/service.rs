//! What a node's threads share with those who use it, the client port and whoever embeds the node: proposals
//! into the queues, waiters into the table of requests, the log and the status read where they are.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::client::{self, Outcome, Section, Service, Submission};
use crate::consensus::protocol::{PeerStatus, Proposal, Status};
use crate::consensus::types::{Command, Index, NodeId, RequestId};
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::Queue;
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::{Digest, Requests, Ticket};
use crate::pipeline::state_machine::Work;
use crate::pipeline::storage::read_chosen;
use crate::store::{LogReader, ReadError};

use super::LogItem;
use super::applied::Applied;
use super::clock::Clock;
use super::handles::Handles;
use super::health::Health;
use super::log::LogControl;
use super::peers::PeerTable;

/// See the module.
pub(super) struct NodeService {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    /// Empty without a client port.
    pub(super) client_address: String,
    pub(super) pending_limit: usize,
    pub(super) value_limit: usize,
    /// How long the node goes on proposing what it was given by whoever embeds it.
    pub(super) propose_timeout_ms: u64,
    /// Of this start: the session of requests that whoever embeds the node gave no id, and the last number in
    /// it.
    pub(super) session: u128,
    pub(super) last_number: AtomicU64,
    pub(super) handles: Arc<Handles>,
    pub(super) clock: Clock,
    pub(super) inbox: Arc<Inbox>,
    pub(super) works: Arc<Queue<Work>>,
    pub(super) outgoing: Arc<Queue<Outgoing>>,
    pub(super) requests: Arc<Mutex<Requests>>,
    pub(super) recent: Arc<Recent>,
    pub(super) reader: LogReader,
    pub(super) applied: Applied,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) health: Arc<Health>,
    pub(super) peers: PeerTable,
    pub(super) log: Option<LogControl>,
}

impl Service for NodeService {
    fn propose(&self, proposals: Vec<Submission>, outcomes: &mut Vec<(Ticket, Outcome)>) {
        if let Some(why) = self.health.refuses() {
            outcomes.extend(proposals.iter().map(|proposal| (proposal.ticket, Outcome::Busy(why))));
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut queued = VecDeque::with_capacity(proposals.len());
        let mut tickets = VecDeque::with_capacity(proposals.len());
        let mut requests = self.requests.lock();
        for Submission { reqid, value, ticket, timeout_ms } in proposals {
            let command = Command::value(reqid, self.node, value);
            if requests.waiting() >= self.pending_limit {
                outcomes.push((
                    ticket,
                    Outcome::Busy("too many requests wait for their answers (limits.pending)"),
                ));
                continue;
            }
            match requests.register(command.request, Some(Digest::of(&command)), ticket) {
                Some(answer) => outcomes.push((ticket, answer.into())),
                None => {
                    queued.push_back(Proposal { command, deadline_ms: now_ms.saturating_add(timeout_ms) });
                    tickets.push_back(ticket);
                }
            }
        }
        drop(requests);
        self.inbox.proposals.try_push_all(&mut queued);
        if queued.is_empty() {
            return;
        }
        let refused = tickets.split_off(tickets.len() - queued.len());
        let mut requests = self.requests.lock();
        for (proposal, ticket) in queued.into_iter().zip(refused) {
            if requests.forget(proposal.command.request, ticket) {
                outcomes.push((ticket, Outcome::Busy("the proposing queue is full")));
            }
        }
    }

    fn wait(&self, reqid: u64, ticket: Ticket) -> Option<Index> {
        self.requests.lock().register(RequestId::user(reqid), None, ticket).map(|answer| answer.index())
    }

    fn lookup(&self, reqid: u64) -> Option<Index> {
        self.requests.lock().lookup(RequestId::user(reqid))
    }

    fn forget(&self, reqid: u64, ticket: Ticket) {
        self.requests.lock().forget(RequestId::user(reqid), ticket);
    }

    fn read_log(&self, first: Index, count: usize, max_bytes: usize) -> Result<Vec<client::LogItem>, String> {
        let items = self.delivered_from(first, count, max_bytes).map_err(|error| error.to_string())?;
        let shown = |item: LogItem| {
            // Users' reqids only: what a server made for itself has none.
            let users = item.command.as_ref().filter(|command| command.request.session == 0);
            client::LogItem {
                index: item.index,
                reqid: users.map_or(0, |command| command.request.number),
                value: item.command.map(|command| command.payload),
            }
        };
        Ok(items.into_iter().map(shown).collect())
    }

    fn node(&self) -> NodeId {
        self.node
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        let leader = self.status.lock().leader?;
        let address = match leader == self.node {
            true => Some(self.client_address.clone()),
            false => self.peers.client_address(leader),
        };
        Some((leader, address.unwrap_or_default()))
    }

    fn status(&self) -> Vec<Section> {
        let status = self.status.lock().clone();
        vec![
            ("Node".into(), self.node_lines(&status)),
            ("Log".into(), self.log_lines(&status)),
            ("Peers".into(), self.peer_lines(&status)),
            ("Queues".into(), self.queue_lines(&status)),
            ("Counters".into(), self.counter_lines(&status)),
        ]
    }
}

type Lines = Vec<(String, String)>;

fn lines<const N: usize>(pairs: [(&str, String); N]) -> Lines {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl NodeService {
    /// The node failed: nothing more is proposed, written or sent, and whoever waits is told. The threads
    /// end.
    pub(super) fn fail(&self) {
        self.inbox.submissions.close();
        self.inbox.proposals.close();
        self.works.close();
        self.outgoing.close();
        self.handles.end();
        self.applied.end();
    }

    /// Delivered items from `first` on, without gaps: at most `count`, and at most `max_bytes` of them unless
    /// the first alone is larger.
    pub(super) fn delivered_from(
        &self,
        first: Index,
        count: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogItem>, ReadError> {
        let applied = self.applied.index();
        let mut items: Vec<LogItem> = Vec::new();
        let mut bytes = 0;
        while items.len() < count && bytes < max_bytes {
            let next = first.saturating_add(items.len() as u64);
            // After a rebuild the watermark may be below what is delivered, until it is known again.
            let read = self.recent.read_chosen(|chosen| {
                read_chosen(next, applied.min(chosen), max_bytes - bytes, &self.recent, &self.reader)
            });
            let Some(read) = read else { break };
            let mut entries = read?;
            entries.truncate(count - items.len());
            if entries.is_empty() {
                break;
            }
            let requests = self.requests.lock();
            for entry in entries {
                let noop = requests.is_noop(&entry);
                bytes += entry.command.cost_bytes();
                items.push(LogItem { index: entry.index, command: (!noop).then_some(entry.command) });
            }
        }
        Ok(items)
    }

    fn node_lines(&self, status: &Status) -> Lines {
        let leader = self.leader();
        lines([
            ("cluster", self.cluster.clone()),
            ("node", self.node.to_string()),
            ("role", status.role.to_string()),
            ("ballot", status.promised.to_string()),
            ("leader", leader.as_ref().map_or("none".into(), |(node, _)| node.to_string())),
            ("leader_address", leader.map_or("none".into(), |(_, address)| address)),
            ("uptime_ms", self.clock.now_ms().to_string()),
            ("accepts_proposals", self.health.refuses().unwrap_or("yes").to_string()),
        ])
    }

    fn log_lines(&self, status: &Status) -> Lines {
        lines([
            ("compacted", status.compacted.to_string()),
            ("applied", self.applied.index().to_string()),
            ("chosen", status.chosen.to_string()),
            ("last", status.last.to_string()),
        ])
    }

    /// A peer's lag is what it has not yet said that it knows to be chosen, and is up to a heartbeat old.
    fn peer_lines(&self, status: &Status) -> Lines {
        let now_ms = self.clock.now_ms();
        let links = self.peers.all();
        let line = |peer: &PeerStatus| {
            // Followers hear from the leader alone.
            let lag = match peer.chosen {
                0 => "unknown".to_owned(),
                chosen => status.chosen.saturating_sub(chosen).to_string(),
            };
            let silent_ms = now_ms.saturating_sub(peer.heard_ms);
            let mut text = format!("lag={lag},silent_ms={silent_ms}");
            if let Some(link) = links.get(&peer.node) {
                let yes_no = |yes| if yes { "yes" } else { "no" };
                let (sends, receives) = (yes_no(link.connected_out), yes_no(link.connected_in));
                let _ = write!(
                    text,
                    ",address={},sends={sends},receives={receives},queued_bytes={},sent={},received={},dropped={}",
                    link.address,
                    link.queued_bytes,
                    link.sent,
                    link.received,
                    link.dropped_out + link.dropped_in
                );
            }
            (format!("peer_{}", peer.node), text)
        };
        status.peers.iter().map(line).collect()
    }

    fn queue_lines(&self, status: &Status) -> Lines {
        lines([
            ("proposing", self.inbox.proposals.len().to_string()),
            ("recvmsg", self.inbox.peers.len().to_string()),
            ("own", self.inbox.own.len().to_string()),
            ("storage", self.works.len().to_string()),
            ("network", self.outgoing.len().to_string()),
            ("in_flight", status.in_flight.to_string()),
            ("pending", status.pending.to_string()),
            ("waiting", self.requests.lock().waiting().to_string()),
        ])
    }

    fn counter_lines(&self, status: &Status) -> Lines {
        let (writes, entries) = self.health.written();
        let log = self.log.as_ref().map(LogControl::counters).unwrap_or_default();
        lines([
            ("durable_writes", writes.to_string()),
            ("entries_written", entries.to_string()),
            ("elections", status.elections.to_string()),
            ("messages_ignored", status.ignored.to_string()),
            ("messages_dropped", status.dropped.to_string()),
            ("chosen_lines", log.chosen_lines.to_string()),
            ("chosen_blocks", log.chosen_blocks.to_string()),
            ("log_lines_dropped", log.dropped_lines.to_string()),
            ("log_rotations", log.rotations.to_string()),
            ("log_stuck", if log.stuck { "yes" } else { "no" }.to_string()),
        ])
    }
}
