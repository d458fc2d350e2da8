//! Messages as bytes: identity, mixed versions, hostile bytes, and what it costs.

use std::mem::size_of;
use std::time::Instant;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::consensus::types::{Kind, MAX_WINDOW_ENTRIES, RequestId};
use crate::wire::frame::{FrameDecoder, HEADER_BYTES, MAX_FRAME_BYTES};

/// The record as prost's derive has it: what any other protobuf library would read and write.
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
    /// What a newer version might add.
    #[prost(message, optional, tag = "900")]
    future: Option<TwinEntry>,
    #[prost(uint64, repeated, tag = "901")]
    futures: Vec<u64>,
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

fn frame(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    encode_message(message, &mut out).unwrap();
    out
}

fn payload(message: &Message) -> Bytes {
    FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut &frame(message)[..]).unwrap().unwrap()
}

/// Whether impossible contents are refused, with words that hold `why`.
fn assert_refused(body: Body, why: &str) {
    let shown = body.to_string();
    match decode_message(payload(&Message { from: 1, to: 2, body })) {
        Err(MessageError::Nonsense(text)) => assert!(text.contains(why), "{shown}: {text}"),
        other => panic!("{shown} is impossible, but: {other:?}"),
    }
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: 1 }
}

fn entry(index: Index) -> Entry {
    Entry { index, ballot: ballot(1), command: Command::value(index, 1, "v") }
}

fn ballots() -> impl Strategy<Value = Ballot> {
    (1..=u64::MAX, any::<u64>()).prop_map(|(round, node)| Ballot { round, node })
}

fn commands() -> impl Strategy<Value = Command> {
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
fn entries(first: Index, gaps: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec((gaps, ballots(), commands()), 0..20).prop_map(move |items| {
        let mut index = first;
        let entry = |(gap, ballot, command)| {
            index += gap;
            Entry { index, ballot, command }
        };
        items.into_iter().map(entry).collect()
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    let index = || 1..=MAX_INDEX;
    let chosen = || 0..=MAX_INDEX / 2;
    prop_oneof![
        ballots().prop_map(|ballot| Body::PreVote { ballot }),
        (ballots(), any::<bool>(), ballots()).prop_map(|(ballot, granted, promised)| Body::PreVoteReply {
            ballot,
            granted,
            promised
        }),
        (ballots(), index()).prop_map(|(ballot, first)| Body::Prepare { ballot, first }),
        chosen().prop_flat_map(promises),
        chosen().prop_flat_map(|chosen| (ballots(), entries(chosen, 1..=1000)).prop_map(
            move |(ballot, mut entries)| {
                entries.iter_mut().for_each(|entry| entry.ballot = ballot);
                Body::Accept { ballot, chosen, entries }
            }
        )),
        (ballots(), chosen(), prop::collection::vec((1..=500u64, 0..=500u64), 0..60)).prop_map(
            |(ballot, chosen, steps)| {
                let mut at = chosen;
                let range = |(gap, len)| {
                    let first = at + gap;
                    at = first + len;
                    Range { first, last: at }
                };
                Body::Accepted { ballot, chosen, ranges: steps.into_iter().map(range).collect() }
            }
        ),
        (ballots(), chosen(), any::<u64>()).prop_map(|(ballot, chosen, sent_ms)| Body::Heartbeat {
            ballot,
            chosen,
            sent_ms
        }),
        (ballots(), chosen(), any::<u64>()).prop_map(|(ballot, chosen, sent_ms)| Body::HeartbeatReply {
            ballot,
            chosen,
            sent_ms
        }),
        (ballots(), ballots()).prop_map(|(ballot, promised)| Body::Refuse { ballot, promised }),
        ballots().prop_map(|ballot| Body::TimeoutNow { ballot }),
        (ballots(), positions()).prop_map(|(ballot, last)| Body::RequestPreVote { ballot, last }),
        (ballots(), positions()).prop_map(|(ballot, last)| Body::RequestVote { ballot, last }),
        ballots().prop_map(|ballot| Body::Vote { ballot }),
        (ballots(), any::<u64>()).prop_map(|(ballot, number)| Body::Confirm { ballot, number }),
        (ballots(), any::<u64>()).prop_map(|(ballot, number)| Body::Confirmed { ballot, number }),
        any::<u64>().prop_map(|id| Body::Read { id }),
        (any::<u64>(), chosen()).prop_map(|(id, index)| Body::ReadReply { id, index }),
        (chosen(), 1..=1000u64).prop_flat_map(|(before, round)| appends(before, round)),
        (ballots(), chosen(), 0..=1000u64).prop_map(|(ballot, chosen, ahead)| Body::Appended {
            ballot,
            chosen,
            matched: chosen + ahead
        }),
        (ballots(), chosen(), positions(), 0..=1000u64).prop_map(|(ballot, chosen, hint, above)| {
            Body::Mismatch { ballot, chosen, previous: (hint.index + above).clamp(1, MAX_INDEX), hint }
        }),
        index().prop_map(|first| Body::CatchUp { first }),
        chosen().prop_flat_map(|before| entries(before, 1..=1)
            .prop_map(move |entries| Body::Learn { chosen: before + 50, entries })),
        prop::collection::vec(commands(), 0..20).prop_map(|commands| Body::Forward { commands }),
    ]
}

fn positions() -> impl Strategy<Value = Position> {
    let some = (1..=MAX_INDEX, 1..=u64::MAX).prop_map(|(index, round)| Position { index, round });
    prop_oneof![Just(Position::default()), some]
}

fn appends(before: Index, round: u64) -> impl Strategy<Value = Body> {
    (entries(before, 1..=1), 0..=9u64).prop_map(move |(mut entries, higher)| {
        let ballot = Ballot { round: round + higher, node: 1 };
        for entry in &mut entries {
            entry.ballot.round = round + higher / 2;
        }
        let previous = if before == 0 { Position::default() } else { Position { index: before, round } };
        Body::Append { ballot, chosen: before, previous, entries }
    })
}

fn promises(chosen: Index) -> impl Strategy<Value = Body> {
    (ballots(), entries(chosen, 1..=1000), any::<bool>()).prop_map(move |(ballot, entries, more)| {
        let last = entries.last().map_or(chosen + 1, |entry| entry.index);
        Body::Promise { ballot, chosen, compacted: chosen / 2, first: chosen + 1, last, more, entries }
    })
}

fn messages() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), bodies()).prop_map(|(from, to, body)| Message { from, to, body })
}

/// The bytes of memory that a decoded message holds beside its frame.
fn memory(decoded: &Decoded) -> usize {
    let Decoded::Message(message) = decoded else { return 0 };
    match &message.body {
        Body::Promise { entries, .. } | Body::Accept { entries, .. } | Body::Learn { entries, .. } => {
            entries.capacity() * size_of::<Entry>()
        }
        Body::Accepted { ranges, .. } => ranges.capacity() * size_of::<Range>(),
        Body::Forward { commands } => commands.capacity() * size_of::<Command>(),
        _ => 0,
    }
}

proptest! {
    /// What is said is heard.
    #[test]
    fn messages_survive_the_wire(message in messages()) {
        prop_assert_eq!(decode_message(payload(&message)), Ok(Decoded::Message(message)));
    }

    /// The bytes are protobuf of the schema in the module's doc, in both directions.
    #[test]
    fn any_protobuf_library_reads_and_writes_the_same(message in messages()) {
        let bytes = payload(&message);
        let twin = Twin::decode(bytes.clone()).unwrap();
        prop_assert_eq!(twin.encoded_len(), bytes.len());
        let written = Bytes::from(twin.encode_to_vec());
        prop_assert_eq!(decode_message(written), Ok(Decoded::Message(message)));
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
        prop_assert_eq!(decode_message(written), Ok(Decoded::Message(message)));
    }

    /// Any bytes are an error or a message, never a panic.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = decode_message(bytes.into());
    }

    /// Messages with bytes changed, cut or doubled: no panic, and no memory beyond a small multiple.
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

/// A kind of a newer version is no error; a command of a newer kind keeps its byte.
#[test]
fn unknown_kinds_are_told_apart_and_kept() {
    let twin = Twin { kind: 4711, from: 1, to: 2, first: 3, ..Twin::default() };
    assert_eq!(decode_message(twin.encode_to_vec().into()), Ok(Decoded::UnknownKind(4711)));

    let mut newer = entry(5);
    newer.command.kind = Kind::Unknown(200);
    let body = Body::Accept { ballot: ballot(1), chosen: 4, entries: vec![newer] };
    let message = Message { from: 1, to: 2, body };
    assert_eq!(decode_message(payload(&message)), Ok(Decoded::Message(message)));
}

/// Payloads are slices of the frame, not copies.
#[test]
fn payloads_share_the_frame() {
    let body = Body::Learn { chosen: 9, entries: (1..=9).map(entry).collect() };
    let frame = payload(&Message { from: 1, to: 2, body });
    let Ok(Decoded::Message(Message { body: Body::Learn { entries, .. }, .. })) =
        decode_message(frame.clone())
    else {
        panic!("a sane message");
    };
    let range = frame.as_ptr_range();
    assert!(entries.iter().all(|entry| range.contains(&entry.command.payload.as_ptr())));
}

/// Impossible contents are refused before they reach a core.
#[test]
fn nonsense_is_refused() {
    let (one, zero) = (ballot(1), Ballot::ZERO);
    assert_refused(Body::PreVote { ballot: zero }, "0.0");
    assert_refused(Body::Prepare { ballot: one, first: 0 }, "first is 0");
    assert_refused(Body::CatchUp { first: u64::MAX }, "18446744073709551615");
    assert_refused(Body::Heartbeat { ballot: one, chosen: u64::MAX, sent_ms: 0 }, "watermark");
    let accept = |chosen, entries| Body::Accept { ballot: one, chosen, entries };
    assert_refused(accept(0, vec![entry(0)]), "index is 0");
    assert_refused(accept(0, vec![entry(2), entry(2)]), "index 2 follows 2");
    assert_refused(accept(0, vec![entry(3), entry(2)]), "index 2 follows 3");
    assert_refused(accept(10, vec![entry(11 + MAX_WINDOW_ENTRIES)]), "above its watermark 10");
    assert_refused(accept(0, vec![Entry { ballot: ballot(2), ..entry(1) }]), "ballot 2.1 under ballot 1.1");
    let learn = |chosen, entries| Body::Learn { chosen, entries };
    assert_refused(learn(9, vec![entry(1), entry(3)]), "index 3 follows 1 at once");
    assert_refused(learn(2, vec![entry(1), entry(2), entry(3)]), "index 3 is outside of 1..2");
    let accepted = |ranges: &[(u64, u64)]| {
        let ranges = ranges.iter().map(|(first, last)| Range { first: *first, last: *last }).collect();
        Body::Accepted { ballot: one, chosen: 0, ranges }
    };
    assert_refused(accepted(&[(2, 1)]), "the range 2..1");
    assert_refused(accepted(&[(0, 1)]), "the start of a range is 0");
    assert_refused(accepted(&[(1, 5), (5, 6)]), "the range 5..6 after index 5");
    assert_refused(accepted(&[(1, 1 + MAX_WINDOW_ENTRIES)]), "above its watermark 0");
    let promise = |first, last, entries| Body::Promise {
        ballot: one,
        chosen: 0,
        compacted: 0,
        first,
        last,
        more: false,
        entries,
    };
    assert_refused(promise(3, 2, vec![]), "the range 3..2");
    assert_refused(promise(3, u64::MAX, vec![]), "the end of a range");
    assert_refused(promise(3, 4, vec![entry(5)]), "index 5 is outside of 3..4");
    let anonymous = Command { from: 0, ..Command::value(1, 1, "v") };
    assert_refused(Body::Forward { commands: vec![anonymous] }, "no request of any node");
    assert_refused(Body::Forward { commands: vec![Command::noop(1)] }, "no request of any node");
    let long = Command::value(1, 1, vec![0; crate::consensus::types::MAX_PAYLOAD_BYTES + 1]);
    assert_refused(Body::Forward { commands: vec![long] }, "a payload of 1048577 bytes");
}

/// Counts and lengths inside of a message announce what they like: memory follows what is there.
#[test]
fn inner_lengths_and_counts_cost_nothing() {
    // Field 4 (entries) with a length of 2^32-1, then of 2^64-1, with nothing behind.
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9][..]] {
        let mut bytes = vec![0x22];
        bytes.extend(length);
        bytes.push(1);
        assert!(decode_message(bytes.into()).is_err());
    }
    // The smallest items: empty ones end it at the first, sane ones at the limit.
    assert!(decode_message([0x22, 0].repeat(1000).into()).is_err());
    assert!(decode_message([0x32, 0].repeat(1000).into()).is_err());
    let twin =
        Twin { kind: kind::ACCEPTED, ballot_round: 1, ranges: vec![1; 2 * MAX_ITEMS + 2], ..Twin::default() };
    let Err(MessageError::Nonsense(text)) = decode_message(twin.encode_to_vec().into()) else {
        panic!("more ranges than any window has indexes");
    };
    assert!(text.contains("more than 65536 items"), "{text}");
}

/// A message that would not fit into a frame is not written.
#[test]
fn too_long_a_message_is_an_error_of_the_encoder() {
    let command = |reqid| Command::value(reqid, 1, vec![0; 1 << 20]);
    let mut out = BytesMut::new();
    let fits = Message { from: 1, to: 2, body: Body::Forward { commands: vec![command(1), command(2)] } };
    assert_eq!(encode_message(&fits, &mut out), Ok(()));
    let len = out.len();
    let body = Body::Forward { commands: vec![command(1), command(2), command(3)] };
    assert!(matches!(
        encode_message(&Message { from: 1, to: 2, body }, &mut out),
        Err(FrameError::TooLong { .. })
    ));
    assert_eq!(out.len(), len);
    assert!(len <= MAX_FRAME_BYTES + HEADER_BYTES);
}

/// What an entry costs: run with `--release -- --ignored --nocapture`.
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
        let body = Body::Accept { ballot: Ballot { round: 12, node: 2 }, chosen: 999_999, entries };
        let message = Message { from: 2, to: 1, body };
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
            "{count} entries: encode {:.0} ns, decode and drop {:.0} ns an entry, {:.1} bytes an entry",
            encoding.as_nanos() as f64 / (rounds * count) as f64,
            decoding.as_nanos() as f64 / (rounds * count) as f64,
            out.len() as f64 / count as f64,
        );
    }
}
