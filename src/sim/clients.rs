//! The simulated clients: each proposes through one node after the other, sends the same reqid again when it
//! hears nothing, and compares what it is told with all that anyone was told before.

use bytes::Bytes;

use crate::consensus::protocol::Proposal;
use crate::consensus::types::{Command, NodeId, RequestId};
use crate::pipeline::ledger::{Answer, Digest};
use crate::pipeline::waiters::Ticket;

use super::counts::Count;
use super::invariant::{Invariant, Shown, broken, hold};
use super::trace::What;
use super::world::{Request, Step, Thread, Waiter, World};

/// A client gives up a request after this many nodes.
const ATTEMPTS: u64 = 6;

/// Reqids from here on are the probes of the liveness phase.
const PROBES: u64 = 1_000_000_000;

impl World {
    pub(super) fn begin_clients(&mut self) {
        for client in 0..self.clients.all.len() {
            let delay_us = self.clients.random.between(0, 10_000);
            self.schedule(delay_us, Step::Client(client, 0));
        }
        self.schedule(0, Step::Transfer);
    }

    /// Now and then somebody wants another node to lead.
    pub(super) fn transfer(&mut self) {
        let nodes = self.nodes.len() as u64;
        let random = &mut self.clients.random;
        let (pause_us, to) = (random.between(20_000, 1_000_000), random.between(1, nodes + 1));
        self.schedule(pause_us, Step::Transfer);
        if self.clients.is_stopped {
            return;
        }
        let Some(id) = self.leader().filter(|id| *id != to) else { return };
        let running = self.running(id);
        // A full queue refuses the request, and its caller is told.
        if !running.paused && running.inbox.transfers.try_push(to).is_ok() {
            self.wake(id, Thread::Machine);
        }
    }

    pub(super) fn stop_clients(&mut self) {
        self.clients.is_stopped = true;
    }

    /// A client begins its next request, or finds that the last one has timed out.
    pub(super) fn client_acts(&mut self, client: usize, operation: u64) {
        if self.clients.is_stopped || self.clients.all[client].operation != operation {
            return;
        }
        match self.clients.all[client].request.take() {
            Some(request) => {
                self.counts.add(Count::TimedOut);
                self.forget(request.ticket);
                if request.attempts < ATTEMPTS {
                    self.send_request(client, request);
                } else {
                    self.pause(client);
                }
            }
            None => {
                let request = self.clients.draw_request();
                self.send_request(client, request);
            }
        }
    }

    fn pause(&mut self, client: usize) {
        let state = &mut self.clients.all[client];
        state.operation += 1;
        let operation = state.operation;
        let delay_us = self.clients.draw_pause_us();
        self.schedule(delay_us, Step::Client(client, operation));
    }

    fn send_request(&mut self, client: usize, mut request: Request) {
        let election_ms = self.election_ms;
        let clients = &mut self.clients;
        let id = clients.random.between(1, self.nodes.len() as u64 + 1);
        let ttl_ms = clients.random.between(election_ms, 5 * election_ms);
        request.attempts += 1;
        request.ticket = clients.new_ticket(client as u64 + 1);
        let state = &mut clients.all[client];
        state.operation += 1;
        let operation = state.operation;
        state.request = Some(request.clone());
        self.schedule(ttl_ms * 1000, Step::Client(client, operation));
        self.propose(id, request, ttl_ms, Some(client));
    }

    /// A request at a node, as `node::service` takes it. A refused request is forgotten immediately, without
    /// an answer.
    fn propose(&mut self, id: NodeId, request: Request, ttl_ms: u64, client: Option<usize>) {
        let Request { reqid, payload, ticket, .. } = request;
        let request = RequestId::user(reqid);
        if payload.is_some() {
            self.clients.asks(request);
        }
        let now_us = self.now_us;
        let node = self.node_mut(id);
        let (process, now_ms) = (node.process, node.clock.local_ms(now_us));
        let Some(running) = node.running.as_mut().filter(|running| !running.paused) else { return };
        let command = payload.clone().map(|payload| Command::value(reqid, id, payload));
        let digest = command.as_ref().map(Digest::of);
        let answer = running.requests.lock().register(request, digest, ticket);
        let waiter = Waiter { node: id, process, client, request, payload };
        self.clients.waiting.insert(ticket, waiter);
        self.counts.add(Count::Proposals);
        let text = self.recorder.text(|| command.as_ref().map_or("only waits".into(), Command::to_string));
        self.record(id, What::Proposed { client: ticket.connection, request, text });
        match (answer, command) {
            (Some(answer), _) => self.answer(ticket, answer),
            (None, None) => {}
            (None, Some(command)) => {
                self.checker.propose(&command);
                let proposal = Proposal { command, deadline_ms: now_ms + ttl_ms };
                if self.running(id).propose(proposal) {
                    self.wake(id, Thread::Machine);
                } else {
                    self.counts.add(Count::Busy);
                    self.forget(ticket);
                }
            }
        }
    }

    /// A client gets an answer: it must be true, come once, and not contradict what others were told before.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let Some(waiter) = self.clients.waiting.remove(&ticket) else {
            broken(Invariant::OnceOnly, format_args!("{ticket:?} does not wait, but is answered {answer:?}"))
        };
        let Waiter { node, client, request, payload, .. } = waiter;
        let index = answer.index();
        let delivered = self.checker.log().get(index as usize - 1).cloned().flatten();
        hold!(
            Durability,
            delivered.as_ref().is_some_and(|command| command.request == request),
            "node {node} says that request {request} was delivered: {answer:?}; what was delivered at {index}: {}",
            Shown(delivered.as_ref())
        );
        let same = payload.is_none_or(|payload| delivered.is_some_and(|command| command.payload == payload));
        hold!(
            OnceOnly,
            same == matches!(answer, Answer::Delivered(_)),
            "request {request} is answered {answer:?}, but its value is {}",
            if same { "the same" } else { "a different one" }
        );
        let floor = self.clients.floor(request);
        hold!(
            Linearizable,
            index > floor,
            "request {request} is at {index}, but was first sent after index {floor} had been told"
        );
        self.clients.hears(index);
        self.counts.add(Count::Answers);
        self.counts.add_many(Count::OtherValues, u64::from(!same));
        let text = self.recorder.text(|| format!("{answer:?}"));
        self.record(node, What::Answered { client: ticket.connection, request, index: Some(index), text });
        if let Some(client) = client
            && self.clients.all[client].request.as_ref().is_some_and(|request| request.ticket == ticket)
        {
            self.clients.all[client].request = None;
            self.pause(client);
        }
    }

    /// A client no longer waits there.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        let Some(Waiter { node, process, request, .. }) = self.clients.waiting.remove(&ticket) else {
            return;
        };
        let node = self.node_mut(node);
        if node.process == process
            && let Some(running) = &node.running
        {
            let was = running.requests.lock().waiters.forget(request, ticket);
            hold!(OnceOnly, was, "{ticket:?} was not answered, but is not found waiting for {request}");
        }
    }

    /// A process ended: the clients that waited there get no answer.
    pub(super) fn clients_lose(&mut self, id: NodeId) {
        self.clients.waiting.retain(|_, waiter| waiter.node != id);
    }

    // ---- the liveness phase ----

    /// Makes a new request for each node that is left.
    pub(super) fn propose_everywhere(&mut self) -> Vec<u64> {
        let left: Vec<NodeId> = self.ids().filter(|id| self.node(*id).lost.is_none()).collect();
        left.into_iter().map(|id| PROBES + id).collect()
    }

    /// Whether some of them are not yet delivered at their node; those that found no room, or whose node is
    /// just starting, are sent again.
    pub(super) fn waiting(&mut self, probes: &[u64]) -> bool {
        let mut any = false;
        for probe in probes {
            let id = probe - PROBES;
            let request = RequestId::user(*probe);
            if self.node(id).lost.is_some() {
                continue;
            }
            if self.has_delivered(id, *probe) {
                continue;
            }
            any = true;
            if !self.clients.waiting.values().any(|waiter| waiter.request == request) {
                self.probe(id, *probe);
            }
        }
        any
    }

    /// A probe is sent again after 2 T: like a restarted node, a rebuilt one has forgotten what it had been
    /// asked.
    fn probe(&mut self, id: NodeId, reqid: u64) {
        let ticket = self.clients.new_ticket(reqid);
        let ttl_ms = 2 * self.election_ms;
        let request = Request { reqid, payload: Some(Bytes::from_static(b"probe")), attempts: 1, ticket };
        self.propose(id, request, ttl_ms, None);
        if self.clients.waiting.contains_key(&ticket) {
            self.schedule(ttl_ms * 1000, Step::Forget(ticket));
        }
    }

    /// Proposes something new at a node. Returns its reqid.
    pub(super) fn probe_at(&mut self, id: NodeId) -> u64 {
        let reqid = PROBES + self.clients.new_probe();
        self.probe(id, reqid);
        reqid
    }

    /// Whether a node has delivered a request.
    pub(super) fn has_delivered(&self, id: NodeId, reqid: u64) -> bool {
        let delivered = self.checker.delivery(RequestId::user(reqid));
        let applied = self.node(id).running.as_ref().map_or(0, |running| running.applier.applied());
        delivered.is_some_and(|index| index <= applied)
    }

    /// The nodes at which the probe is not yet delivered.
    pub(super) fn nodes_of_waiting(&self, probes: &[u64]) -> Vec<NodeId> {
        let ids = probes.iter().map(|probe| (probe - PROBES, *probe));
        ids.filter(|(id, probe)| !self.has_delivered(*id, *probe)).map(|(id, _)| id).collect()
    }
}
