//! Strangers: someone who has overheard all that nodes said when they met, knows all names and addresses,
//! and has no key.
//!
//! He listens at the address of a node that does not answer, and he calls nodes in the name of others. In
//! a cluster with a key nothing must come of it. Without a key he may open a connection, but no hello of
//! his binds a node id, and one liar ends nobody. Left out: what he can do in a cluster without a key,
//! where he may lie at several addresses, and send messages of the core.

use crate::consensus::types::NodeId;
use crate::pipeline::handshake::{Failure, Handshake};
use crate::pipeline::trust::Admission;
use crate::wire::hello::{
    Greeting, Hello, Introduction, LOWEST_WIRE_VERSION, Refusal, RefusalCode, Signed, WIRE_VERSION,
};

use super::counts::Count;
use super::invariant::hold;
use super::world::World;

/// He comes in one of this many chances.
const RARELY: u64 = 4;

/// The data directory that he says he has.
const DIRECTORY: u128 = 0x5712_a46e;

impl World {
    /// He may listen at the address of a node that does not answer.
    pub(super) fn stranger_listens(&mut self, from: NodeId, to: NodeId) {
        if self.network.strangers.between(0, RARELY) > 0 {
            return;
        }
        self.counts.add(Count::Strangers);
        let has_key = self.running(from).trust.keys().is_some();
        let is_harmed = self.node(from).is_harmed;
        // Without a key he lies at one address: a majority of liars would be believed.
        let may_lie = has_key || (to == 1 && self.nodes.len() > 2 && !is_harmed);
        let said = match self.network.strangers.between(0, 3) {
            0 if may_lie => vec![lie()],
            1 => self.overheard(from, to, 1),
            _ => self.made_up(to, from, has_key),
        };
        let nonce = self.network.nonce();
        let (mut dialler, _) = Handshake::dial(&self.running(from).trust, to, nonce);
        for greeting in said {
            match dialler.take(greeting, &mut self.running(from).trust) {
                Ok(reply) => {
                    hold!(Strangers, !has_key, "node {from} takes a stranger for node {to}: {reply:?}");
                }
                Err(Failure::RefusedByPeer { end_on_word_of, .. }) => {
                    let ends = !end_on_word_of.is_empty();
                    hold!(
                        Strangers,
                        !ends,
                        "node {from} ends because a stranger says so in the name of node {to}"
                    );
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// He may call node `to` in the name of node `from`.
    pub(super) fn stranger_dials(&mut self, from: NodeId, to: NodeId) {
        if self.network.strangers.between(0, RARELY) > 0 {
            return;
        }
        self.counts.add(Count::Strangers);
        let has_key = self.running(to).trust.keys().is_some();
        let said = match self.network.strangers.between(0, 2) {
            0 => self.overheard(from, to, 0),
            _ => self.made_up(from, to, has_key),
        };
        let mut listener = Handshake::listen(self.network.nonce());
        // The first answer goes to anyone.
        for (place, greeting) in said.into_iter().enumerate() {
            match listener.take(greeting, &mut self.running(to).trust) {
                Ok(reply) => {
                    hold!(
                        Strangers,
                        !has_key || place == 0,
                        "node {to} takes a stranger for node {from}: {reply:?}"
                    );
                }
                Err(_) => break,
            }
        }
        let admission = self.running(to).trust.admit(from, DIRECTORY);
        let is_bound = admission == Admission::Counts;
        hold!(Strangers, !is_bound, "node {to} has bound node {from} to a stranger's directory");
    }

    /// What one end said when these nodes met last.
    fn overheard(&self, from: NodeId, to: NodeId, end: usize) -> Vec<Greeting> {
        self.network.overheard(from, to).iter().skip(end).step_by(2).cloned().collect()
    }

    /// What node `from` could say to node `to`, without the key.
    fn made_up(&mut self, from: NodeId, to: NodeId, has_key: bool) -> Vec<Greeting> {
        let nonce = self.network.nonce();
        let proof = has_key.then_some([nonce; 2].concat().try_into().unwrap_or_default());
        let (version, lowest_version) = (WIRE_VERSION, LOWEST_WIRE_VERSION);
        let hello = Hello { version, lowest_version, from, to, nonce, has_key, proof };
        let (directory, start) = (DIRECTORY, 1);
        let introduction =
            Introduction { node: from, directory, start, ..self.running(to).trust.own().clone() }.encode();
        vec![Greeting::Hello(hello), Greeting::Introduction(Signed { introduction, proof })]
    }
}

fn lie() -> Greeting {
    Greeting::Refusal(Refusal { proof: Some([7; 32]), ..Refusal::new(RefusalCode::WrongDirectory, "") })
}
