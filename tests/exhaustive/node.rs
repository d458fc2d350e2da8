//! One node of the searched cluster: the production core, what is durable, what waits to be written, and
//! what is remembered for the rules only. Everything here is a function of one node; the network is not here.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use spaxos::consensus::batch::{Batch, Event, Page};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, Message};
use spaxos::consensus::paxos::Paxos;
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, MAX_WINDOW_ENTRIES, NodeId, Round};

/// The nodes are 1, 2 and 3.
pub const NODES: usize = 3;

/// T of the cores: the clock stands still but for [`Action::Campaign`], so that only proportions matter.
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
    core: Paxos,
    durable: Durable,
    /// Not yet durable, in order. Of a doomed node one, which never will be.
    unwritten: Vec<Write>,
    /// Nothing is written any more until it crashes.
    doomed: bool,
    history: History,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Durable {
    hard_state: HardState,
    entries: BTreeMap<Index, Entry>,
    highest_round: Round,
}

/// What one batch wants made durable, and says after that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Write {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

/// What was ever so, over all incarnations. No core sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// What was ever durable here at an index under a ballot: a vote.
    pub votes: BTreeMap<(Index, Ballot), Command>,
    /// What this node ever proposed at an index under a ballot of its own.
    proposed: BTreeMap<(Index, Ballot), Command>,
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
    pub learns: bool,
    pub steps_down: bool,
    pub loses_a_write: bool,
}

/// A rule that does not hold, in words.
pub type Broken = String;

impl Node {
    /// A node that starts for the first time.
    pub fn new(id: NodeId) -> Node {
        Node::start(id, Durable::default(), History::default())
    }

    fn start(id: NodeId, durable: Durable, history: History) -> Node {
        let core = durable.core(id);
        Node { id, now_ms: 0, campaigns: 0, core, durable, unwritten: vec![], doomed: false, history }
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

    /// Whether a message means nothing to this node and all that it can become if it campaigns at most so
    /// often: the ballot is below its durable promise, or an answer comes to a question that it does not ask
    /// any more.
    pub fn outlives(&self, body: &Body, campaigns: u8) -> bool {
        let status = self.core.status();
        let asks = |ballot: Ballot, role: Role| {
            self.campaigns < campaigns || (status.role == role && status.promised <= ballot)
        };
        match body {
            Body::Prepare { ballot, .. } | Body::Accept { ballot, .. } | Body::Heartbeat { ballot, .. } => {
                *ballot < self.durable.hard_state.promised
            }
            Body::Promise { ballot, .. } => !asks(*ballot, Role::Candidate),
            Body::Accepted { ballot, ranges, .. } => {
                let counted = ranges.last().is_none_or(|range| range.last <= status.chosen);
                !asks(*ballot, Role::Leader) || (status.role == Role::Leader && counted)
            }
            _ => false,
        }
    }

    /// Whether a message changes nothing and is not answered.
    pub fn ignores(&self, message: &Message) -> bool {
        let outcome = self.act(&Action::Deliver(message.clone()), Fate::Waits);
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
    fn log(&self) -> BTreeMap<Index, Entry> {
        let mut log = self.durable.entries.clone();
        let unwritten = self.unwritten.iter().flat_map(|write| &write.entries);
        log.extend(unwritten.map(|entry| (entry.index, entry.clone())));
        log
    }

    /// One action. An assertion of the core that fails is a broken rule as well.
    pub fn act(&self, action: &Action, fate: Fate) -> Result<Outcome, Broken> {
        let acted = catch_unwind(AssertUnwindSafe(|| match action {
            Action::Deliver(message) => self.receive(message, fate),
            Action::Propose(command) => {
                let proposal = Proposal { command: command.clone(), deadline_ms: u64::MAX };
                self.step(Input::Propose(vec![proposal]), fate)
            }
            Action::Campaign(round) => self.campaign(*round, fate),
            Action::Repeat => self.repeat(),
            Action::Write => self.write_oldest(),
            Action::Crash => Ok(self.crash()),
        }));
        acted.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("an assertion of the core failed: {}", text.unwrap_or_default()))
        })
    }

    fn step(&self, input: Input, fate: Fate) -> Result<Outcome, Broken> {
        let mut node = self.clone();
        let mut batch = Batch::default();
        node.core.step(input, &mut batch);
        node.finish(batch, fate)
    }

    fn receive(&self, message: &Message, fate: Fate) -> Result<Outcome, Broken> {
        let mut outcome = self.step(Input::Message(message.clone()), fate)?;
        outcome.notes.learns = matches!(message.body, Body::Learn { .. }) && outcome.batch.chosen.is_some();
        Ok(outcome)
    }

    /// Time passes in steps that are no pause until it campaigns; then one peer would follow. Which peer, and
    /// what rounds it has seen, is left open: any that makes the ballot the wanted one.
    fn campaign(&self, round: Round, fate: Fate) -> Result<Outcome, Broken> {
        let mut node = Node { campaigns: self.campaigns + 1, ..self.clone() };
        let mut batch = Batch::default();
        let asked = node.wait_to_campaign(&mut batch)?;
        let me = self.id;
        let peer = if me == 1 { 2 } else { 1 };
        let promised = match round > asked.round {
            true => Ballot { round: round - 1, node: peer },
            false => Ballot::ZERO,
        };
        let body = Body::PreVoteReply { ballot: asked, granted: true, promised };
        node.core.step(Input::Message(Message { from: peer, to: me, body }), &mut batch);
        node.finish(batch, fate)
    }

    /// 2T at most until a leader steps down, and 2T until it campaigns.
    fn wait_to_campaign(&mut self, batch: &mut Batch) -> Result<Ballot, Broken> {
        for _ in 0..8 {
            self.now_ms += ELECTION_MS / 2;
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
    fn repeat(&self) -> Result<Outcome, Broken> {
        let mut copy = self.core.clone();
        let mut batch = Batch::default();
        copy.step(Input::Tick { now_ms: self.now_ms + 2 * HEARTBEAT_MS }, &mut batch);
        let changed = copy.status() != self.core.status() || batch.must_write();
        assert!(!changed, "some heartbeat intervals change more than waits: {batch}");
        // What waits for no write, but for older writes, says nothing new: it is a question that was asked.
        batch.messages.clear();
        batch.early.retain(|message| !matches!(message.body, Body::Forward { .. }));
        self.clone().finish(batch, Fate::Waits)
    }

    /// Carries out a batch, as far as its fate says.
    fn finish(mut self, batch: Batch, fate: Fate) -> Result<Outcome, Broken> {
        let ignored = self.core.status().ignored;
        if ignored > 0 {
            return Err("a core takes another's message for nonsense".into());
        }
        self.core.normalize();
        let notes = Notes::of(&batch);
        let mut sent = batch.early.clone();
        let Batch { hard_state, entries, messages, .. } = batch.clone();
        self.queue(Write { hard_state, entries, messages });
        sent.extend(batch.pages.iter().filter_map(|page| self.read(page)));
        if fate == Fate::AtOnce && !self.doomed {
            assert_eq!(self.unwritten.len(), 1, "nothing waits where all is written at once");
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
        let sent: Vec<Message> = sent.into_iter().filter_map(travels).collect();
        self.note_proposals(&sent)?;
        Ok(Outcome { node: self, sent, batch, notes })
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

    fn write_oldest(&self) -> Result<Outcome, Broken> {
        let mut node = self.clone();
        let mut sent = node.flush()?;
        while node.unwritten.first().is_some_and(Write::is_durable) {
            sent.extend(node.flush()?);
        }
        let sent = sent.into_iter().filter_map(travels).collect();
        Ok(Outcome { node, sent, batch: Batch::default(), notes: Notes::default() })
    }

    /// Makes the oldest batch durable and gives what it says then.
    fn flush(&mut self) -> Result<Vec<Message>, Broken> {
        let Write { hard_state, entries, messages } = self.unwritten.remove(0);
        if let Some(after) = hard_state {
            let before = std::mem::replace(&mut self.durable.hard_state, after);
            if before.promised > after.promised || before.chosen > after.chosen {
                return Err(format!("what is durable regressed from {before} to {after}"));
            }
            self.durable.highest_round = self.durable.highest_round.max(after.promised.round);
        }
        for entry in entries {
            self.durable.highest_round = self.durable.highest_round.max(entry.ballot.round);
            let vote = self.history.votes.entry((entry.index, entry.ballot));
            let first = vote.or_insert_with(|| entry.command.clone());
            if *first != entry.command {
                return Err(format!("two votes under one ballot: {first} and then {entry}"));
            }
            self.durable.entries.insert(entry.index, entry);
        }
        Ok(messages)
    }

    fn note_proposals(&mut self, sent: &[Message]) -> Result<(), Broken> {
        for message in sent {
            let Body::Accept { entries, .. } = &message.body else { continue };
            for Entry { index, ballot, command } in entries {
                let first = self.history.proposed.entry((*index, *ballot));
                let first = first.or_insert_with(|| command.clone());
                if first != command {
                    return Err(format!("ballot {ballot} proposes {first} and {command} at index {index}"));
                }
            }
        }
        Ok(())
    }

    fn read(&self, page: &Page) -> Option<Message> {
        let Page { to, first, chosen } = *page;
        let entries: Vec<Entry> = self.log().into_values().collect();
        let entries: Vec<Entry> =
            entries.into_iter().filter(|entry| (first..=chosen).contains(&entry.index)).collect();
        (!entries.is_empty()).then(|| Message { from: self.id, to, body: Body::Learn { chosen, entries } })
    }

    fn crash(&self) -> Outcome {
        let loses_a_write = self.unwritten.iter().any(|write| !write.is_durable());
        let start = Node::start(self.id, self.durable.clone(), self.history.clone());
        let node = Node { campaigns: self.campaigns, ..start };
        let notes = Notes { loses_a_write, ..Notes::default() };
        Outcome { node, sent: vec![], batch: Batch::default(), notes }
    }
}

impl Durable {
    fn core(&self, node: NodeId) -> Paxos {
        let Durable { hard_state, entries, highest_round } = self;
        let entries = entries.range(hard_state.chosen + 1..).map(|(_, entry)| entry.clone()).collect();
        let (hard_state, highest_round) = (*hard_state, *highest_round);
        let config = Config {
            node,
            voters: Voters::new((1..=NODES as u64).collect()),
            election_ms: ELECTION_MS,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries: MAX_WINDOW_ENTRIES,
            window_bytes: 1 << 20,
            seed: node,
        };
        let mut core =
            Paxos::new(config, Restored { hard_state, highest_round, entries, ..Restored::default() });
        core.normalize();
        core
    }
}

impl Write {
    fn is_durable(&self) -> bool {
        self.hard_state.is_none() && self.entries.is_empty()
    }

    /// Both as one that says nothing: what is never written has no order.
    fn then(self, later: Write) -> Write {
        let entries = self.entries.into_iter().chain(later.entries).map(|entry| (entry.index, entry));
        let entries: BTreeMap<Index, Entry> = entries.collect();
        let hard_state = later.hard_state.or(self.hard_state);
        Write { hard_state, entries: entries.into_values().collect(), messages: vec![] }
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
                _ => {}
            }
        }
        notes
    }
}

/// What the searched network carries; see `exhaustive.rs` for what it does not, and why.
fn travels(mut message: Message) -> Option<Message> {
    match &mut message.body {
        Body::PreVote { .. } | Body::PreVoteReply { .. } => None,
        Body::Refuse { .. } | Body::HeartbeatReply { .. } => None,
        Body::Heartbeat { sent_ms, .. } => {
            *sent_ms = 0;
            Some(message)
        }
        Body::Accepted { chosen, .. } => {
            *chosen = 0;
            Some(message)
        }
        _ => Some(message),
    }
}
