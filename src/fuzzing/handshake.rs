//! Someone between two members that open a connection: he hears all they say, has heard them before, and
//! passes on what he likes.

use bytes::{Bytes, BytesMut};

use crate::consensus::types::NodeId;
use crate::pipeline::handshake::{Failure, Handshake, Reply};
use crate::pipeline::trust::Trust;
use crate::store::Binding;
use crate::wire::frame::HEADER_BYTES;
use crate::wire::hello::{Greeting, Hello, Introduction, Nonce};
use crate::wire::proof::{Keys, MIN_KEY_BYTES};

use super::pieces::Script;

/// More greetings than two ends ever exchange.
const MAX_TURNS: usize = 12;

/// The first byte says whether there is a key and whether node 1 lost its disk; then comes what he does
/// with each greeting. With a key, an end believes nothing but what the other end said on this
/// connection.
pub fn peer_handshake(data: &[u8]) {
    let mut script = Script(data);
    let setting = script.byte();
    let (has_key, is_wiped) = (setting & 1 != 0, setting & 2 != 0);
    let earlier = Talk::new(has_key, false, [8, 9]).run(|said| said.last().cloned());
    let mut talk = Talk::new(has_key, is_wiped, [1, 2]);
    talk.run(|said| pass_on(&mut script, said, &earlier));
    if has_key {
        talk.ends.iter().for_each(End::check);
    } else {
        assert!(talk.ends.iter().all(|end| end.end_on_word_of.is_empty()), "one voice is no majority");
    }
}

/// What the other end hears instead of the last thing that was said.
fn pass_on(script: &mut Script<'_>, said: &[Greeting], earlier: &[Greeting]) -> Option<Greeting> {
    let last = said.last()?;
    match script.byte() % 5 {
        1 => {
            let mut payload = payload(last);
            let place = usize::from(script.short()) % payload.len();
            payload[place] ^= script.byte();
            Greeting::decode(payload.freeze()).ok()
        }
        2 => earlier.get(usize::from(script.byte()) % earlier.len()).cloned(),
        3 => {
            let length = usize::from(script.byte());
            Greeting::decode(Bytes::copy_from_slice(script.take(length))).ok()
        }
        4 => said.get(usize::from(script.byte()) % said.len()).cloned(),
        _ => Some(last.clone()),
    }
}

fn payload(greeting: &Greeting) -> BytesMut {
    let mut out = BytesMut::new();
    greeting.encode(&mut out).unwrap_or_else(|error| panic!("{greeting:?}: {error}"));
    out.split_off(HEADER_BYTES)
}

/// Node 1 dials node 2.
struct Talk {
    dialler: Handshake,
    listener: Handshake,
    hello: Option<Greeting>,
    trusts: [Trust; 2],
    ends: [End; 2],
}

/// What one end heard, and what the other one said.
#[derive(Default)]
struct End {
    heard: Vec<Greeting>,
    said_to_it: Vec<Greeting>,
    is_open: bool,
    end_on_word_of: Vec<NodeId>,
}

impl Talk {
    fn new(has_key: bool, is_wiped: bool, nonces: [u8; 2]) -> Talk {
        let own = |node| Introduction {
            node,
            cluster: "demo".into(),
            protocol: "paxos".into(),
            founding: 1,
            directory: u128::from(node) + if is_wiped && node == 1 { 100 } else { 0 },
            start: 7,
            client_address: String::new(),
        };
        let keys = has_key.then(|| Keys::new(vec![7; MIN_KEY_BYTES], None));
        let trust = |node: NodeId| {
            let others = (1..=3).filter(move |other| *other != node);
            let mut trust = Trust::new(own(node), keys.clone(), others);
            trust.bind(Binding { node: 3 - node, directory: u128::from(3 - node) });
            trust
        };
        let trusts = [trust(1), trust(2)];
        let nonce = |byte| -> Nonce { [byte; 16] };
        let (dialler, hello) = Handshake::dial(&trusts[0], 2, nonce(nonces[0]));
        let (listener, hello, ends) = (Handshake::listen(nonce(nonces[1])), Some(hello), Default::default());
        Talk { dialler, listener, hello, trusts, ends }
    }

    /// Runs until an end falls silent. Returns all that was said.
    fn run(&mut self, mut pass_on: impl FnMut(&[Greeting]) -> Option<Greeting>) -> Vec<Greeting> {
        let (mut said, mut next, mut dialler_speaks) = (vec![], self.hello.take(), true);
        while let Some(greeting) = next.take()
            && said.len() < MAX_TURNS
        {
            said.push(greeting.clone());
            let (place, handshake) =
                if dialler_speaks { (1, &mut self.listener) } else { (0, &mut self.dialler) };
            let end = &mut self.ends[place];
            end.said_to_it.push(greeting);
            let Some(heard) = pass_on(&said) else { break };
            end.heard.push(heard.clone());
            next = match handshake.take(heard, &mut self.trusts[place]) {
                Ok(Reply::Say(greeting)) => Some(greeting),
                Ok(Reply::Open { say, .. }) => {
                    end.is_open = true;
                    say
                }
                Err(Failure::Refused { say, .. }) => say.map(|it| *it),
                Err(Failure::RefusedByPeer { end_on_word_of, .. }) => {
                    end.end_on_word_of = end_on_word_of;
                    None
                }
                Err(Failure::Broken(_)) => None,
            };
            dialler_speaks = !dialler_speaks;
        }
        said
    }
}

impl End {
    /// What it believes was said to it.
    fn check(&self) {
        if self.is_open || !self.end_on_word_of.is_empty() {
            let heard: Vec<_> = self.heard.iter().map(plain).collect();
            let said: Vec<_> = self.said_to_it.iter().map(plain).collect();
            assert_eq!(heard, said, "an end believes what nobody said to it");
        }
    }
}

/// A dialler's hello proves nothing, so what stands there is not looked at.
fn plain(greeting: &Greeting) -> Greeting {
    match greeting {
        Greeting::Hello(hello) if hello.from == 1 => Greeting::Hello(Hello { proof: None, ..hello.clone() }),
        other => other.clone(),
    }
}
