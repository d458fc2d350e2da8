//! How nodes of the simulation meet: the production handshake, greeting by greeting, and the production
//! rule of whose messages count. The network adds no delay here: a handshake is one step.

use crate::consensus::types::NodeId;
use crate::pipeline::handshake::{Failure, Handshake, Reply};
use crate::pipeline::trust::Admission;
use crate::store::Binding;
use crate::wire::frame::FrameDecoder;
use crate::wire::hello::{Greeting, MAX_GREETING_BYTES, Refusal, RefusalCode};

use super::counts::Count;
use super::invariant::{Invariant, broken, hold};
use super::world::{Flight, Thread, World};

/// The most messages of one node that wait for bindings; more are dropped.
const HELD_CAPACITY: usize = 500;

/// How a dialler and a listener parted.
pub(super) enum Met {
    /// Both ends have accepted each other.
    Open,
    /// One end refuses the other.
    Refused,
    /// The dialler must end: it believes that its data directory is the wrong one.
    Ends(String),
}

impl World {
    /// A node greets another that it has reached.
    pub(super) fn shake_hands(&mut self, from: NodeId, to: NodeId) -> Met {
        let nonces = [self.network.nonce(), self.network.nonce()];
        let (mut dialler, hello) = Handshake::dial(&self.running(from).trust, to, nonces[0]);
        let mut listener = Handshake::listen(nonces[1]);
        let (mut met, mut said, mut next) = (Met::Refused, vec![], Some(hello));
        while let Some(greeting) = next.take() {
            let greeting = self.greeting_by_wire(&greeting);
            let (id, peer, handshake) = match said.len() % 2 {
                0 => (to, from, &mut listener),
                _ => (from, to, &mut dialler),
            };
            said.push(greeting.clone());
            match handshake.take(greeting, &mut self.running(id).trust) {
                Ok(Reply::Say(greeting)) => next = Some(greeting),
                Ok(Reply::Open { say, .. }) => {
                    met = if id == from { Met::Open } else { met };
                    next = say;
                }
                Err(Failure::Refused { refusal, say }) => {
                    self.check_refusal(id, peer, &refusal);
                    next = say.map(|it| *it);
                }
                Err(Failure::RefusedByPeer { refusal, end_on_word_of, .. }) => {
                    if !end_on_word_of.is_empty() {
                        met = Met::Ends(format!("nodes {end_on_word_of:?}: {refusal}"));
                    }
                }
                Err(Failure::Broken(why)) => {
                    broken(Invariant::Honesty, format_args!("node {peer} says to node {id}: {why}"))
                }
            }
        }
        if matches!(met, Met::Open) {
            self.network.overhear(from, to, said);
        }
        met
    }

    fn greeting_by_wire(&mut self, greeting: &Greeting) -> Greeting {
        self.buffer.clear();
        let encoded = greeting.encode(&mut self.buffer);
        hold!(Honesty, encoded.is_ok(), "{greeting:?} cannot be encoded: {encoded:?}");
        let frame = FrameDecoder::new(MAX_GREETING_BYTES).decode(&mut &self.buffer[..]);
        let decoded = frame.ok().flatten().map(Greeting::decode);
        hold!(Honesty, decoded == Some(Ok(greeting.clone())), "{greeting:?} is decoded as {decoded:?}");
        greeting.clone()
    }

    /// Members of one cluster differ in nothing, unless a disk was wiped.
    fn check_refusal(&self, id: NodeId, peer: NodeId, refusal: &Refusal) {
        hold!(
            Honesty,
            refusal.code == RefusalCode::WrongDirectory,
            "node {id} refuses node {peer}: {refusal}"
        );
        hold!(
            Refusal,
            self.node(peer).is_harmed,
            "node {id} refuses node {peer}, whose disk nobody harmed: {refusal}"
        );
    }

    /// Returns a core's message if it counts at the node that it is for; otherwise it waits for a
    /// binding, or is dropped.
    pub(super) fn admit(&mut self, flight: Flight) -> Option<Flight> {
        let (from, to) = (flight.message.from(), flight.message.to());
        match self.running(to).trust.admit(from, flight.directory) {
            Admission::Counts => {
                let bound = self.node(to).account.bound.get(&from).copied();
                hold!(
                    Refusal,
                    bound == Some(flight.directory),
                    "node {to} takes a message of node {from} with directory {:x}, but has bound it durably to \
                     {bound:x?}",
                    flight.directory
                );
                return Some(flight);
            }
            Admission::BindsFirst(binding) => self.hold(to, flight, binding),
            Admission::Refused => {
                let directory = flight.directory;
                hold!(
                    Refusal,
                    self.node(from).is_harmed,
                    "node {to} refuses a message of node {from} with directory {directory:x}, though nobody harmed its \
                     disk"
                );
                self.drop_message(to, flight.id, "it is from a different disk", Count::Lost);
            }
        }
        None
    }

    fn hold(&mut self, id: NodeId, flight: Flight, binding: Binding) {
        let running = self.running(id);
        if running.unbound.len() >= HELD_CAPACITY {
            return self.drop_message(id, flight.id, "too much waits for its binding", Count::NoRoom);
        }
        running.unbound.push(flight);
        // A binding may be lost by a failed write. The next message asks again.
        let _ = running.inbox.bindings.try_push(binding);
        self.wake(id, Thread::Machine);
    }

    /// A binding of node `id` is durable: what waited for it is taken in.
    pub(super) fn handle_bound(&mut self, id: NodeId, binding: Binding) {
        let directory = self.node(binding.node).directory;
        hold!(
            Strangers,
            binding.directory == directory,
            "node {id} binds node {} to directory {:x}, but its disk is {directory:x}",
            binding.node,
            binding.directory
        );
        self.node_mut(id).account.bound.insert(binding.node, binding.directory);
        let held = std::mem::take(&mut self.running(id).unbound);
        let (released, held) = held.into_iter().partition(|flight| flight.message.from() == binding.node);
        self.running(id).unbound = held;
        let released: Vec<Flight> = released;
        released.into_iter().for_each(|flight| self.take_in(flight));
    }
}
