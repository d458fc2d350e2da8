//! How a connection between two nodes opens: who says what, and what must be proved before the next word.
//!
//! ```text
//! dialler                                          listener
//!   │ ── Hello: ids, nonce ───────────────────────► │ are both members, do both have a key?
//!   │ ◄──────────────── Hello: ids, nonce, proof ── │
//!   │ proves the listener to be a member            │
//!   │ ── Introduction: directory, start…, proof ──► │ proves the dialler to be a member; judges it
//!   │ ◄────── Introduction, proof (or a Refusal) ── │
//!   │ judges as well                                │
//!   │ ── messages ────────────────────────────────► │
//! ```
//!
//! **Every proof covers both hellos (versions, node ids, nonces), the cluster's name, which end speaks,
//! what kind of greeting it is, and all that it says.** So a proof holds for one greeting of one end of
//! one connection:
//!
//! - *A replay fails*: each end chose a nonce for this connection, and every proof covers it.
//! - *A reflection fails*: what one end proved is no proof of the other end, even if it is carried there. A
//!   node proves itself only under its own id.
//! - *A refusal that is proved* was said by that member to this node, on this connection.
//! - The first proof goes to the dialler, which may be a stranger. It tells the stranger nothing but
//!   that the listener has the key: the text is made of what the stranger knows and 128 random bits.
//!
//! **In a cluster with a key no node tells a stranger its directory id or its start**: they are in the
//! introduction, and the dialler sends it after the listener has proved itself, the listener after the
//! dialler has. Neither does a stranger learn a value from a refusal: until an end has proved itself, it is
//! told a code.
//!
//! *One key for a connection*: the listener proves itself with its first key, the dialler must have that
//! one as well, and all other proofs use it. A key is replaced on all nodes in steps, each done on every
//! node before the next begins: `A`, then `A B`, then `B A`, then `B`. Two neighbours in this list always
//! have the first key of either.
//!
//! In a cluster without a key the same greetings pass without proofs: the nodes believe each other's
//! words, and refusals are codes. Left out: what a proof does not protect, namely the messages that
//! follow. Someone who can change what two members send each other can still do so, until there is TLS.

use bytes::Bytes;

use crate::consensus::types::NodeId;
use crate::wire::hello::{
    Greeting, Hello, Introduction, LOWEST_WIRE_VERSION, Nonce, Refusal, RefusalCode, Signed, WIRE_VERSION,
};
use crate::wire::proof::{Key, Proof};

use super::trust::Trust;

/// One end of a connection that opens.
pub struct Handshake {
    end: End,
    /// The listener's hello is made when it knows who calls.
    nonce: Nonce,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer that it calls.
    Dialler(NodeId),
    Listener,
}

enum Stage {
    /// Waits for the other end's hello.
    Hello,
    /// Waits for its introduction.
    Introduction(Session),
    Open(Session),
}

/// What follows from a greeting.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Say this, and wait for the answer.
    Say(Greeting),
    /// The other end may take part. A listener says its introduction first.
    Open {
        /// Who the other end is.
        theirs: Introduction,
        /// What must be sent before anything else.
        say: Option<Greeting>,
    },
}

/// Why the connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This node refuses the other end, and tells it so if `say` is there.
    Refused {
        /// For this node's log.
        refusal: Refusal,
        /// For the other end.
        say: Option<Box<Greeting>>,
    },
    /// The other end refuses this node.
    RefusedByPeer {
        /// What it said; without a text unless it proved it.
        refusal: Refusal,
        /// It takes this node's data directory for the wrong one.
        is_disowned: bool,
        /// If there are any, this node must end: these members know it by another data directory.
        end_on_word_of: Vec<NodeId>,
    },
    /// It says what no node says.
    Broken(String),
}

impl Handshake {
    /// The dialler's end, and what it says first. The nonce must be random.
    pub fn dial(trust: &Trust, peer: NodeId, nonce: Nonce) -> (Handshake, Greeting) {
        let handshake = Handshake { end: End::Dialler(peer), nonce, stage: Stage::Hello };
        let hello = Greeting::Hello(handshake.hello(trust, peer));
        (handshake, hello)
    }

    /// The listener's end. The nonce must be random.
    pub fn listen(nonce: Nonce) -> Handshake {
        Handshake { end: End::Listener, nonce, stage: Stage::Hello }
    }

    /// Takes what the other end says.
    pub fn take(&mut self, greeting: Greeting, trust: &mut Trust) -> Result<Reply, Failure> {
        match greeting {
            Greeting::Refusal(refusal) => Err(self.take_refusal(refusal, trust)),
            Greeting::Hello(hello) if matches!(self.stage, Stage::Hello) => match self.end {
                End::Listener => self.take_call(hello, trust),
                End::Dialler(peer) => self.take_answer(peer, hello, trust),
            },
            Greeting::Introduction(signed) if matches!(self.stage, Stage::Introduction(_)) => {
                self.take_introduction(&signed, trust)
            }
            _ => Err(Failure::Broken("it said a greeting at the wrong time".to_owned())),
        }
    }

    /// What a listener tells the other end of an open connection that it refuses now.
    pub fn refuse_open(&self, refusal: &Refusal) -> Option<Greeting> {
        match &self.stage {
            Stage::Open(session) => Some(session.refuse(self.side(), refusal)),
            _ => None,
        }
    }

    /// The listener is called.
    fn take_call(&mut self, theirs: Hello, trust: &Trust) -> Result<Reply, Failure> {
        let mut own = self.hello(trust, theirs.from);
        own.check_version(&theirs).map_err(refuse_stranger)?;
        trust.check_member(theirs.from).map_err(refuse_stranger)?;
        if theirs.to != own.from {
            let text =
                format!("node {} calls node {}, but this is node {}", theirs.from, theirs.to, own.from);
            return Err(refuse_stranger(Refusal::new(RefusalCode::OtherNode, text)));
        }
        check_key(&own, &theirs)?;
        let key = trust.keys().map(|keys| keys.first().clone());
        let session = Session { key, hellos: hellos(&theirs, &own, &trust.own().cluster) };
        own.proof = session.prove(Side::Listener, Said::Hello, &[]);
        self.stage = Stage::Introduction(session);
        Ok(Reply::Say(Greeting::Hello(own)))
    }

    /// The listener answers the dialler's hello.
    fn take_answer(&mut self, peer: NodeId, theirs: Hello, trust: &Trust) -> Result<Reply, Failure> {
        let own = self.hello(trust, peer);
        own.check_version(&theirs).map_err(refuse_stranger)?;
        if theirs.from != peer || theirs.to != own.from {
            return Err(Failure::Broken(format!(
                "node {} listens where node {peer} is expected, and it answers node {}",
                theirs.from, theirs.to
            )));
        }
        check_key(&own, &theirs)?;
        let mut session = Session { key: None, hellos: hellos(&own, &theirs, &trust.own().cluster) };
        if let Some(keys) = trust.keys() {
            let text = session.text(Side::Listener, Said::Hello, &[]);
            let key = theirs.proof.and_then(|proof| keys.find(&text, &proof));
            session.key = Some(key.ok_or_else(|| refuse_stranger(not_proven(peer)))?.clone());
        }
        let introduction = session.introduce(Side::Dialler, trust);
        self.stage = Stage::Introduction(session);
        Ok(Reply::Say(introduction))
    }

    fn take_introduction(&mut self, signed: &Signed, trust: &mut Trust) -> Result<Reply, Failure> {
        let Stage::Introduction(session) = std::mem::replace(&mut self.stage, Stage::Hello) else {
            return Err(Failure::Broken("it said an introduction at the wrong time".to_owned()));
        };
        let peer = session.peer(self.side());
        if !session.is_proven(self.side().other(), Said::Introduction, &signed.introduction, signed.proof) {
            return Err(refuse_stranger(not_proven(peer)));
        }
        let theirs = match Introduction::decode(signed.introduction.clone()) {
            Ok(theirs) if theirs.node == peer => theirs,
            Ok(theirs) => {
                return Err(Failure::Broken(format!(
                    "node {} introduces itself as node {}",
                    peer, theirs.node
                )));
            }
            Err(error) => return Err(Failure::Broken(error.to_string())),
        };
        let judged = trust.judge(&theirs);
        let say = match self.end {
            End::Listener => Some(match &judged {
                Ok(()) => session.introduce(Side::Listener, trust),
                Err(refusal) => session.refuse(Side::Listener, refusal),
            }),
            // The dialler goes without a word: the listener already takes what comes for messages.
            End::Dialler(_) => None,
        };
        if let Err(refusal) = judged {
            return Err(Failure::Refused { refusal, say: say.map(Box::new) });
        }
        if let End::Dialler(peer) = self.end {
            trust.handle_accepted(peer);
        }
        self.stage = Stage::Open(session);
        Ok(Reply::Open { theirs, say })
    }

    /// Only what is proved says more than its code, and only a listener can disown this node: it was
    /// called at its own address.
    fn take_refusal(&self, mut refusal: Refusal, trust: &mut Trust) -> Failure {
        let is_proven = match &self.stage {
            Stage::Hello => false,
            Stage::Introduction(session) | Stage::Open(session) => {
                let content = refusal_bytes(&refusal);
                let side = self.side().other();
                session.key.is_some() && session.is_proven(side, Said::Refusal, &content, refusal.proof)
            }
        };
        if !is_proven {
            refusal = Refusal { text: String::new(), proof: None, ..refusal };
        }
        let is_disowned = refusal.code == RefusalCode::WrongDirectory && self.end != End::Listener;
        let end_on_word_of = match self.end {
            End::Dialler(peer) if is_disowned => trust.handle_disowned(peer, is_proven),
            _ => Vec::new(),
        };
        Failure::RefusedByPeer { refusal, is_disowned, end_on_word_of }
    }

    fn side(&self) -> Side {
        match self.end {
            End::Dialler(_) => Side::Dialler,
            End::Listener => Side::Listener,
        }
    }

    fn hello(&self, trust: &Trust, to: NodeId) -> Hello {
        Hello {
            version: WIRE_VERSION,
            lowest_version: LOWEST_WIRE_VERSION,
            from: trust.own().node,
            to,
            nonce: self.nonce,
            has_key: trust.keys().is_some(),
            proof: None,
        }
    }
}

/// Which end speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Dialler = 1,
    Listener = 2,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Listener,
            Side::Listener => Side::Dialler,
        }
    }
}

/// What kind of greeting a proof is about.
#[derive(Clone, Copy)]
enum Said {
    Hello = 1,
    Introduction = 2,
    Refusal = 3,
}

/// What both ends know once both have said hello.
struct Session {
    /// `None` in a cluster without a key.
    key: Option<Key>,
    hellos: Hellos,
}

/// Both hellos and the cluster's name.
struct Hellos {
    dialler: NodeId,
    listener: NodeId,
    bytes: Vec<u8>,
}

impl Session {
    fn peer(&self, side: Side) -> NodeId {
        match side {
            Side::Dialler => self.hellos.listener,
            Side::Listener => self.hellos.dialler,
        }
    }

    /// What a proof covers. Everything before `content` has a fixed length or names its own.
    fn text(&self, side: Side, said: Said, content: &[u8]) -> Vec<u8> {
        let marks = [side as u8, said as u8];
        [b"spaxos peer\0", &marks[..], &self.hellos.bytes, content].concat()
    }

    fn prove(&self, side: Side, said: Said, content: &[u8]) -> Option<Proof> {
        self.key.as_ref().map(|key| key.prove(&self.text(side, said, content)))
    }

    /// In a cluster without a key there is nothing to prove.
    fn is_proven(&self, side: Side, said: Said, content: &[u8], proof: Option<Proof>) -> bool {
        let Some(key) = &self.key else { return true };
        proof.is_some_and(|proof| key.proves(&self.text(side, said, content), &proof))
    }

    fn introduce(&self, side: Side, trust: &Trust) -> Greeting {
        let introduction: Bytes = trust.own().encode();
        let proof = self.prove(side, Said::Introduction, &introduction);
        Greeting::Introduction(Signed { introduction, proof })
    }

    /// For an end that proved itself: with both values. Without a key nobody did.
    fn refuse(&self, side: Side, refusal: &Refusal) -> Greeting {
        match self.prove(side, Said::Refusal, &refusal_bytes(refusal)) {
            Some(proof) => Greeting::Refusal(Refusal { proof: Some(proof), ..refusal.clone() }),
            None => code_of(refusal),
        }
    }
}

fn hellos(dialler: &Hello, listener: &Hello, cluster: &str) -> Hellos {
    let mut bytes = Vec::new();
    for hello in [dialler, listener] {
        bytes.extend(hello.version.to_le_bytes());
        bytes.extend(hello.lowest_version.to_le_bytes());
        bytes.extend(hello.from.to_le_bytes());
        bytes.extend(hello.to.to_le_bytes());
        bytes.extend(hello.nonce);
    }
    bytes.extend((cluster.len() as u64).to_le_bytes());
    bytes.extend(cluster.as_bytes());
    Hellos { dialler: dialler.from, listener: listener.from, bytes }
}

fn refusal_bytes(refusal: &Refusal) -> Vec<u8> {
    [&refusal.code.number().to_le_bytes(), refusal.text.as_bytes()].concat()
}

fn check_key(own: &Hello, theirs: &Hello) -> Result<(), Failure> {
    if own.has_key == theirs.has_key {
        return Ok(());
    }
    let text = match own.has_key {
        true => format!("this node has a peers_key, and node {} has none", theirs.from),
        false => format!("node {} has a peers_key, and this node has none", theirs.from),
    };
    Err(refuse_stranger(Refusal::new(RefusalCode::Key, text + ": all nodes of a cluster need the same key")))
}

fn not_proven(peer: NodeId) -> Refusal {
    let text =
        format!("node {peer} has a different key (peers_key) or cluster name, or it is not node {peer}");
    Refusal::new(RefusalCode::Proof, text)
}

/// This node's log has both values, and the other end is told a code.
fn refuse_stranger(refusal: Refusal) -> Failure {
    let say = Some(Box::new(code_of(&refusal)));
    Failure::Refused { refusal, say }
}

fn code_of(refusal: &Refusal) -> Greeting {
    Greeting::Refusal(Refusal::new(refusal.code, ""))
}

#[cfg(test)]
mod tests;
