//! Messages from peers for a core of either protocol, and time: nothing that they say makes it panic or grow
//! without limit.

use bytes::Bytes;

use crate::consensus::batch::Batch;
use crate::consensus::config::{Config, Restored};
use crate::consensus::message::Message;
use crate::consensus::protocol::{Input, Proposal, Protocol};
use crate::consensus::protocols::ProtocolName;
use crate::consensus::quorum::Voters;
use crate::consensus::types::Command;
use crate::wire::message::{Decoded, PeerMessage, decode_message};

use super::pieces::Script;

/// No input may make a core work for longer: a leader fills a window of 65,536 indexes in one step.
const STEPS: usize = 60;

/// A Paxos core.
pub fn peer_core(data: &[u8]) {
    run(ProtocolName::Paxos, data);
}

/// A Raft core.
pub fn peer_core_raft(data: &[u8]) {
    run(ProtocolName::Raft, data);
}

/// The core of node 1 of 3. The input is a script: for each step its kind, a byte, and what it needs (time,
/// a reqid, or the length of a message and its payload as on the wire).
fn run(protocol: ProtocolName, data: &[u8]) {
    let mut script = Script(data);
    let mut core = protocol.core(config(), Restored::default());
    let mut now_ms = 0;
    let mut own: Vec<Message> = vec![];
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        let mut batch = Batch::default();
        match script.byte() % 8 {
            0 => {
                now_ms += u64::from(script.byte());
                core.step(Input::Tick { now_ms }, &mut batch);
            }
            1 => own.drain(..).for_each(|message| core.step(Input::Message(message), &mut batch)),
            2 => {
                let command = Command::value(u64::from(script.byte()) + 1, 1, "v");
                let deadline_ms = now_ms + 200;
                core.step(Input::Propose(vec![Proposal { command, deadline_ms }]), &mut batch);
            }
            _ => {
                let length = usize::from(script.short() % 1024);
                let payload = Bytes::copy_from_slice(script.take(length));
                if let Ok(Decoded::Message(PeerMessage::Core(message))) = decode_message(payload) {
                    // What the connection checks: it is from the peer at the other end, and for this node.
                    let from = if message.from.is_multiple_of(2) { 2 } else { 3 };
                    core.step(Input::Message(Message { from, to: 1, ..message }), &mut batch);
                }
            }
        }
        own.extend(batch.early.iter().chain(&batch.messages).filter(|message| message.to == 1).cloned());
        check(core.as_ref(), &batch);
    }
}

fn check(core: &dyn Protocol, batch: &Batch) {
    let status = core.status();
    assert!(status.compacted <= status.chosen && status.chosen <= status.last, "{status:?}");
    assert!(status.last - status.chosen <= 70_000, "{status:?}");
    assert!(batch.early.len() + batch.messages.len() < 1000, "a batch without limit: {status:?}");
}

fn config() -> Config {
    Config {
        node: 1,
        voters: Voters::new(vec![1, 2, 3]),
        election_ms: 100,
        heartbeat_ms: 20,
        window_entries: 8,
        window_bytes: 10_000,
        seed: 1,
    }
}
