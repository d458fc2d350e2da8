//! The turn of the state machine: inputs go into the core, effects come out, sorted by where they go next.
//!
//! A turn takes everything that waits, so one Accept, one write and one answer serve many inputs. Left out:
//! the thread, the queues and the clock (`node`), and what the core decides (`consensus`).
//!
//! **What others see of the core** is a copy of its status as it was after one turn, so that all figures in
//! it belong together ([`StateMachine::published`]). It is renewed before the watermark is raised for the
//! applier, so a client that was told an index never sees a lower watermark afterwards.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::batch::{Batch, Event, Page};
use crate::consensus::config::{Config, Restored};
use crate::consensus::message::Message;
use crate::consensus::protocol::{Input, Proposal, Protocol, Role, Status};
use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::{Entry, HardState, Index, NodeId, RequestId};
use crate::store::Binding;
use crate::wire::message::{PeerMessage, Service, ServiceBody, Trouble};

use super::fork::{Fork, ForkWatch};
use super::inbox::{Control, Inbox, OwnMessages};
use super::placement::{Placed, Placement, Submission};
use super::recent::Recent;
use super::trouble::{Signs, Troubles};

/// The most inputs of each kind that one turn takes, so that its batch stays within bounds.
const TURN_ITEMS: usize = 4096;

/// Why proposals are refused between a failed write and the rebuild.
pub const DISK_FULL: &str = "the disk of this node is full: make room, or propose at another node";

/// Why proposals are refused for which the core has no room.
const NO_ROOM: &str = "this node already holds as many requests as it can; try again";

/// Everything that waits for a turn.
#[derive(Default)]
pub struct Inputs {
    /// The time, if a tick is due.
    pub tick_ms: Option<u64>,
    /// What was under way in other threads at the tick.
    pub signs: Signs,
    /// The node's messages to itself, whose write is durable.
    pub own: Vec<OwnMessages>,
    /// Peers' messages.
    pub peers: Vec<PeerMessage>,
    /// Peers to bind to their directories.
    pub bindings: Vec<Binding>,
    /// Clients' proposals.
    pub proposals: Vec<Proposal>,
    /// The embedder's proposals: each submission is taken whole in this turn, or refused.
    pub submissions: Vec<Submission>,
    /// Nodes to hand leadership over to.
    pub transfers: Vec<NodeId>,
}

/// What storage must make durable, and what waits for that.
#[derive(Debug, Default)]
pub struct Work {
    /// The incarnation of the core that made this work.
    pub generation: u64,
    /// Works are numbered from 1 on, ascending over all generations.
    pub number: u64,
    /// The hard state to make durable.
    pub hard_state: Option<HardState>,
    /// Entries from this index on must be removed durably before `entries` are put.
    pub truncate: Option<Index>,
    /// Entries to make durable.
    pub entries: Vec<Entry>,
    /// Bindings to make durable.
    pub bindings: Vec<Binding>,
    /// Messages to send once all of this work, and every work before it, is durable.
    pub messages: Vec<Message>,
    /// Pages to read and send after that.
    pub pages: Vec<Page>,
}

impl Work {
    /// What the work takes in the queue.
    pub fn cost_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| entry.command.cost_bytes()).sum();
        let messages: usize = self.messages.iter().map(super::inbox::message_cost_bytes).sum();
        64 + entries + messages
    }

    /// Whether anything must be made durable.
    pub fn must_write(&self) -> bool {
        let log = self.truncate.is_some() || !self.entries.is_empty();
        log || self.hard_state.is_some() || !self.bindings.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.must_write() && self.messages.is_empty() && self.pages.is_empty()
    }
}

/// The effects of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Messages to send immediately.
    pub early: Vec<Message>,
    /// Messages of services to send immediately.
    pub services: Vec<Service>,
    /// The work for storage, if there is any.
    pub work: Option<Work>,
    /// The new watermark, if it was raised ([`Recent`] has it already).
    pub chosen: Option<Index>,
    /// Events for the log.
    pub events: Vec<Event>,
    /// Proposals for which the core has no room yet.
    pub left: Vec<Proposal>,
    /// Whether [`StateMachine::fork`] changed.
    pub fork_changed: bool,
}

/// The core through all its incarnations, and what surrounds it.
pub struct StateMachine {
    core: Box<dyn Protocol>,
    /// For the cores of later incarnations.
    protocol: ProtocolName,
    config: Config,
    /// Every rebuild of the core raises it.
    generation: u64,
    last_work: u64,
    /// True between a failed write and the rebuild: every input is dropped, as if the node were down.
    suspended: bool,
    recent: Arc<Recent>,
    published: Arc<Mutex<Status>>,
    fork_watch: ForkWatch,
    /// Whether what the watch knows changed in this turn.
    fork_changed: bool,
    troubles: Troubles,
    /// The nodes that the core makes way to.
    fitter: Vec<NodeId>,
}

impl StateMachine {
    /// Builds the first incarnation of a run.
    pub fn new(
        protocol: ProtocolName,
        config: Config,
        restored: Restored,
        recent: Arc<Recent>,
        fork_watch: ForkWatch,
    ) -> StateMachine {
        let core = protocol.core(config.clone(), restored);
        let published = Arc::new(Mutex::new(core.status()));
        let (generation, last_work, suspended, fork_changed) = (0, 0, false, false);
        let troubles = Troubles::new(config.node, config.voters.others(config.node), config.election_ms);
        StateMachine {
            core,
            protocol,
            config,
            generation,
            last_work,
            suspended,
            recent,
            published,
            fork_watch,
            fork_changed,
            troubles,
            fitter: Vec::new(),
        }
    }

    /// The status of the core. One that is suspended neither leads nor follows.
    pub fn status(&self) -> Status {
        let mut status = self.core.status();
        if self.suspended {
            (status.role, status.leader) = (Role::Follower, None);
        }
        status
    }

    /// What is wrong with this node.
    pub fn trouble(&self) -> Trouble {
        self.troubles.own()
    }

    /// Whether the core makes way to others: a leader places nothing then.
    pub fn makes_way(&self) -> bool {
        !self.fitter.is_empty()
    }

    /// The status of the core for other threads: as it was after the last turn that saw time pass, raised the
    /// watermark or reported an event.
    pub fn published(&self) -> Arc<Mutex<Status>> {
        self.published.clone()
    }

    /// Whether nodes are known that delivered something else than this one.
    pub fn fork(&self) -> Option<&Fork> {
        self.fork_watch.fork()
    }

    /// The incarnation of the core, counted from 0.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Does what storage asks, and takes what waits for a turn. Returns whether there is anything for one.
    pub fn take(&mut self, inbox: &Inbox, inputs: &mut Inputs) -> bool {
        let mut control = Vec::new();
        inbox.control.drain(&mut control);
        for control in control {
            match control {
                Control::Suspend => self.suspend(),
                Control::Rebuild(restored) => self.rebuild(restored),
            }
        }
        let mut any = inbox.own.drain(&mut inputs.own);
        any |= inbox.peers.drain_some(TURN_ITEMS, &mut inputs.peers);
        any |= inbox.bindings.drain(&mut inputs.bindings);
        any |= inbox.transfers.drain(&mut inputs.transfers);
        any |= inbox.submissions.drain(&mut inputs.submissions);
        let room = self.core.room().min(TURN_ITEMS);
        let more = room.saturating_sub(inputs.proposals.len());
        any |= more > 0 && inbox.proposals.drain_some(more, &mut inputs.proposals);
        any || (room > 0 && !inputs.proposals.is_empty())
    }

    /// Takes all inputs. Their order does not matter to the core. The tick comes first, so that the core sees
    /// inputs at the time at which they arrive.
    pub fn turn(&mut self, inputs: &mut Inputs) -> Turn {
        if self.suspended {
            let submissions = std::mem::take(&mut inputs.submissions);
            submissions.iter().for_each(|submission| submission.placed.tell(Placement::Refused(DISK_FULL)));
            *inputs = Inputs::default();
            return Turn::default();
        }
        let mut batch = Batch::default();
        let ticked = inputs.tick_ms.is_some();
        let mut services = Vec::new();
        if let Some(now_ms) = inputs.tick_ms.take() {
            self.core.step(Input::Tick { now_ms }, &mut batch);
            let before = self.fork_watch.fork().cloned();
            services = self.fork_watch.handle_tick(now_ms);
            self.fork_changed |= before.as_ref() != self.fork_watch.fork();
            services.extend(self.troubles.tick(now_ms, inputs.signs));
            self.make_way(&mut batch);
        }
        let current = self.generation;
        let own = inputs.own.drain(..).filter(|own| own.generation == current);
        for message in own.flat_map(|own| own.messages) {
            self.core.step(Input::Message(message), &mut batch);
        }
        for message in inputs.peers.drain(..) {
            match message {
                PeerMessage::Core(message) => self.core.step(Input::Message(message), &mut batch),
                PeerMessage::Service(service) => self.handle_service(service),
            }
        }
        let placed = self.propose_submissions(std::mem::take(&mut inputs.submissions), &mut batch);
        let mut left = std::mem::take(&mut inputs.proposals);
        let taken: Vec<Proposal> = left.drain(..left.len().min(self.core.room())).collect();
        if !taken.is_empty() {
            self.core.step(Input::Propose(taken), &mut batch);
        }
        for to in inputs.transfers.drain(..) {
            self.core.step(Input::Transfer { to }, &mut batch);
        }
        if !placed.is_empty() {
            let status = self.core.status();
            placed
                .iter()
                .for_each(|(placed, ids)| placed.tell(Placement::find(ids, &status, &batch.entries)));
        }
        if ticked || batch.chosen.is_some() || !batch.events.is_empty() {
            self.publish();
        }
        let bindings = std::mem::take(&mut inputs.bindings);
        let fork_changed = std::mem::take(&mut self.fork_changed);
        Turn { services, fork_changed, ..self.sort(batch, bindings, left) }
    }

    fn publish(&self) {
        *self.published.lock() = self.status();
    }

    /// Tells the core which nodes are better off, if that has changed.
    fn make_way(&mut self, batch: &mut Batch) {
        let fitter = self.troubles.fitter();
        if fitter != self.fitter {
            self.fitter.clone_from(&fitter);
            self.core.step(Input::MakeWay { to: fitter }, batch);
        }
    }

    /// The embedder waits for this turn, so a submission for which the core has no room now is refused.
    /// Returns what the core took.
    fn propose_submissions(
        &mut self,
        submissions: Vec<Submission>,
        batch: &mut Batch,
    ) -> Vec<(Arc<Placed>, Vec<RequestId>)> {
        let mut taken = Vec::new();
        for Submission { proposals, placed } in submissions {
            if proposals.len() > self.core.room() {
                placed.tell(Placement::Refused(NO_ROOM));
                continue;
            }
            let ids = proposals.iter().map(|proposal| proposal.command.request).collect();
            self.core.step(Input::Propose(proposals), batch);
            taken.push((placed, ids));
        }
        taken
    }

    /// Routes what a peer's service says. The core never sees it.
    fn handle_service(&mut self, service: Service) {
        match service.body {
            ServiceBody::Ping => {}
            ServiceBody::Hashes { points } => {
                self.fork_changed |= self.fork_watch.handle_hashes(service.from, &points);
            }
            ServiceBody::Health(trouble) => self.troubles.hear(service.from, trouble),
        }
    }

    /// Stops the core after a failed write: what it holds in memory is no longer what is durable, so it does
    /// nothing until it is rebuilt.
    fn suspend(&mut self) {
        self.suspended = true;
        self.publish();
    }

    /// Replaces the core by one that is built from what is durable. This is a restart in every respect, above
    /// every round that the old core used.
    fn rebuild(&mut self, mut restored: Restored) {
        let used = self.core.status().highest_round;
        restored.highest_round = restored.highest_round.max(used);
        self.core = self.protocol.core(self.config.clone(), restored);
        let new = self.core.status();
        assert!(
            new.highest_round >= used,
            "a rebuilt core must start above all rounds used: {} after {used}",
            new.highest_round
        );
        self.generation += 1;
        self.suspended = false;
        self.fitter.clear();
        self.recent.restart(new.chosen);
        self.publish();
    }

    /// The last write of an orderly shutdown; `None` between a failed write and the rebuild.
    pub fn last_work(&self, hard_state: HardState) -> Option<Work> {
        let (generation, number) = (self.generation, self.last_work + 1);
        let work = Work { generation, number, hard_state: Some(hard_state), ..Work::default() };
        (!self.suspended).then_some(work)
    }

    fn sort(&mut self, batch: Batch, bindings: Vec<Binding>, left: Vec<Proposal>) -> Turn {
        // Nobody here asks for reads yet.
        let Batch { early, hard_state, truncate, entries, messages, pages, reads: _, chosen, events } = batch;
        let (generation, number) = (self.generation, self.last_work + 1);
        let work = Work { generation, number, hard_state, truncate, entries, bindings, messages, pages };
        self.recent.put(work.truncate, &work.entries, number);
        if let Some(chosen) = chosen {
            self.recent.raise_chosen(chosen);
        }
        let work = (!work.is_empty()).then_some(work);
        self.last_work += u64::from(work.is_some());
        Turn { early, work, chosen, events, left, ..Turn::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consensus::message::{Body, ClusterBody, PaxosBody};
    use crate::consensus::proposals::Proposals;
    use crate::consensus::quorum::Voters;
    use crate::consensus::types::{Ballot, Command, MAX_PAYLOAD_BYTES};
    use crate::pipeline::marks::{Marks, Point};

    const BALLOT: Ballot = Ballot { round: 1, node: 1 };

    /// Node 1 of three. It leads, and it knows of no acceptance.
    fn leader() -> StateMachine {
        let config = Config {
            node: 1,
            voters: Voters::new(vec![1, 2, 3]),
            election_ms: 100,
            heartbeat_ms: 10,
            window_entries: 16,
            window_bytes: 1 << 20,
            seed: 1,
        };
        let recent = Arc::new(Recent::new(1 << 20, 0));
        let marks = Arc::new(Mutex::new(Marks::new(Point::default())));
        let watch = ForkWatch::new(1, &[1, 2, 3], false, marks);
        let mut machine = StateMachine::new(ProtocolName::Paxos, config, Restored::default(), recent, watch);
        let granted = ClusterBody::PreVoteReply { ballot: BALLOT, granted: true, promised: Ballot::ZERO };
        let (chosen, compacted, first, last) = (0, 0, 1, 1);
        let promise = PaxosBody::Promise {
            ballot: BALLOT,
            chosen,
            compacted,
            first,
            last,
            more: false,
            entries: vec![],
        };
        for tick_ms in (0..=200).step_by(10) {
            let _ = machine.turn(&mut Inputs { tick_ms: Some(tick_ms), ..Inputs::default() });
        }
        let say = |from, body: Body| Message { from, to: 1, body };
        let peers = vec![say(2, granted.into()), say(2, promise.clone().into()), say(3, promise.into())];
        let peers = peers.into_iter().map(PeerMessage::Core).collect();
        let _ = machine.turn(&mut Inputs { peers, ..Inputs::default() });
        assert_eq!(machine.status().leader, Some(1), "{:?}", machine.status());
        machine
    }

    fn large(reqid: u64, from: u64) -> Command {
        Command::value(reqid, from, vec![b'x'; MAX_PAYLOAD_BYTES])
    }

    fn proposals(reqids: std::ops::Range<u64>) -> Vec<Proposal> {
        reqids.map(|reqid| Proposal { command: large(reqid, 1), deadline_ms: 10_000 }).collect()
    }

    /// What others forward in a turn may take the room for which this node's proposals were drained. The
    /// proposals come back, and none is lost.
    #[test]
    fn proposals_without_room_come_back() {
        let mut machine = leader();
        let all = (Proposals::CAPACITY_BYTES / MAX_PAYLOAD_BYTES) as u64;
        let forward = |reqids: std::ops::Range<u64>| {
            let commands = reqids.map(|reqid| large(reqid, 2)).collect();
            vec![Message { from: 2, to: 1, body: ClusterBody::Forward { commands }.into() }.into()]
        };
        // The others take all that is theirs alone, so that more of theirs is taken from what is shared.
        let (others, own) = (all / 4, all - all / 4 - 1);
        let peers = forward(1000..1000 + others);
        let first =
            machine.turn(&mut Inputs { peers, proposals: proposals(1..own + 1), ..Inputs::default() });
        assert_eq!(first.left.len(), 0);
        assert!(machine.core.room() > 0);
        let (peers, three) = (forward(2000..2001), proposals(100..103));
        let turn = machine.turn(&mut Inputs { peers, proposals: three, ..Inputs::default() });
        let held = machine.status().pending - own - others - 1;
        assert_eq!((held, turn.left.len()), (0, 3), "of three proposals {held} are held");
    }

    /// As long as a core has room, it takes what one turn brings, however large.
    #[test]
    fn a_turn_of_large_proposals_is_taken_whole() {
        let mut machine = leader();
        let nearly = (Proposals::CAPACITY_BYTES / MAX_PAYLOAD_BYTES) as u64 - 1;
        let turn = machine.turn(&mut Inputs { proposals: proposals(1..nearly + 20), ..Inputs::default() });
        let held = machine.status().pending;
        assert_eq!(held + turn.left.len() as u64, nearly + 19, "{held} are held");
    }

    fn submission(reqids: std::ops::Range<u64>) -> (Submission, Arc<Placed>) {
        let placed = Arc::new(Placed::default());
        let command = |reqid| Command::value(reqid, 1, "v");
        let proposals = reqids.map(|reqid| Proposal { command: command(reqid), deadline_ms: 10_000 });
        (Submission { proposals: proposals.collect(), placed: placed.clone() }, placed)
    }

    fn turn_of(machine: &mut StateMachine, submissions: Vec<Submission>) -> Turn {
        machine.turn(&mut Inputs { submissions, ..Inputs::default() })
    }

    /// The embedder is told in the same turn where a leader put its proposals: where they are written. The
    /// window has 16 entries, one of which is the new leader's no-op, so the last proposal has no place yet.
    #[test]
    fn a_submission_is_told_where_it_was_placed() {
        let mut machine = leader();
        let (first, placed_first) = submission(1..11);
        let (second, placed_second) = submission(11..17);
        let turn = turn_of(&mut machine, vec![first, second]);
        let entries = turn.work.expect("a leader writes what it places").entries;
        let written: Vec<_> = entries.iter().map(|entry| Some(entry.index)).collect();
        assert_eq!(written.len(), 15);
        let told = |indexes: &[Option<Index>]| Placement::Taken {
            ballot: BALLOT,
            leads: true,
            indexes: indexes.to_vec(),
        };
        assert_eq!(placed_first.wait(Duration::ZERO), Some(told(&written[..10])));
        let second = [&written[10..], &[None]].concat();
        assert_eq!(placed_second.wait(Duration::ZERO), Some(told(&second)));
    }

    /// A submission is refused immediately if the core has no room for it, or if it comes between a failed
    /// write and the rebuild.
    #[test]
    fn a_submission_without_room_is_refused() {
        let mut machine = leader();
        let nearly = (Proposals::CAPACITY_BYTES / MAX_PAYLOAD_BYTES) as u64;
        let _ = machine.turn(&mut Inputs { proposals: proposals(1..nearly + 10), ..Inputs::default() });
        assert_eq!(machine.core.room(), 0);
        let (refused, placed) = submission(1000..1001);
        let _ = turn_of(&mut machine, vec![refused]);
        assert_eq!(placed.wait(Duration::ZERO), Some(Placement::Refused(NO_ROOM)));
        machine.suspend();
        let (refused, placed) = submission(1001..1002);
        let _ = turn_of(&mut machine, vec![refused]);
        assert_eq!(placed.wait(Duration::ZERO), Some(Placement::Refused(DISK_FULL)));
    }
}
