//! The node as its client faces see it: [`NodeFront`].
//!
//! Proposals go into the queue, waiters into the table of requests; the log and the status are read directly.
//! Nothing here waits.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::client::front::{ClientProposal, Front, LogItem, Outcome};
use crate::client::status::{
    CounterSection, LinkSection, LogSection, NodeSection, NodeStatus, PeerSection, QueueSection,
};
use crate::consensus::protocol::{PeerStatus, Status};
use crate::consensus::types::{Index, NodeId, RequestId};
use crate::logfile::{LogControl, LogCounters};
use crate::pipeline::fork::Fork;
use crate::pipeline::storage::read_chosen;
use crate::pipeline::waiters::Ticket;
use crate::store::LogReadError;

use super::peers::{PeerState, PeerTable};
use super::shared::Shared;

/// See the module.
pub(super) struct NodeFront {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    /// Empty without a client port.
    pub(super) client_address: String,
    pub(super) shared: Arc<Shared>,
    pub(super) peers: PeerTable,
    pub(super) log: Option<LogControl>,
}

impl Front for NodeFront {
    fn propose(&self, proposals: Vec<ClientProposal>, outcomes: &mut Vec<(Ticket, Outcome)>) {
        let mut admitting = match self.shared.admission.open() {
            Ok(admitting) => admitting,
            Err(why) => {
                outcomes.extend(proposals.iter().map(|proposal| (proposal.ticket, Outcome::Busy(why))));
                return;
            }
        };
        let mut queued = VecDeque::with_capacity(proposals.len());
        let mut tickets = VecDeque::with_capacity(proposals.len());
        for ClientProposal { request, kind, payload, ticket, timeout_ms } in proposals {
            if let Err(why) = admitting.check_room(1) {
                outcomes.push((ticket, Outcome::Busy(why)));
                continue;
            }
            match admitting.admit((request, kind, payload), timeout_ms, ticket) {
                Err(answer) => outcomes.push((ticket, answer.into())),
                Ok(proposal) => {
                    queued.push_back(proposal);
                    tickets.push_back(ticket);
                }
            }
        }
        drop(admitting);
        self.shared.inbox.proposals.try_push_all(&mut queued);
        if queued.is_empty() {
            return;
        }
        let refused = tickets.split_off(tickets.len() - queued.len());
        let mut requests = self.shared.requests.lock();
        for (proposal, ticket) in queued.into_iter().zip(refused) {
            if requests.waiters.forget(proposal.command.request, ticket) {
                outcomes.push((ticket, Outcome::Busy("the proposing queue is full")));
            }
        }
    }

    fn wait(&self, request: RequestId, ticket: Ticket) -> Option<Index> {
        self.shared.requests.lock().register(request, None, ticket).map(|answer| answer.index())
    }

    fn lookup(&self, request: RequestId) -> Option<Index> {
        self.shared.requests.lock().ledger.lookup(request)
    }

    fn forget(&self, request: RequestId, ticket: Ticket) {
        self.shared.requests.lock().waiters.forget(request, ticket);
    }

    fn read_log(&self, first: Index, count: usize, max_bytes: usize) -> Result<Vec<LogItem>, LogReadError> {
        let Shared { recent, reader, .. } = &*self.shared;
        let applied = self.shared.applied.index();
        let mut items: Vec<LogItem> = Vec::new();
        let mut bytes = 0;
        while items.len() < count && bytes < max_bytes {
            let next = first.saturating_add(items.len() as u64);
            // After a rebuild the watermark may be below what has been delivered, until it is known again.
            let read = recent.read_chosen(|chosen| {
                read_chosen(next, applied.min(chosen), max_bytes - bytes, recent, reader)
            });
            let Some(read) = read else { break };
            let mut entries = read?;
            entries.truncate(count - items.len());
            if entries.is_empty() {
                break;
            }
            let requests = self.shared.requests.lock();
            for entry in entries {
                let noop = requests.ledger.is_noop(&entry);
                bytes += entry.command.cost_bytes();
                items.push(LogItem { index: entry.index, command: (!noop).then_some(entry.command) });
            }
        }
        Ok(items)
    }

    fn node(&self) -> NodeId {
        self.node
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        let leader = self.shared.status.lock().leader?;
        Some((leader, self.address_of(leader)))
    }

    /// The core's figures are copied once, so they belong together. What follows from others of them is read
    /// before them: written lines before what was delivered, and that before what is chosen.
    fn status(&self) -> NodeStatus {
        let log_file = self.log.as_ref().map(LogControl::counters).unwrap_or_default();
        let written = self.shared.health.written();
        let applied = self.shared.applied.index();
        let status = self.shared.status.lock().clone();
        NodeStatus {
            node: self.node_section(&status),
            log: log_section(&status, applied),
            peers: self.peer_sections(&status),
            queues: self.queue_section(&status),
            counters: counter_section(&status, written, log_file),
        }
    }
}

impl NodeFront {
    fn node_section(&self, status: &Status) -> NodeSection {
        NodeSection {
            cluster: self.cluster.clone(),
            node: self.node,
            role: status.role,
            ballot: status.promised,
            leader: status.leader.map(|leader| (leader, self.address_of(leader))),
            uptime_ms: self.shared.clock.now_ms(),
            refuses_proposals: self.shared.health.refuses(),
            fork: self.shared.fork.lock().as_ref().map(Fork::to_string),
            trouble: self.shared.health.trouble(),
        }
    }

    /// Where clients reach a node; empty if unknown.
    fn address_of(&self, node: NodeId) -> String {
        if node == self.node {
            return self.client_address.clone();
        }
        self.peers.client_address(node).unwrap_or_default()
    }

    fn peer_sections(&self, status: &Status) -> Vec<PeerSection> {
        let now_ms = self.shared.clock.now_ms();
        let links = self.peers.all();
        let section = |peer: &PeerStatus| PeerSection {
            node: peer.node,
            // Followers hear only from the leader.
            lag: (peer.chosen > 0).then(|| status.chosen.saturating_sub(peer.chosen)),
            silent_ms: now_ms.saturating_sub(peer.heard_ms),
            link: links.get(&peer.node).map(link_section),
        };
        status.peers.iter().map(section).collect()
    }

    fn queue_section(&self, status: &Status) -> QueueSection {
        let Shared { inbox, works, outgoing, requests, .. } = &*self.shared;
        QueueSection {
            proposing: inbox.proposals.len(),
            recvmsg: inbox.peers.len(),
            own: inbox.own.len(),
            storage: works.len(),
            network: outgoing.len(),
            in_flight: status.in_flight,
            pending: status.pending,
            waiting: requests.lock().waiters.count(),
        }
    }
}

/// What was delivered is known to be chosen, also right after a rebuild, when the core has to learn again
/// what it knew beyond its durable part.
fn log_section(status: &Status, applied: Index) -> LogSection {
    let chosen = status.chosen.max(applied);
    LogSection { compacted: status.compacted, applied, chosen, last: status.last.max(chosen) }
}

fn counter_section(status: &Status, written: (u64, u64), log: LogCounters) -> CounterSection {
    let (durable_writes, entries_written) = written;
    CounterSection {
        durable_writes,
        entries_written,
        elections: status.elections,
        messages_ignored: status.ignored,
        messages_dropped: status.dropped,
        chosen_lines: log.chosen_lines,
        chosen_blocks: log.chosen_blocks,
        log_lines_dropped: log.dropped_lines,
        log_rotations: log.rotations,
        log_stuck: log.stuck,
    }
}

fn link_section(link: &PeerState) -> LinkSection {
    LinkSection {
        address: link.address,
        sends: link.connected_out,
        receives: link.connected_in,
        queued_bytes: link.queued_bytes,
        sent: link.sent,
        received: link.received,
        dropped: link.dropped_out + link.dropped_in,
        unreached: link.unreached,
    }
}
