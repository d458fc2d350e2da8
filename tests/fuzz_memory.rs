//! Decoding never allocates more than a small multiple of what it has read: counted by an allocator, over the
//! fuzzers' corpus and over input that announces much and is little.
//!
//! This is one test, since the allocator counts for the whole process. What `limit` allows is k bytes for
//! each byte of input and c more; the peak counts a growing list twice while it is copied.

use std::fs;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use peak_alloc::PeakAlloc;
use spaxos::client::command::Command;
use spaxos::client::splitter::{Splitter, Step};
use spaxos::config::Config;
use spaxos::fuzzing::{engine_of_records, open_engine};
use spaxos::pipeline::chosen_line::parse_index;
use spaxos::wire::frame::{FrameDecoder, MAX_FRAME_BYTES};
use spaxos::wire::hello::Greeting;
use spaxos::wire::message::decode_message;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A decoder, the corpus that suits it, and how much it may allocate.
struct Decoder {
    name: &'static str,
    corpus: &'static str,
    /// k and c.
    limit: (usize, usize),
    /// Decodes an input, and returns the most bytes that this took.
    peak: fn(&[u8]) -> usize,
    hostile: fn() -> Vec<Vec<u8>>,
}

const DECODERS: [Decoder; 7] = [
    // A frame's memory doubles as its bytes arrive.
    Decoder { name: "frames", corpus: "peer_stream", limit: (4, 256), peak: frames, hostile: hostile_frames },
    // An entry of 6 bytes takes 112, and a list that grows is there twice for a moment.
    Decoder {
        name: "messages",
        corpus: "peer_message",
        limit: (30, 1024),
        peak: messages,
        hostile: hostile_messages,
    },
    Decoder {
        name: "greetings",
        corpus: "peer_message",
        limit: (4, 1024),
        peak: greetings,
        hostile: hostile_messages,
    },
    Decoder {
        name: "requests",
        corpus: "client",
        limit: (4, 64 * 1024),
        peak: requests,
        hostile: hostile_requests,
    },
    // An entry of 9 bytes far from all others takes 600 in the index.
    Decoder {
        name: "records",
        corpus: "store_record",
        limit: (80, 64 * 1024),
        peak: records,
        hostile: hostile_records,
    },
    Decoder {
        name: "configurations",
        corpus: "config",
        limit: (150, 64 * 1024),
        peak: configurations,
        hostile: hostile_texts,
    },
    Decoder {
        name: "chosen lines",
        corpus: "chosen_line",
        limit: (0, 0),
        peak: chosen_lines,
        hostile: hostile_texts,
    },
];

#[test]
fn decoding_never_allocates_more_than_a_small_multiple_of_what_it_has_read() {
    for Decoder { name, corpus, limit: (k, c), peak, hostile } in DECODERS {
        let (mut worst, mut inputs) = (0.0f64, corpus_of(corpus));
        assert!(!inputs.is_empty(), "{name}: no corpus");
        inputs.extend(hostile());
        for input in inputs {
            let took = peak(&input);
            let start = input[..input.len().min(40)].escape_ascii();
            assert!(took <= k * input.len() + c, "{name}: {took} bytes for {} of {start}…", input.len());
            worst = worst.max(took.saturating_sub(c) as f64 / input.len().max(1) as f64);
        }
        println!("{name}: at most {worst:.1} times the input and {c} bytes");
    }
}

/// The most that was allocated at a time while it ran, what it keeps included.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let kept = run();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    drop(kept);
    peak
}

fn frames(input: &[u8]) -> usize {
    peak(|| {
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        for mut piece in input.chunks(100) {
            while let Ok(Some(_)) = decoder.decode(&mut piece) {}
        }
        decoder
    })
}

fn messages(input: &[u8]) -> usize {
    let frame = Bytes::copy_from_slice(input);
    peak(|| decode_message(frame))
}

fn greetings(input: &[u8]) -> usize {
    let frame = Bytes::copy_from_slice(input);
    peak(|| Greeting::decode(frame))
}

fn requests(input: &[u8]) -> usize {
    peak(|| {
        let mut splitter = Splitter::new(1 << 20);
        let mut rest = input;
        loop {
            let consumed = match splitter.next(rest) {
                Step::More | Step::Refused(..) => return splitter,
                Step::Nothing(len) | Step::Unbalanced(len) | Step::LoneIac(len, _) => len,
                Step::Request { len, arguments, .. } => {
                    let _ = Command::parse(&arguments, 1 << 20);
                    len
                }
            };
            rest = &rest[consumed..];
        }
    })
}

fn records(input: &[u8]) -> usize {
    let engine = engine_of_records(input);
    peak(|| open_engine(&engine))
}

fn configurations(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    peak(|| Config::parse(&text, Path::new("x")))
}

fn chosen_lines(input: &[u8]) -> usize {
    peak(|| parse_index(input))
}

/// Headers that announce all that is allowed, and more.
fn hostile_frames() -> Vec<Vec<u8>> {
    let frame = |length: u32, sent: usize| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.resize(8 + sent, 7);
        bytes
    };
    let longest = MAX_FRAME_BYTES as u32;
    vec![
        frame(u32::MAX, 0),
        frame(longest, 0),
        frame(longest, 1000),
        frame(longest, 1 << 20),
        frame(longest + 1, 9),
    ]
}

/// Lists with lengths that lie, of the smallest items, and of one large and then the smallest.
fn hostile_messages() -> Vec<Vec<u8>> {
    const ENTRY: &[u8] = &[0x22, 4, 0x08, 1, 0x10, 1];
    const COMMAND: &[u8] = &[0x32, 4, 0x30, 1, 0x38, 1];
    let mut inputs = vec![];
    for length in [0xffff_ffffu64, u64::MAX, 1 << 31, 100] {
        for field in [0x22, 0x2a, 0x32, 0x7a] {
            let mut bytes = vec![field];
            prost::encoding::encode_varint(length, &mut bytes);
            inputs.push([&bytes[..], &[1; 50]].concat());
        }
    }
    for item in [ENTRY, COMMAND] {
        let mut first = vec![item[0]];
        prost::encoding::encode_varint(item[1] as u64 + 3 + 300, &mut first);
        first.extend_from_slice(&item[2..]);
        first.extend([0x4a, 0xac, 0x02]);
        first.resize(first.len() + 300, 0);
        for count in [1, 10, 1000, 70_000] {
            inputs.push(item.repeat(count));
            inputs.push([&first[..], &item.repeat(count)].concat());
        }
    }
    for packed in [2usize, 100, 140_000] {
        let mut bytes = vec![0x2a];
        prost::encoding::encode_varint(packed as u64, &mut bytes);
        bytes.resize(bytes.len() + packed, 1);
        inputs.push(bytes);
    }
    inputs.push([0x2a, 2, 1, 2].repeat(10_000));
    // Groups in groups: a field that nobody knows.
    inputs.push([0x9b, 0x06].repeat(10_000));
    inputs
}

fn hostile_requests() -> Vec<Vec<u8>> {
    let mut inputs = vec![];
    for text in [
        "*1024\r\n",
        "*1025\r\n",
        "*4294967295\r\n",
        "*1024\r\n$1048576\r\n",
        "*2\r\n$4294967295\r\n",
        "*1\r\n$1114112\r\n",
        "*3\r\n*3\r\n*3\r\n",
        "COMMAND DOCS ",
    ] {
        inputs.push(text.as_bytes().to_vec());
        inputs.push([text.as_bytes(), &[b'x'; 1000]].concat());
    }
    inputs.push([&b"*1024\r\n"[..], &b"$0\r\n\r\n".repeat(1024)].concat());
    for word in [&b"a "[..], b"\"\" ", b"\\x41", b"\xff\xff"] {
        inputs.push([&word.repeat((1 << 20) / word.len())[..], b"\n"].concat());
    }
    inputs.push(b"*0\r\n".repeat(100_000));
    inputs
}

/// Records (each with its length before it) whose items announce much, or lie far apart.
fn hostile_records() -> Vec<Vec<u8>> {
    let record = |content: &[u8]| [&(content.len() as u16).to_le_bytes()[..], content].concat();
    let varint = |number: u64| {
        let mut bytes = vec![];
        prost::encoding::encode_varint(number, &mut bytes);
        bytes
    };
    let entry =
        |index: u64, length: u64| [&[1, 0, 1][..], &varint(index), &[1, 1, 1, 1], &varint(length)].concat();
    let far_apart = |count: u64| (1..=count).flat_map(|at| entry(at * 64, 0)).collect::<Vec<_>>();
    vec![
        record(&[&[0][..], &entry(1, 1 << 20)].concat()),
        record(&[&[0][..], &entry(1, u64::MAX)].concat()),
        record(&[&[0][..], &far_apart(500)].concat()),
        (0..20).flat_map(|_| record(&[&[0][..], &far_apart(500)].concat())).collect(),
        // The first part of an entry of 1 MiB, and nothing after it.
        record(&[&[0x81][..], &varint((1 << 20) + 9), &entry(1, 1 << 20)].concat()),
        record(&[&[1][..], &varint((1 << 20) + 9), &entry(1, 1 << 20)].concat()),
    ]
}

fn hostile_texts() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = vec![
        b"[".repeat(10_000),
        b"a=[".repeat(10_000),
        b"a={a=".repeat(10_000),
        b"a.".repeat(10_000),
        b"[[peers]]\n".repeat(10_000),
        b"\"".repeat(10_000),
        b"2026-11-21T07:39:49.123456Z [INFO] chosen index=99999999999999999999999999 reqid=".to_vec(),
    ];
    let mut many = BytesMut::new();
    (0..10_000).for_each(|key| many.put_slice(format!("k{key}=1\n").as_bytes()));
    inputs.push(many.to_vec());
    inputs
}

fn corpus_of(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folders = ["seeds", "regressions"].map(|kind| fuzz.join(kind).join(target));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}
