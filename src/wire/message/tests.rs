//! Messages as bytes: identity, mixed versions, hostile bytes, and what it costs.

mod cluster;
mod paxos;
mod raft;
mod samples;
mod service;

use std::mem::size_of;
use std::time::Instant;

use proptest::prelude::*;
use prost::Message as _;

use self::samples::{ballot, entry, frame, payload};
use super::*;
use crate::consensus::message::{Body, ClusterBody, PaxosBody, RaftBody, Range};
use crate::consensus::types::{Ballot, Command, Entry, Kind};
use crate::wire::frame::{FrameDecoder, HEADER_BYTES, MAX_FRAME_BYTES};

/// The record as prost's derive has it. Any other protobuf library would read and write the same.
#[derive(Clone, PartialEq, prost::Message)]
struct Twin {
    #[prost(uint64, tag = "1")]
    kind: u64,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint64, tag = "3")]
    to: u64,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<TwinEntry>,
    #[prost(uint64, repeated, tag = "5")]
    ranges: Vec<u64>,
    #[prost(message, repeated, tag = "6")]
    commands: Vec<TwinEntry>,
    #[prost(uint64, tag = "7")]
    ballot_round: u64,
    #[prost(uint64, tag = "8")]
    ballot_node: u64,
    #[prost(uint64, tag = "9")]
    promised_round: u64,
    #[prost(uint64, tag = "10")]
    promised_node: u64,
    #[prost(uint64, tag = "11")]
    chosen: u64,
    #[prost(uint64, tag = "12")]
    compacted: u64,
    #[prost(uint64, tag = "13")]
    first: u64,
    #[prost(uint64, tag = "14")]
    last: u64,
    #[prost(uint64, tag = "15")]
    sent_ms: u64,
    #[prost(bool, tag = "16")]
    more: bool,
    #[prost(bool, tag = "17")]
    granted: bool,
    #[prost(uint64, tag = "18")]
    position_index: u64,
    #[prost(uint64, tag = "19")]
    position_round: u64,
    #[prost(uint64, tag = "20")]
    number: u64,
    #[prost(message, repeated, tag = "21")]
    points: Vec<TwinPoint>,
    /// What a newer version might add.
    #[prost(message, optional, tag = "900")]
    future: Option<TwinEntry>,
    #[prost(uint64, repeated, tag = "901")]
    futures: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TwinPoint {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    hash_high: u64,
    #[prost(fixed64, tag = "3")]
    hash_low: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TwinEntry {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    ballot_round: u64,
    #[prost(uint64, tag = "3")]
    ballot_node: u64,
    #[prost(fixed64, tag = "4")]
    session_high: u64,
    #[prost(fixed64, tag = "5")]
    session_low: u64,
    #[prost(uint64, tag = "6")]
    number: u64,
    #[prost(uint64, tag = "7")]
    from: u64,
    #[prost(uint32, tag = "8")]
    kind: u32,
    #[prost(bytes = "vec", tag = "9")]
    payload: Vec<u8>,
    /// What a newer version might add.
    #[prost(string, tag = "77")]
    future: String,
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        12 => cluster::bodies().prop_map(Body::Cluster),
        5 => paxos::bodies().prop_map(Body::Paxos),
        6 => raft::bodies().prop_map(Body::Raft),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), bodies()).prop_map(|(from, to, body)| Message { from, to, body })
}

fn services() -> impl Strategy<Value = Service> {
    (any::<u64>(), any::<u64>(), service::bodies()).prop_map(|(from, to, body)| Service { from, to, body })
}

/// The bytes of memory that a decoded message holds in addition to its frame.
fn memory(decoded: &Decoded) -> usize {
    let Decoded::Message(PeerMessage::Core(message)) = decoded else { return 0 };
    match &message.body {
        Body::Paxos(PaxosBody::Promise { entries, .. } | PaxosBody::Accept { entries, .. })
        | Body::Raft(RaftBody::Append { entries, .. })
        | Body::Cluster(ClusterBody::Learn { entries, .. }) => entries.capacity() * size_of::<Entry>(),
        Body::Paxos(PaxosBody::Accepted { ranges, .. }) => ranges.capacity() * size_of::<Range>(),
        Body::Cluster(ClusterBody::Forward { commands }) => commands.capacity() * size_of::<Command>(),
        _ => 0,
    }
}

proptest! {
    /// A message that is written is read back.
    #[test]
    fn messages_survive_the_wire(message in messages()) {
        prop_assert_eq!(decode_message(payload(&message)), Ok(Decoded::Message(message.into())));
    }

    /// So is a service message, and any protobuf library reads and writes the same.
    #[test]
    fn services_survive_the_wire(service in services()) {
        let bytes = samples::service_payload(&service);
        let decoded = Ok(Decoded::Message(service.into()));
        prop_assert_eq!(&decode_message(bytes.clone()), &decoded);
        let twin = Twin::decode(bytes.clone()).unwrap();
        prop_assert_eq!(twin.encoded_len(), bytes.len());
        prop_assert_eq!(decode_message(twin.encode_to_vec().into()), decoded);
    }

    /// The bytes are protobuf in the schema of the module's documentation, in both directions.
    #[test]
    fn any_protobuf_library_reads_and_writes_the_same(message in messages()) {
        let bytes = payload(&message);
        let twin = Twin::decode(bytes.clone()).unwrap();
        prop_assert_eq!(twin.encoded_len(), bytes.len());
        let written = Bytes::from(twin.encode_to_vec());
        prop_assert_eq!(decode_message(written), Ok(Decoded::Message(message.into())));
    }

    /// Rolling upgrade: fields that a newer version adds, in the record and in entries, are skipped.
    #[test]
    fn unknown_fields_are_tolerated(message in messages(), number in any::<u64>()) {
        let mut twin = Twin::decode(payload(&message)).unwrap();
        for entry in twin.entries.iter_mut().chain(&mut twin.commands) {
            entry.future = "from the future".into();
        }
        twin.future = Some(TwinEntry { number, ..TwinEntry::default() });
        twin.futures = vec![number; 3];
        let written = Bytes::from(twin.encode_to_vec());
        prop_assert_eq!(decode_message(written), Ok(Decoded::Message(message.into())));
    }

    /// Any bytes are an error or a message, never a panic.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = decode_message(bytes.into());
    }

    /// Messages with bytes changed, cut or doubled cause no panic and take no memory beyond a small multiple.
    #[test]
    fn damaged_messages_are_survived(
        message in messages(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = payload(&message).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend_from_within(..cut.index(bytes.len()));
        let len = bytes.len();
        if let Ok(decoded) = decode_message(bytes.into()) {
            prop_assert!(memory(&decoded) <= 24 * len + 256, "{} for {len}", memory(&decoded));
        }
    }
}

/// Versions are mixed in a rolling upgrade: the bytes of a message stay, and no two kinds share a number.
#[test]
fn recorded_frames_stay() {
    let mut kinds = Vec::new();
    for (body, recorded) in [cluster::recorded(), paxos::recorded(), raft::recorded()].concat() {
        let message = Message { from: 1, to: 2, body };
        let bytes = frame(&message);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, recorded, "{message}");
        let payload = bytes.freeze().slice(HEADER_BYTES..);
        kinds.push(Twin::decode(payload.clone()).unwrap().kind);
        assert_eq!(decode_message(payload), Ok(Decoded::Message(message.into())));
    }
    kinds.sort_unstable();
    assert_eq!(kinds, (1..=kinds.len() as u64).collect::<Vec<_>>());
    assert!(kinds.last() <= Some(&MAX_CORE_KIND), "{kinds:?}");
}

/// The same for services, whose kinds begin above those of cores.
#[test]
fn recorded_frames_of_services_stay() {
    let mut kinds = Vec::new();
    for (body, recorded) in service::recorded() {
        let service = Service { from: 1, to: 2, body };
        let payload = samples::service_payload(&service);
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, recorded, "{service}");
        kinds.push(Twin::decode(payload.clone()).unwrap().kind);
        assert_eq!(decode_message(payload), Ok(Decoded::Message(service.into())));
    }
    let expected: Vec<_> = (MAX_CORE_KIND + 1..).take(kinds.len()).collect();
    assert_eq!(kinds, expected);
}

/// A message kind of a newer version is not an error; a command of a newer kind keeps its byte.
#[test]
fn unknown_kinds_are_told_apart_and_kept() {
    let twin = Twin { kind: 4711, from: 1, to: 2, first: 3, ..Twin::default() };
    assert_eq!(decode_message(twin.encode_to_vec().into()), Ok(Decoded::UnknownKind(4711)));

    let mut newer = entry(5);
    newer.command.kind = Kind::Unknown(200);
    let body = PaxosBody::Accept { ballot: ballot(1), chosen: 4, entries: vec![newer] };
    let message = Message { from: 1, to: 2, body: body.into() };
    assert_eq!(decode_message(payload(&message)), Ok(Decoded::Message(message.into())));
}

/// Payloads are slices of the frame, not copies.
#[test]
fn payloads_share_the_frame() {
    let body = ClusterBody::Learn { chosen: 9, entries: (1..=9).map(entry).collect() };
    let frame = payload(&Message { from: 1, to: 2, body: body.into() });
    let Ok(Decoded::Message(PeerMessage::Core(message))) = decode_message(frame.clone()) else {
        panic!("the message is sane, but was refused");
    };
    let Body::Cluster(ClusterBody::Learn { entries, .. }) = message.body else { panic!("{message}") };
    let range = frame.as_ptr_range();
    assert!(entries.iter().all(|entry| range.contains(&entry.command.payload.as_ptr())));
}

/// Counts and lengths inside a message may announce anything: memory follows what is there.
#[test]
fn inner_lengths_and_counts_cost_nothing() {
    // Field 4 (entries) with a length of 2^32-1, then of 2^64-1, and nothing after it.
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9][..]] {
        let mut bytes = vec![0x22];
        bytes.extend(length);
        bytes.push(1);
        assert!(decode_message(bytes.into()).is_err());
    }
    // The smallest items: reading ends at the first if they are empty, and at the limit if they are sane.
    assert!(decode_message([0x22, 0].repeat(1000).into()).is_err());
    assert!(decode_message([0x32, 0].repeat(1000).into()).is_err());
    let ranges = vec![1; 2 * MAX_ITEMS + 2];
    let twin = Twin { kind: 6, ballot_round: 1, ranges, ..Twin::default() };
    let Err(MessageError::Nonsense(text)) = decode_message(twin.encode_to_vec().into()) else {
        panic!("more ranges than any window has indexes were accepted");
    };
    assert!(text.contains("more than 65536 items"), "{text}");
}

/// A message that would not fit into a frame is not written.
#[test]
fn too_long_a_message_is_an_error_of_the_encoder() {
    let command = |reqid| Command::value(reqid, 1, vec![0; 1 << 20]);
    let mut out = BytesMut::new();
    let forward = |commands| Message { from: 1, to: 2, body: ClusterBody::Forward { commands }.into() };
    let fits = forward(vec![command(1), command(2)]);
    assert_eq!(encode_message(&fits, &mut out), Ok(()));
    let len = out.len();
    let long = forward(vec![command(1), command(2), command(3)]);
    assert!(matches!(encode_message(&long, &mut out), Err(FrameError::TooLong { .. })));
    assert_eq!(out.len(), len);
    assert!(len <= MAX_FRAME_BYTES + HEADER_BYTES);
}

/// The cost of an entry. Run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn cost_of_an_entry() {
    for count in [1, 64, 1000] {
        let value = Bytes::from(vec![7; 128]);
        let entries = (1_000_000..1_000_000 + count)
            .map(|index| Entry {
                index,
                ballot: Ballot { round: 12, node: 2 },
                command: Command::value(index << 20, 3, value.clone()),
            })
            .collect();
        let ballot = Ballot { round: 12, node: 2 };
        let body = PaxosBody::Accept { ballot, chosen: 999_999, entries };
        let message = Message { from: 2, to: 1, body: body.into() };
        let rounds = 400_000 / count;
        let mut out = BytesMut::new();
        let started = Instant::now();
        for _ in 0..rounds {
            out.clear();
            encode_message(&message, &mut out).unwrap();
        }
        let encoding = started.elapsed();
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let started = Instant::now();
        for _ in 0..rounds {
            let frame = decoder.decode(&mut &out[..]).unwrap().unwrap();
            std::hint::black_box(decode_message(frame).unwrap());
        }
        let decoding = started.elapsed();
        println!(
            "{count} entries: encode {:.0} ns, decode and drop {:.0} ns per entry, {:.1} bytes per entry",
            encoding.as_nanos() as f64 / (rounds * count) as f64,
            decoding.as_nanos() as f64 / (rounds * count) as f64,
            out.len() as f64 / count as f64,
        );
    }
}
