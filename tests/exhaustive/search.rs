//! The search: breadth first, every state once, until there are no more. Whole states are compared, not
//! hashes of them, so that "all" means all; and the first way to a broken rule is a shortest one.

use std::fmt::{self, Write};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};
use spaxos::consensus::protocols::ProtocolName;

use crate::bounds::Bounds;
use crate::node::{Action, Fate, Notes};
use crate::rules::Traits;
use crate::space::{Space, State};

/// The result of a search.
pub struct Report {
    pub bounds: Bounds,
    /// Different states.
    pub states: usize,
    /// Steps between them, those that lead to known states included.
    pub generated: u64,
    /// How many actions lead to the farthest state.
    pub depth: usize,
    pub reached: Reached,
    /// Different nodes, messages and views, of which the states are made.
    pub parts: (usize, usize, usize),
    pub time: Duration,
    /// The first broken rule, and a shortest way to it in plain words.
    pub broken: Option<String>,
}

/// What must happen somewhere, or the search shows little: after how many actions it first does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached([Option<usize>; 10]);

impl Reached {
    const NAMES: [&str; 10] = [
        "a value is chosen",
        "both values are",
        "two nodes lead at the same time",
        "a new leader adopts",
        "it fills a hole",
        "a leader is deposed",
        "a node catches up",
        "a crash loses a write",
        "a follower removes entries",
        "an old entry on a majority is not chosen",
    ];
    /// What happens with one protocol only, by place in the names.
    const PAXOS_ONLY: usize = 4;
    const RAFT_ONLY: usize = 8;

    fn note(&mut self, traits: Traits, notes: Notes, depth: usize) {
        let Traits { chosen, both_chosen, two_leaders, figure_8 } = traits;
        let Notes { adopts, fills_a_hole, steps_down, learns, loses_a_write, truncates } = notes;
        let now = [
            chosen,
            both_chosen,
            two_leaders,
            adopts,
            fills_a_hole,
            steps_down,
            learns,
            loses_a_write,
            truncates,
            figure_8,
        ];
        for (first, now) in self.0.iter_mut().zip(now) {
            if now && first.is_none() {
                *first = Some(depth);
            }
        }
    }

    /// What either reached, and as early.
    pub fn or(self, other: Reached) -> Reached {
        let mut firsts = self.0.into_iter().zip(other.0).map(|pair| match pair {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        });
        Reached([(); 10].map(|()| firsts.next().flatten()))
    }

    /// What did not happen, and can.
    pub fn missing(&self, protocol: ProtocolName) -> Vec<&'static str> {
        let possible = |place: usize| match protocol {
            ProtocolName::Paxos => place < Reached::RAFT_ONLY,
            ProtocolName::Raft => place != Reached::PAXOS_ONLY,
        };
        let names = Reached::NAMES.into_iter().zip(self.0).enumerate();
        let missing = names.filter(|(place, (_, first))| first.is_none() && possible(*place));
        missing.map(|(_, (name, _))| name).collect()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Reached::NAMES.into_iter().zip(self.0);
        let firsts: Vec<String> =
            names.filter_map(|(name, first)| Some(format!("{name} ({})", first?))).collect();
        write!(f, "{}", firsts.join(", "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { bounds, states, generated, depth, reached, parts, time, broken } = self;
        let (nodes, messages, views) = parts;
        writeln!(f, "{bounds}")?;
        let all = if broken.is_none() { "all" } else { "stopped after" };
        writeln!(
            f,
            "  {all} {states} states, {generated} steps, depth {depth}, {:.1} s",
            time.as_secs_f64()
        )?;
        writeln!(f, "  made of {nodes} node states, {messages} messages, {views} views")?;
        writeln!(f, "  reached (after actions): {reached}")?;
        write!(f, "{}", broken.as_deref().unwrap_or_default())
    }
}

/// All states that were found, in the order of their distance from the first one.
struct Found {
    states: Vec<State>,
    /// By state: the one from which it was found.
    parents: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Looks at every state within the bounds.
pub fn search(bounds: Bounds) -> Report {
    let start = Instant::now();
    let mut space = Space::new(bounds);
    let mut found = Found::new(space.first().expect("a client may propose"));
    let (mut generated, mut depth, mut level_end) = (0, 0, 1);
    let mut reached = Reached::default();
    let mut broken = None;
    let mut at = 0;
    while at < found.states.len() && broken.is_none() {
        if at == level_end {
            (depth, level_end) = (depth + 1, found.states.len());
        }
        let state = found.states[at];
        let next = space.check(state).and_then(|traits| {
            reached.note(traits, Notes::default(), depth);
            space.next(state, |_, step, after| {
                generated += 1;
                reached.note(Traits::default(), step.notes, depth + 1);
                found.add(after, at);
            })
        });
        broken = next.err().map(|rule| found.tell(&mut space, at, &rule));
        at += 1;
    }
    let states = found.states.len();
    let parts = space.parts();
    Report { bounds, states, generated, depth, reached, parts, time: start.elapsed(), broken }
}

impl Found {
    fn new(first: State) -> Found {
        let mut found = Found {
            states: vec![],
            parents: vec![],
            numbers: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        };
        found.add(first, 0);
        found
    }

    fn add(&mut self, state: State, parent: usize) {
        let hash = self.hasher.hash_one(state);
        if self.numbers.find(hash, |number| self.states[*number as usize] == state).is_some() {
            return;
        }
        let number = u32::try_from(self.states.len()).expect("fewer than 2^32 states");
        self.states.push(state);
        self.parents.push(parent as u32);
        let hash_of = |number: &u32| self.hasher.hash_one(self.states[*number as usize]);
        self.numbers.insert_unique(hash, number, hash_of);
    }

    /// The way from the first state to this one, and what is wrong there.
    fn tell(&self, space: &mut Space, last: usize, rule: &str) -> String {
        let mut way = vec![last];
        while let Some(at) = way.last().copied().filter(|at| *at > 0) {
            way.push(self.parents[at] as usize);
        }
        way.reverse();
        let mut text = String::new();
        for (number, pair) in (1..).zip(way.windows(2)) {
            let (from, to) = (self.states[pair[0]], self.states[pair[1]]);
            let mut taken = None;
            let next = space.next(from, |place, step, after| {
                if after == to && taken.is_none() {
                    taken = Some((place, step.clone()));
                }
            });
            next.expect("it was searched before");
            let (place, step) = taken.expect("the parent leads to it");
            writeln!(text, "{number:3}. {}", sentence(place as u64 + 1, &step.action, step.fate)).unwrap();
            let outcome = space
                .node(from, place)
                .act(&step.action, step.fate, space.bounds())
                .expect("it was done before");
            for line in outcome.batch.to_string().lines() {
                writeln!(text, "       {line}").unwrap();
            }
        }
        writeln!(text, "broken: {rule}").unwrap();
        text
    }
}

fn sentence(node: u64, action: &Action, fate: Fate) -> String {
    let what = match action {
        Action::Deliver(message) => format!("node {node} receives {message}"),
        Action::Propose(command) => format!("a client proposes {command} at node {node}"),
        Action::Campaign(round) => format!("node {node} hears no leader and prepares ballot {round}.{node}"),
        Action::Repeat => format!("node {node} repeats what may have been lost"),
        Action::Write => format!("node {node}'s oldest unwritten batch becomes durable"),
        Action::Crash => format!("node {node} crashes, loses what was not durable, and restarts"),
    };
    match fate {
        Fate::Never => format!("{what}; nothing it writes from here on becomes durable"),
        Fate::AtOnce | Fate::Waits => what,
    }
}
