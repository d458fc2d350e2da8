//! What the tests of messages send: random values, and fixed ones.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::consensus::message::{Body, Message};
use crate::consensus::types::{Ballot, Command, Entry, Index, Kind, RequestId};
use crate::wire::frame::{FrameDecoder, MAX_FRAME_BYTES};
use crate::wire::message::{
    MAX_INDEX, MessageError, Service, decode_message, encode_message, encode_service,
};

pub fn frame(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    encode_message(message, &mut out).unwrap();
    out
}

pub fn payload(message: &Message) -> Bytes {
    FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut &frame(message)[..]).unwrap().unwrap()
}

pub fn service_payload(service: &Service) -> Bytes {
    let mut out = BytesMut::new();
    encode_service(service, &mut out).unwrap();
    FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut &out[..]).unwrap().unwrap()
}

/// Checks that impossible contents are refused, with a text that contains `why`.
pub fn assert_refused(body: impl Into<Body>, why: &str) {
    let body = body.into();
    let shown = body.to_string();
    match decode_message(payload(&Message { from: 1, to: 2, body })) {
        Err(MessageError::Nonsense(text)) => assert!(text.contains(why), "{shown}: {text}"),
        other => panic!("{shown} is impossible, but was read as {other:?}"),
    }
}

pub fn ballot(round: u64) -> Ballot {
    Ballot { round, node: 1 }
}

pub fn entry(index: Index) -> Entry {
    Entry { index, ballot: ballot(1), command: Command::value(index, 1, "v") }
}

pub fn ballots() -> impl Strategy<Value = Ballot> {
    (1..=u64::MAX, any::<u64>()).prop_map(|(round, node)| Ballot { round, node })
}

pub fn commands() -> impl Strategy<Value = Command> {
    let kinds = any::<u8>().prop_map(Kind::from_code);
    let payloads = prop::collection::vec(any::<u8>(), 0..200);
    (any::<u128>(), 1..=u64::MAX, 1..=u64::MAX, kinds, payloads).prop_map(
        |(session, number, from, kind, payload)| Command {
            request: RequestId { session, number },
            from,
            kind,
            payload: payload.into(),
        },
    )
}

/// Some entries from above `first` on, `gaps` apart.
pub fn entries(first: Index, gaps: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec((gaps, ballots(), commands()), 0..20).prop_map(move |items| {
        let mut index = first;
        let entry = |(gap, ballot, command)| {
            index += gap;
            Entry { index, ballot, command }
        };
        items.into_iter().map(entry).collect()
    })
}

pub fn indexes() -> std::ops::RangeInclusive<Index> {
    1..=MAX_INDEX
}

pub fn watermarks() -> std::ops::RangeInclusive<Index> {
    0..=MAX_INDEX / 2
}

/// The ballots of recorded frames.
pub const BALLOT: Ballot = Ballot { round: 300, node: 2 };
pub const OLDER: Ballot = Ballot { round: 299, node: 1 };
pub const PROMISED: Ballot = Ballot { round: 301, node: 3 };

/// A command with all its fields, for recorded frames.
pub fn full_command() -> Command {
    let session = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
    let request = RequestId { session, number: 7 };
    Command { request, from: 3, kind: Kind::Value, payload: Bytes::from_static(b"value") }
}

pub fn full_entry(index: Index, ballot: Ballot) -> Entry {
    Entry { index, ballot, command: full_command() }
}
