//! One node of the searched cluster: the production core, its disk (`disk.rs`), and what is remembered for
//! the rules only. Everything here is a function of one node; the network is not here.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use spaxos::consensus::batch::{Batch, Event, Page};
use spaxos::consensus::config::Config;
use spaxos::consensus::message::{Body, ClusterBody, Message, RaftBody};
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId, Round};

use crate::bounds::Bounds;
use crate::common::any_core::AnyCore;
use crate::disk::{Disk, History, Write};
use crate::traffic::{Standing, check_early, is_dead, travels};

/// The nodes are 1, 2 and 3.
pub const NODES: usize = 3;

/// T of the cores: the clock stands still except for [`Action::Campaign`], so that only proportions matter.
const ELECTION_MS: u64 = 4;
const HEARTBEAT_MS: u64 = 1;

/// A node between two actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    id: NodeId,
    /// Its clock.
    now_ms: u64,
    /// How often it campaigned, over all incarnations.
    campaigns: u8,
    core: AnyCore,
    disk: Disk,
    /// Writes that are not yet durable, in order. A doomed node has one, which never will be.
    unwritten: Vec<Write>,
    /// Nothing is written any more until it crashes.
    doomed: bool,
    history: History,
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A message arrives (and stays in the network: it may arrive again).
    Deliver(Message),
    /// A client proposes here.
    Propose(Command),
    /// No leader is heard for long enough, a peer would follow, and the node prepares a ballot of that round.
    Campaign(Round),
    /// Some heartbeat intervals pass: what a node repeats on its own is sent.
    Repeat,
    /// The oldest unwritten batch becomes durable.
    Write,
    /// The process dies and starts again from what is durable.
    Crash,
}

/// What becomes of a batch's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It waits for [`Action::Write`].
    Waits,
    /// It is durable before anything else happens.
    AtOnce,
    /// It never is, nor is any after it: the node's next write is that of another incarnation.
    Never,
}

/// What an action led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub node: Node,
    /// What left the node, in order, to itself included.
    pub sent: Vec<Message>,
    /// What the core wanted done.
    pub batch: Batch,
    pub notes: Notes,
}

/// What is worth counting of a step: each must happen somewhere, or the search shows little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub adopts: bool,
    pub fills_a_hole: bool,
    pub truncates: bool,
    pub learns: bool,
    pub steps_down: bool,
    pub loses_a_write: bool,
}

/// A rule that does not hold, in words.
pub type Broken = String;

impl Node {
    /// A node that starts for the first time.
    pub fn new(id: NodeId, bounds: &Bounds) -> Node {
        Node::start(id, Disk::default(), History::default(), bounds)
    }

    fn start(id: NodeId, disk: Disk, history: History, bounds: &Bounds) -> Node {
        let mut core = AnyCore::new(bounds.protocol, config(id), disk.restored());
        let now_ms = normalize(&mut core, bounds).unwrap_or(0);
        Node { id, now_ms, campaigns: 0, core, disk, unwritten: vec![], doomed: false, history }
    }

    pub fn protocol(&self) -> ProtocolName {
        self.core.protocol()
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    pub fn campaigns(&self) -> u8 {
        self.campaigns
    }

    pub fn highest_round(&self) -> Round {
        self.core.status().highest_round
    }

    /// Whether a message means nothing to this node and all that it can become if it campaigns at most
    /// `campaigns` times.
    pub fn outlives(&self, body: &Body, campaigns: u8) -> bool {
        let campaigns_again = self.campaigns < campaigns;
        let (protocol, durable, status) = (self.protocol(), self.disk.hard_state, &self.core.status());
        is_dead(body, Standing { protocol, durable, status, campaigns_again })
    }

    /// Whether a message changes nothing and is not answered.
    pub fn ignores(&self, message: &Message, bounds: &Bounds) -> bool {
        let outcome = self.act(&Action::Deliver(message.clone()), Fate::Waits, bounds);
        outcome.is_ok_and(|outcome| outcome.node == *self && outcome.sent.is_empty())
    }

    /// The ballot it leads with.
    pub fn leads(&self) -> Option<Ballot> {
        let status = self.core.status();
        (status.role == Role::Leader).then_some(status.promised)
    }

    /// What the core takes for chosen, by index from 1.
    pub fn believed(&self) -> Vec<Entry> {
        self.log().into_values().take(self.core.status().chosen as usize).collect()
    }

    /// All entries as the running node knows them, durable or not.
    pub fn log(&self) -> BTreeMap<Index, Entry> {
        let mut log = self.disk.entries.clone();
        self.unwritten.iter().for_each(|write| write.apply(&mut log));
        log
    }

    /// One action. An assertion of the core that fails is a broken rule as well.
    pub fn act(&self, action: &Action, fate: Fate, bounds: &Bounds) -> Result<Outcome, Broken> {
        let acted = catch_unwind(AssertUnwindSafe(|| match action {
            Action::Deliver(message) => self.receive(message, fate, bounds),
            Action::Propose(command) => {
                let proposal = Proposal { command: command.clone(), deadline_ms: u64::MAX };
                self.step(Input::Propose(vec![proposal]), fate, bounds)
            }
            Action::Campaign(round) => self.campaign(*round, fate, bounds),
            Action::Repeat => self.repeat(bounds),
            Action::Write => self.write_oldest(bounds),
            Action::Crash => Ok(self.crash(bounds)),
        }));
        acted.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("an assertion of the core failed: {}", text.unwrap_or_default()))
        })
    }

    fn step(&self, input: Input, fate: Fate, bounds: &Bounds) -> Result<Outcome, Broken> {
        let mut node = self.clone();
        let mut batch = Batch::default();
        node.core.step(input, &mut batch);
        node.finish(batch, fate, bounds)
    }

    fn receive(&self, message: &Message, fate: Fate, bounds: &Bounds) -> Result<Outcome, Broken> {
        let mut outcome = self.step(Input::Message(message.clone()), fate, bounds)?;
        outcome.notes.learns = matches!(message.body, Body::Cluster(ClusterBody::Learn { .. }))
            && outcome.batch.chosen.is_some();
        Ok(outcome)
    }

    /// Time passes until it campaigns, in steps too short to be a pause; then one peer would follow. Which
    /// peer, and what rounds it has seen, is left open: any that makes the ballot the wanted one.
    fn campaign(&self, round: Round, fate: Fate, bounds: &Bounds) -> Result<Outcome, Broken> {
        let mut node = Node { campaigns: self.campaigns + 1, ..self.clone() };
        let mut batch = Batch::default();
        let asked = node.wait_to_campaign(&mut batch)?;
        let me = self.id;
        let peer = if me == 1 { 2 } else { 1 };
        let promised =
            if round > asked.round { Ballot { round: round - 1, node: peer } } else { Ballot::ZERO };
        let body = ClusterBody::PreVoteReply { ballot: asked, granted: true, promised }.into();
        node.core.step(Input::Message(Message { from: peer, to: me, body }), &mut batch);
        node.finish(batch, fate, bounds)
    }

    /// 2T at most until a leader steps down, and 2T until it campaigns.
    fn wait_to_campaign(&mut self, batch: &mut Batch) -> Result<Ballot, Broken> {
        for _ in 0..4 * ELECTION_MS / HEARTBEAT_MS {
            self.now_ms += HEARTBEAT_MS;
            self.core.step(Input::Tick { now_ms: self.now_ms }, batch);
            let campaigns = |event: &Event| match event {
                Event::Campaigning { ballot } => Some(*ballot),
                _ => None,
            };
            if let Some(ballot) = batch.events.iter().find_map(campaigns) {
                return Ok(ballot);
            }
        }
        Err(format!("node {} hears nobody for 4 T and does not campaign", self.id))
    }

    /// A copy of the core sees the time pass and is thrown away: at the node itself only waits would differ.
    fn repeat(&self, bounds: &Bounds) -> Result<Outcome, Broken> {
        let mut copy = self.core.clone();
        let mut batch = Batch::default();
        copy.step(Input::Tick { now_ms: self.now_ms + 2 * HEARTBEAT_MS }, &mut batch);
        let changed = copy.status() != self.core.status() || batch.must_write();
        assert!(!changed, "some heartbeat intervals change more than waits: {batch}");
        // What waits only for older writes, not for one of its own, says nothing new: it is a question that
        // was asked.
        batch.messages.clear();
        batch.early.retain(|message| !matches!(message.body, Body::Cluster(ClusterBody::Forward { .. })));
        self.clone().finish(batch, Fate::Waits, bounds)
    }

    /// Carries out a batch, as far as its fate says.
    fn finish(mut self, batch: Batch, fate: Fate, bounds: &Bounds) -> Result<Outcome, Broken> {
        self.check(&batch)?;
        self.now_ms = normalize(&mut self.core, bounds).unwrap_or(self.now_ms);
        let notes = Notes::of(&batch);
        let mut sent = batch.early.clone();
        self.queue(Write::of(&batch));
        sent.extend(batch.pages.iter().filter_map(|page| self.read(page)));
        if fate == Fate::AtOnce && !self.doomed {
            assert_eq!(self.unwritten.len(), 1, "nothing waits where all is written immediately");
            sent.extend(self.flush()?);
        }
        // What has nothing to write leaves as soon as all before it is durable.
        while fate == Fate::Waits && self.unwritten.first().is_some_and(Write::is_durable) {
            sent.extend(self.flush()?);
        }
        self.doomed |= fate == Fate::Never;
        if self.doomed {
            self.unwritten = vec![self.unwritten.drain(..).fold(Write::default(), Write::then)];
        }
        let sent: Vec<Message> = self.travelling(sent, bounds);
        self.history.note_sent(self.id, &sent)?;
        if let (Some(ballot), ProtocolName::Raft) = (self.leads(), self.protocol()) {
            self.history.note_led(ballot);
        }
        Ok(Outcome { node: self, sent, batch, notes })
    }

    /// What a batch of an honest core among honest ones never has.
    fn check(&self, batch: &Batch) -> Result<(), Broken> {
        let Status { ignored, promised, .. } = self.core.status();
        if ignored > 0 {
            return Err("a core takes another's message for nonsense".into());
        }
        for message in &batch.early {
            check_early(message)?;
            let leads_durably = |ballot: &Ballot| *ballot == self.disk.hard_state.promised;
            if let Body::Raft(RaftBody::Append { ballot, .. }) = &message.body
                && !leads_durably(ballot)
            {
                return Err(format!("{message} leaves under {promised}, before that is durable"));
            }
        }
        Ok(())
    }

    fn travelling(&self, sent: Vec<Message>, bounds: &Bounds) -> Vec<Message> {
        sent.into_iter().filter_map(|message| travels(message, self.protocol(), bounds)).collect()
    }

    /// What has nothing to write joins the batch that it waits for, and says nothing twice: a message that
    /// came again changes nothing.
    fn queue(&mut self, write: Write) {
        match self.unwritten.last_mut() {
            Some(last) if write.is_durable() => {
                let new: Vec<Message> =
                    write.messages.into_iter().filter(|message| !last.messages.contains(message)).collect();
                last.messages.extend(new);
            }
            _ => self.unwritten.push(write),
        }
    }

    fn write_oldest(&self, bounds: &Bounds) -> Result<Outcome, Broken> {
        let mut node = self.clone();
        let mut sent = node.flush()?;
        while node.unwritten.first().is_some_and(Write::is_durable) {
            sent.extend(node.flush()?);
        }
        let sent = node.travelling(sent, bounds);
        Ok(Outcome { node, sent, batch: Batch::default(), notes: Notes::default() })
    }

    /// Makes the oldest batch durable and returns the messages that leave then.
    fn flush(&mut self) -> Result<Vec<Message>, Broken> {
        let write = self.unwritten.remove(0);
        self.disk.write(write, self.core.protocol(), &mut self.history)
    }

    fn read(&self, page: &Page) -> Option<Message> {
        let Page { to, first, chosen } = *page;
        let entries: Vec<Entry> = self.log().into_values().collect();
        let entries: Vec<Entry> =
            entries.into_iter().filter(|entry| (first..=chosen).contains(&entry.index)).collect();
        (!entries.is_empty()).then(|| Message {
            from: self.id,
            to,
            body: ClusterBody::Learn { chosen, entries }.into(),
        })
    }

    fn crash(&self, bounds: &Bounds) -> Outcome {
        let loses_a_write = self.unwritten.iter().any(|write| !write.is_durable());
        let start = Node::start(self.id, self.disk.clone(), self.history.clone(), bounds);
        let node = Node { campaigns: self.campaigns, ..start };
        let notes = Notes { loses_a_write, ..Notes::default() };
        Outcome { node, sent: vec![], batch: Batch::default(), notes }
    }
}

/// Makes cores that behave alike equal. Returns the time on its clock, if that begins again.
fn normalize(core: &mut AnyCore, bounds: &Bounds) -> Option<u64> {
    match core {
        AnyCore::Paxos(core) => {
            core.normalize();
            None
        }
        AnyCore::Raft(core) => {
            core.normalize();
            if !bounds.tail {
                core.forget_chosen();
            }
            Some(0)
        }
    }
}

fn config(node: NodeId) -> Config {
    Config {
        node,
        voters: Voters::new((1..=NODES as u64).collect()),
        election_ms: ELECTION_MS,
        heartbeat_ms: HEARTBEAT_MS,
        window_entries: MAX_WINDOW_ENTRIES,
        window_bytes: 1 << 20,
        seed: node,
    }
}

impl Notes {
    fn of(batch: &Batch) -> Notes {
        let mut notes = Notes::default();
        for event in &batch.events {
            match event {
                Event::Leading { adopted, holes, .. } => {
                    notes.adopts |= *adopted > 0;
                    notes.fills_a_hole |= *holes > 0;
                }
                Event::SteppedDown { .. } => notes.steps_down = true,
                Event::Truncating { .. } => notes.truncates = true,
                _ => {}
            }
        }
        notes
    }
}
