//! The searched cluster: three nodes and the network between them, in as few bytes as it takes.
//!
//! The network is the set of all messages that were ever sent: each may arrive now, later, again, or never.
//! So what a node may do depends on itself and on what was sent to it: its *view*. Views are numbered, what
//! can happen in a view is worked out once, and a state of the cluster is three numbers and three counters.

use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashMap;
use spaxos::consensus::message::{Body, ClusterBody, Message};
use spaxos::consensus::types::NodeId;

use crate::bounds::{Bounds, Clients, Writes};
use crate::node::{Action, Broken, Fate, NODES, Node, Notes, Outcome};
use crate::rules::{Facts, Proposed, Traits, check, value};

/// A state of the cluster: the three nodes' views, and what was used of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    views: [u32; NODES],
    used: Used,
}

/// What was used of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Used {
    campaigns: u8,
    proposals: u8,
    crashes: u8,
}

/// A node, and what was ever sent to it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct View {
    node: u32,
    /// Numbers of messages, ascending.
    inbox: Rc<[u32]>,
}

/// What can happen to a node in a view.
#[derive(Clone)]
pub struct Move {
    pub action: Action,
    pub fate: Fate,
    /// What it costs of the bounds.
    cost: Used,
    /// The node's view after it.
    view: u32,
    /// For each place: the numbers of the messages that it sent there, as a numbered list; 0 is the empty
    /// one.
    sends: [u32; NODES],
    pub notes: Notes,
}

/// The numbered parts of states. Grows as the search goes on.
pub struct Space {
    bounds: Bounds,
    messages: Table<Message>,
    nodes: Table<Node>,
    /// For each node: what the rules look at.
    facts: Vec<u32>,
    all_facts: Table<Facts>,
    views: Table<View>,
    lists: Table<Vec<u32>>,
    /// For each view.
    moves: Vec<Option<Rc<[Move]>>>,
    /// For each node and message, or node and action of its own.
    steps: HashMap<(u32, u32), Rc<[Step]>>,
    received: HashMap<(u32, u32), u32>,
    /// For the facts of the nodes and how many proposals there were: what is true there, and that the rules
    /// hold.
    known: HashMap<([u32; NODES], u8), Traits>,
}

/// A step of a node, whatever else was sent to it.
struct Step {
    fate: Fate,
    node: u32,
    sent: Vec<u32>,
    notes: Notes,
}

impl Space {
    pub fn new(bounds: Bounds) -> Space {
        let mut lists = Table::default();
        lists.number(vec![]);
        Space {
            bounds,
            messages: Table::default(),
            nodes: Table::default(),
            facts: vec![],
            all_facts: Table::default(),
            views: Table::default(),
            lists,
            moves: vec![],
            steps: HashMap::new(),
            received: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Three nodes that start for the first time.
    pub fn first(&mut self) -> Result<State, Broken> {
        let mut state = State { views: [0; NODES], used: Used::default() };
        for (place, id) in (1..=NODES as NodeId).enumerate() {
            let mut node = Node::new(id, &self.bounds);
            if self.bounds.clients == Clients::First && id <= self.bounds.proposals.into() {
                state.used.proposals += 1;
                let value = value(id, id, self.bounds.value_bytes);
                node = node.act(&Action::Propose(value), Fate::Waits, &self.bounds)?.node;
            }
            let node = self.number_node(node);
            state.views[place] = self.number_view(View { node, inbox: [].into() });
        }
        Ok(state)
    }

    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// How many different nodes, messages and views came up.
    pub fn parts(&self) -> (usize, usize, usize) {
        (self.nodes.len(), self.messages.len(), self.views.len())
    }

    /// All that can happen next, with the place of the node to which it does.
    pub fn next(&mut self, state: State, mut visit: impl FnMut(usize, &Move, State)) -> Result<(), Broken> {
        let bounds = self.bounds;
        for place in 0..NODES {
            let moves = self.moves(state.views[place])?;
            for step in moves.iter().filter(|step| step.is_within(&bounds, state.used)) {
                let mut after = State { used: state.used.plus(step.cost), ..state };
                after.views[place] = step.view;
                for (other, list) in step.sends.into_iter().enumerate() {
                    if list > 0 && other != place {
                        after.views[other] = self.receive(after.views[other], list);
                    }
                }
                visit(place, step, after);
            }
        }
        Ok(())
    }

    /// All that can happen in a view, except for what would change nothing.
    fn moves(&mut self, view: u32) -> Result<Rc<[Move]>, Broken> {
        if let Some(moves) = &self.moves[view as usize] {
            return Ok(moves.clone());
        }
        let View { node, inbox } = self.views.at(view).clone();
        let mut moves = vec![];
        for message in inbox.iter() {
            let deliver = Action::Deliver(self.messages.at(*message).clone());
            for step in self.steps((node, *message), &deliver)?.iter() {
                moves.extend(self.apply(view, Some(*message), &deliver, step));
            }
        }
        for (number, action) in (0..).zip(self.own_actions(node)) {
            for step in self.steps((node, u32::MAX - number), &action)?.iter() {
                moves.extend(self.apply(view, None, &action, step));
            }
        }
        let moves: Rc<[Move]> = moves.into();
        self.moves[view as usize] = Some(moves.clone());
        Ok(moves)
    }

    fn own_actions(&self, node: u32) -> Vec<Action> {
        let node = self.nodes.at(node);
        let mut actions = vec![];
        let proposes = match self.bounds.clients {
            Clients::First => false,
            Clients::AtLeaders => node.leads().is_some(),
            Clients::Anywhere => true,
        };
        if proposes {
            let numbers = 1..=u64::from(self.bounds.proposals);
            let bytes = self.bounds.value_bytes;
            actions.extend(numbers.map(|number| Action::Propose(value(number, node.id(), bytes))));
        }
        if node.id() <= self.bounds.campaigners && node.campaigns() < self.bounds.campaigns_each {
            let next = node.highest_round() + 1;
            let last = if self.bounds.jumps { self.bounds.rounds } else { next.min(self.bounds.rounds) };
            actions.extend((next..=last).map(Action::Campaign));
        }
        if self.bounds.repeats {
            actions.push(Action::Repeat);
        }
        if node.has_unwritten() && !node.is_doomed() {
            actions.push(Action::Write);
        }
        if self.bounds.crashes > 0 {
            actions.push(Action::Crash);
        }
        actions
    }

    /// What an action does to a node, for each fate that its write may have.
    fn steps(&mut self, key: (u32, u32), action: &Action) -> Result<Rc<[Step]>, Broken> {
        if let Some(steps) = self.steps.get(&key) {
            return Ok(steps.clone());
        }
        let (node, _) = key;
        let mut steps = vec![];
        for fate in self.fates(node, action) {
            let Outcome { node: after, sent, notes, batch } =
                self.nodes.at(node).act(action, fate, &self.bounds)?;
            let moot = fate == Fate::Never && (!batch.must_write() || after.leads().is_none());
            if moot {
                continue;
            }
            let node = self.number_node(after);
            let sent = sent.into_iter().map(|message| self.messages.number(message)).collect();
            steps.push(Step { fate, node, sent, notes });
        }
        let steps: Rc<[Step]> = steps.into();
        self.steps.insert(key, steps.clone());
        Ok(steps)
    }

    fn fates(&self, node: u32, action: &Action) -> Vec<Fate> {
        let writes = !matches!(action, Action::Repeat | Action::Write | Action::Crash);
        let may_be_lost = self.bounds.crashes > 0 && writes && !self.nodes.at(node).is_doomed();
        match (self.bounds.writes == Writes::Separate, may_be_lost) {
            (true, _) => vec![Fate::Waits],
            (false, true) => vec![Fate::AtOnce, Fate::Never],
            (false, false) => vec![Fate::AtOnce],
        }
    }

    /// A node's step in a view: what it sends to itself comes into its inbox; a crash loses what was in there
    /// of that. A Forward arrives once: each further arrival would be a new proposal.
    fn apply(&mut self, view: u32, message: Option<u32>, action: &Action, step: &Step) -> Option<Move> {
        let View { node, inbox } = self.views.at(view).clone();
        let mut inbox: Vec<u32> = inbox.to_vec();
        if matches!(action, Action::Deliver(Message { body: Body::Cluster(ClusterBody::Forward { .. }), .. }))
        {
            inbox.retain(|number| Some(*number) != message);
        }
        if *action == Action::Crash {
            inbox.retain(|number| self.messages.at(*number).from != self.messages.at(*number).to);
        }
        let mut lists: [Vec<u32>; NODES] = Default::default();
        for number in &step.sent {
            lists[self.messages.at(*number).to as usize - 1].push(*number);
        }
        let place = self.nodes.at(node).id() as usize - 1;
        inbox.append(&mut lists[place]);
        let cost = Used {
            campaigns: u8::from(matches!(action, Action::Campaign(_))),
            proposals: u8::from(matches!(action, Action::Propose(_))),
            crashes: match (action, step.fate) {
                // A doomed node has paid.
                (Action::Crash, _) => u8::from(!self.nodes.at(node).is_doomed()),
                (_, Fate::Never) => 1,
                _ => 0,
            },
        };
        self.drop_dead(step.node, &mut inbox);
        let after = self.number_view(View { node: step.node, inbox: sorted(inbox) });
        let sends = lists.map(|list| self.lists.number(sorted(list).to_vec()));
        let moot = after == view && sends == [0; NODES];
        let (action, fate, notes) = (action.clone(), step.fate, step.notes);
        (!moot).then_some(Move { action, fate, cost, view: after, sends, notes })
    }

    fn receive(&mut self, view: u32, list: u32) -> u32 {
        if let Some(after) = self.received.get(&(view, list)) {
            return *after;
        }
        let View { node, inbox } = self.views.at(view).clone();
        let mut inbox = inbox.iter().chain(self.lists.at(list)).copied().collect();
        self.drop_dead(node, &mut inbox);
        let after = self.number_view(View { node, inbox: sorted(inbox) });
        self.received.insert((view, list), after);
        after
    }

    /// Drops messages that can no longer mean anything to a node, whatever comes; each is tried one last time
    /// before.
    fn drop_dead(&self, node: u32, inbox: &mut Vec<u32>) {
        let node = self.nodes.at(node);
        inbox.retain(|number| {
            let message = self.messages.at(*number);
            let dead = node.outlives(&message.body, self.bounds.campaigns_each);
            !dead || !node.ignores(message, &self.bounds)
        });
    }

    fn number_node(&mut self, node: Node) -> u32 {
        let number = self.nodes.number(node);
        if number as usize == self.facts.len() {
            let facts = Facts::of(self.nodes.at(number));
            self.facts.push(self.all_facts.number(facts));
        }
        number
    }

    fn number_view(&mut self, view: View) -> u32 {
        let number = self.views.number(view);
        self.moves.resize(self.views.len(), None);
        number
    }

    /// The rules that several nodes must keep together, and what is worth counting.
    pub fn check(&mut self, state: State) -> Result<Traits, Broken> {
        let key = (self.facts_of(state), state.used.proposals);
        if let Some(traits) = self.known.get(&key) {
            return Ok(*traits);
        }
        let proposed = Proposed { values: key.1, bytes: self.bounds.value_bytes };
        let traits = check(key.0.map(|facts| self.all_facts.at(facts)), proposed)?;
        self.known.insert(key, traits);
        Ok(traits)
    }

    fn facts_of(&self, state: State) -> [u32; NODES] {
        state.views.map(|view| self.facts[self.views.at(view).node as usize])
    }

    /// The node at a place, to describe what it does.
    pub fn node(&self, state: State, place: usize) -> &Node {
        self.nodes.at(self.views.at(state.views[place]).node)
    }
}

impl Move {
    fn is_within(&self, bounds: &Bounds, used: Used) -> bool {
        let after = used.plus(self.cost);
        let in_turn = match &self.action {
            Action::Propose(command) => command.request.number == u64::from(after.proposals),
            _ => true,
        };
        in_turn
            && after.campaigns <= bounds.campaigns
            && after.proposals <= bounds.proposals
            && after.crashes <= bounds.crashes
    }
}

impl Used {
    fn plus(self, more: Used) -> Used {
        Used {
            campaigns: self.campaigns + more.campaigns,
            proposals: self.proposals + more.proposals,
            crashes: self.crashes + more.crashes,
        }
    }
}

fn sorted(mut numbers: Vec<u32>) -> Rc<[u32]> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into()
}

/// Numbers different things from 0 on, in the order in which they come up.
struct Table<T> {
    numbers: HashMap<Rc<T>, u32>,
    things: Vec<Rc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { numbers: HashMap::new(), things: vec![] }
    }
}

impl<T: Eq + Hash> Table<T> {
    fn number(&mut self, thing: T) -> u32 {
        if let Some(number) = self.numbers.get(&thing) {
            return *number;
        }
        let (number, thing) = (self.things.len() as u32, Rc::new(thing));
        self.things.push(thing.clone());
        self.numbers.insert(thing, number);
        number
    }

    fn at(&self, number: u32) -> &T {
        &self.things[number as usize]
    }

    fn len(&self) -> usize {
        self.things.len()
    }
}
