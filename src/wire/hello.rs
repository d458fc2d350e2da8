//! The greeting that opens a connection (which node it is, of which cluster, and which version it speaks),
//! and the refusal, which names what differs with both values.
//!
//! A greeting is one frame of at most [`MAX_GREETING_BYTES`] holding either a [`Hello`] or a [`Refusal`]. Its
//! protobuf form only ever gains fields, so that any two versions can at least tell each other why they do
//! not work together. [`Hello::check`] compares what needs no memory of earlier connections; `node::peers`
//! judges node ids, directories and starts.

use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::consensus::types::NodeId;

use super::frame::{FrameError, encode_frame};

/// The longest greeting. Names are short, and before the greeting nobody is known.
pub const MAX_GREETING_BYTES: usize = 4096;

/// The wire version that this build speaks.
pub const WIRE_VERSION: u32 = 2;

/// The oldest wire version that this build can talk to.
pub const LOWEST_WIRE_VERSION: u32 = 2;

/// "spax": tells a node of spaxos from anything else that listens or calls.
const MAGIC: u32 = u32::from_le_bytes(*b"spax");

/// The longest name or address in a greeting, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The longest text of a refusal that is accepted, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The wire version it speaks.
    pub version: u32,
    /// The oldest wire version it can talk to.
    pub lowest_version: u32,
    /// The cluster's name; like all names here at most 255 printable ASCII characters.
    pub cluster: String,
    /// Its id in the cluster, greater than 0.
    pub node: NodeId,
    /// The id of its data directory.
    pub directory: u128,
    /// The number of its start; a later start has a higher number.
    pub start: u64,
    /// The consensus protocol it runs.
    pub protocol: String,
    /// A hash of the founding members and constants.
    pub founding: u64,
    /// Where clients reach it; may be empty.
    pub client_address: String,
}

/// Why a connection is refused, with both values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the program.
    pub code: RefusalCode,
    /// For a person. It comes from another machine, so print it with [`Refusal`]'s `Display`, which escapes
    /// it.
    pub text: String,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// There is no wire version that both speak.
    Version,
    /// A different cluster.
    Cluster,
    /// A different consensus protocol.
    Protocol,
    /// Different founding members or constants.
    Founding,
    /// The node id of the node that refuses.
    OwnNode,
    /// A node id that is not a member.
    UnknownNode,
    /// The node id is bound to another data directory.
    WrongDirectory,
    /// An earlier start than one seen from the same directory.
    OldStart,
    /// A code of a newer version.
    Other(u32),
}

/// What opens a connection, or ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The node introduces itself.
    Hello(Hello),
    /// The node refuses the connection.
    Refusal(Refusal),
}

/// What is wrong with a greeting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// It is not protobuf of the expected form.
    #[error("not a greeting: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// It does not begin as a greeting of spaxos does.
    #[error("a greeting with magic {0:08x} instead of {MAGIC:08x}: the other end is not a node of spaxos")]
    Magic(u32),
    /// A field has a value that no node sends.
    #[error("a greeting with {0}")]
    Field(&'static str),
}

impl Hello {
    /// Compares everything that two members must have in common. The text of a refusal names this node's
    /// values first.
    pub fn check(&self, theirs: &Hello) -> Result<(), Refusal> {
        if theirs.version < self.lowest_version || self.version < theirs.lowest_version {
            let text = format!(
                "wire version {} (lowest {}) here, {} (lowest {}) there: upgrade the older node in steps",
                self.version, self.lowest_version, theirs.version, theirs.lowest_version
            );
            return Err(Refusal { code: RefusalCode::Version, text });
        }
        let same = |code, what: &str, here: &dyn fmt::Display, there: &dyn fmt::Display| {
            if here.to_string() != there.to_string() {
                return Err(Refusal { code, text: format!("{what} {here} here, {there} there") });
            }
            Ok(())
        };
        same(RefusalCode::Cluster, "cluster", &self.cluster, &theirs.cluster)?;
        same(RefusalCode::Protocol, "protocol", &self.protocol, &theirs.protocol)?;
        let (here, there) = (format!("{:016x}", self.founding), format!("{:016x}", theirs.founding));
        same(RefusalCode::Founding, "the hash of founding members and constants", &here, &there)
    }
}

impl Greeting {
    /// Appends the frame of this greeting.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let record = match self {
            Greeting::Hello(hello) => GreetingRecord::of_hello(hello),
            Greeting::Refusal(refusal) => GreetingRecord {
                magic: MAGIC,
                refusal_code: refusal.code.number(),
                text: refusal.text.chars().take(MAX_TEXT_BYTES / 4).collect(),
                ..GreetingRecord::default()
            },
        };
        encode_frame(out, |out| record.encode_raw(out))
    }

    /// Reads the payload of a frame.
    pub fn decode(payload: Bytes) -> Result<Greeting, GreetingError> {
        let record = GreetingRecord::decode(payload)?;
        if record.magic != MAGIC {
            return Err(GreetingError::Magic(record.magic));
        }
        match record.refusal_code {
            0 => Ok(Greeting::Hello(record.into_hello()?)),
            code if record.text.len() <= MAX_TEXT_BYTES => {
                Ok(Greeting::Refusal(Refusal { code: RefusalCode::from_number(code), text: record.text }))
            }
            _ => Err(GreetingError::Field("a refusal's text of more than 1024 bytes")),
        }
    }
}

/// The protobuf form of both greetings: a hello has no refusal code.
#[derive(Clone, PartialEq, prost::Message)]
struct GreetingRecord {
    #[prost(fixed32, tag = "1")]
    magic: u32,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(uint32, tag = "3")]
    lowest_version: u32,
    #[prost(string, tag = "4")]
    cluster: String,
    #[prost(uint64, tag = "5")]
    node: u64,
    #[prost(fixed64, tag = "6")]
    directory_high: u64,
    #[prost(fixed64, tag = "7")]
    directory_low: u64,
    #[prost(uint64, tag = "8")]
    start: u64,
    #[prost(string, tag = "9")]
    protocol: String,
    #[prost(fixed64, tag = "10")]
    founding: u64,
    #[prost(string, tag = "11")]
    client_address: String,
    #[prost(uint32, tag = "12")]
    refusal_code: u32,
    #[prost(string, tag = "13")]
    text: String,
}

impl GreetingRecord {
    fn of_hello(hello: &Hello) -> GreetingRecord {
        GreetingRecord {
            magic: MAGIC,
            version: hello.version,
            lowest_version: hello.lowest_version,
            cluster: hello.cluster.clone(),
            node: hello.node,
            directory_high: (hello.directory >> 64) as u64,
            directory_low: hello.directory as u64,
            start: hello.start,
            protocol: hello.protocol.clone(),
            founding: hello.founding,
            client_address: hello.client_address.clone(),
            ..GreetingRecord::default()
        }
    }

    fn into_hello(self) -> Result<Hello, GreetingError> {
        if self.node == 0 {
            return Err(GreetingError::Field("node id 0"));
        }
        if self.lowest_version > self.version {
            return Err(GreetingError::Field("a lowest version above its version"));
        }
        for name in [&self.cluster, &self.protocol, &self.client_address] {
            if name.len() > MAX_NAME_BYTES || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(GreetingError::Field("a name that is not at most 255 printable characters"));
            }
        }
        Ok(Hello {
            version: self.version,
            lowest_version: self.lowest_version,
            cluster: self.cluster,
            node: self.node,
            directory: (u128::from(self.directory_high) << 64) | u128::from(self.directory_low),
            start: self.start,
            protocol: self.protocol,
            founding: self.founding,
            client_address: self.client_address,
        })
    }
}

impl RefusalCode {
    const KNOWN: [RefusalCode; 8] = [
        RefusalCode::Version,
        RefusalCode::Cluster,
        RefusalCode::Protocol,
        RefusalCode::Founding,
        RefusalCode::OwnNode,
        RefusalCode::UnknownNode,
        RefusalCode::WrongDirectory,
        RefusalCode::OldStart,
    ];

    fn number(self) -> u32 {
        match self {
            RefusalCode::Other(number) => number,
            known => {
                let place = RefusalCode::KNOWN.iter().position(|code| *code == known);
                place.expect("every code but Other is listed") as u32 + 1
            }
        }
    }

    fn from_number(number: u32) -> RefusalCode {
        let known = (number as usize).checked_sub(1).and_then(|place| RefusalCode::KNOWN.get(place));
        known.copied().unwrap_or(RefusalCode::Other(number))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.text.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{FrameDecoder, HEADER_BYTES};
    use super::*;

    fn hello() -> Hello {
        Hello {
            version: WIRE_VERSION,
            lowest_version: LOWEST_WIRE_VERSION,
            cluster: "demo".into(),
            node: 1,
            directory: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            start: 7,
            protocol: "paxos".into(),
            founding: u64::MAX - 1,
            client_address: "127.0.0.1:9001".into(),
        }
    }

    fn round_trip(greeting: &Greeting) -> Result<Greeting, GreetingError> {
        let mut out = BytesMut::new();
        greeting.encode(&mut out).unwrap();
        let mut decoder = FrameDecoder::new(MAX_GREETING_BYTES);
        Greeting::decode(decoder.decode(&mut &out[..]).unwrap().unwrap())
    }

    /// What one end sends is what the other end reads, for all refusal codes as well.
    #[test]
    fn greetings_survive_the_wire() {
        let greeting = Greeting::Hello(hello());
        assert_eq!(round_trip(&greeting), Ok(greeting));
        for code in RefusalCode::KNOWN.into_iter().chain([RefusalCode::Other(99)]) {
            let greeting = Greeting::Refusal(Refusal { code, text: "cluster a here, b there".into() });
            assert_eq!(round_trip(&greeting), Ok(greeting));
        }
    }

    /// Rolling upgrade: fields that a newer version adds are skipped.
    #[test]
    fn unknown_fields_are_tolerated() {
        let mut out = BytesMut::new();
        Greeting::Hello(hello()).encode(&mut out).unwrap();
        let mut payload = out.split_off(HEADER_BYTES);
        prost::encoding::string::encode(500, &"from the future".to_owned(), &mut payload);
        assert_eq!(Greeting::decode(payload.freeze()), Ok(Greeting::Hello(hello())));
    }

    /// A different magic, node 0, and unprintable or long names are refused: they would reach logs and
    /// clients.
    #[test]
    fn strange_hellos_are_refused() {
        let strange = [
            Hello { node: 0, ..hello() },
            Hello { lowest_version: WIRE_VERSION + 1, ..hello() },
            Hello { client_address: "1.2.3.4:5\r\n+OK".into(), ..hello() },
            Hello { cluster: "x".repeat(256), ..hello() },
            Hello { protocol: "\u{1b}[2J".into(), ..hello() },
        ];
        for hello in strange {
            assert!(matches!(round_trip(&Greeting::Hello(hello)), Err(GreetingError::Field(_))));
        }
        assert_eq!(Greeting::decode(Bytes::from_static(&[0x0d, 1, 0, 0, 0])), Err(GreetingError::Magic(1)));
    }

    /// Each difference is refused with both values.
    #[test]
    fn differences_are_refused_with_both_values() {
        let own = hello();
        assert_eq!(own.check(&Hello { node: 2, start: 1, directory: 5, ..hello() }), Ok(()));
        for (theirs, code, here, there) in [
            (
                Hello { version: 9, lowest_version: 8, ..hello() },
                RefusalCode::Version,
                "version 2",
                "lowest 8",
            ),
            (Hello { cluster: "prod".into(), ..hello() }, RefusalCode::Cluster, "demo", "prod"),
            (Hello { protocol: "raft".into(), ..hello() }, RefusalCode::Protocol, "paxos", "raft"),
            (Hello { founding: 1, ..hello() }, RefusalCode::Founding, "fffffffffffffffe", "0000000000000001"),
        ] {
            let refusal = own.check(&theirs).unwrap_err();
            assert_eq!(refusal.code, code);
            assert!(refusal.text.contains(here) && refusal.text.contains(there), "{refusal}");
        }
    }

    /// A newer version that still speaks ours counts as no difference.
    #[test]
    fn overlapping_versions_work_together() {
        let newer = Hello { version: WIRE_VERSION + 1, ..hello() };
        assert_eq!(hello().check(&newer), Ok(()));
        assert_eq!(newer.check(&hello()), Ok(()));
    }

    proptest! {
        /// Any bytes are an error or a greeting, never a panic.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Greeting::decode(Bytes::from(bytes));
        }
    }
}
