//! The greetings that open a connection, as frames: a hello says which node calls which and which version
//! it speaks, an introduction who a node is, and a refusal why there will be no connection.
//!
//! A greeting is one frame of at most [`MAX_GREETING_BYTES`]. Its protobuf form only ever gains fields,
//! so that any two versions can at least tell each other why they do not work together: a hello of
//! version 1 is read as one without a nonce, and refused for its version. Left out: who says what when,
//! and what must be proved before (`pipeline::handshake`); who may take part (`pipeline::trust`).

use std::fmt;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::consensus::types::NodeId;

use super::frame::{FrameError, encode_frame};
use super::proof::Proof;
use super::refusal::MAX_TEXT_BYTES;
pub use super::refusal::{Refusal, RefusalCode};

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

/// A number that is used once: no proof that covers it can be used again.
pub type Nonce = [u8; 16];

/// Who calls whom. It says nothing that a stranger could use, and it is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The wire version that the sender speaks.
    pub version: u32,
    /// The oldest wire version it can talk to.
    pub lowest_version: u32,
    /// The sender's id in the cluster, greater than 0.
    pub from: NodeId,
    /// The id of the node that the sender wants to talk to.
    pub to: NodeId,
    /// Random: the proofs of this connection cover it.
    pub nonce: Nonce,
    /// Whether the sender has a shared key, and therefore wants proofs.
    pub has_key: bool,
    /// The listener's proof. The dialler does not know the listener's nonce yet, and proves itself later.
    pub proof: Option<Proof>,
}

/// Who a node is: what members must have in common, and what its id is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its id in the cluster, greater than 0.
    pub node: NodeId,
    /// The cluster's name; like all names here at most 255 printable ASCII characters.
    pub cluster: String,
    /// The consensus protocol it runs.
    pub protocol: String,
    /// A hash of the founding members and constants.
    pub founding: u64,
    /// The id of its data directory.
    pub directory: u128,
    /// The number of its start; a later start has a higher number.
    pub start: u64,
    /// Where clients reach it; may be empty.
    pub client_address: String,
}

/// An encoded introduction with its proof. The proof covers all bytes, also those of fields that only a
/// newer version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Read it with [`Introduction::decode`].
    pub introduction: Bytes,
    /// Missing in a cluster without a key.
    pub proof: Option<Proof>,
}

/// What opens a connection, or ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The node says who calls whom.
    Hello(Hello),
    /// The node introduces itself.
    Introduction(Signed),
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
    /// Compares versions. The text of a refusal names this node's values first.
    pub fn check_version(&self, theirs: &Hello) -> Result<(), Refusal> {
        if self.lowest_version <= theirs.version && theirs.lowest_version <= self.version {
            return Ok(());
        }
        let text = format!(
            "wire version {} (lowest {}) here, {} (lowest {}) there: upgrade the older node in steps",
            self.version, self.lowest_version, theirs.version, theirs.lowest_version
        );
        Err(Refusal::new(RefusalCode::Version, text))
    }
}

impl Introduction {
    /// Compares everything that two members must have in common. The text of a refusal names this node's
    /// values first.
    pub fn check(&self, theirs: &Introduction) -> Result<(), Refusal> {
        let same = |code, what: &str, here: &dyn fmt::Display, there: &dyn fmt::Display| {
            if here.to_string() != there.to_string() {
                return Err(Refusal::new(code, format!("{what} {here} here, {there} there")));
            }
            Ok(())
        };
        same(RefusalCode::Cluster, "cluster", &self.cluster, &theirs.cluster)?;
        same(RefusalCode::Protocol, "protocol", &self.protocol, &theirs.protocol)?;
        let (here, there) = (format!("{:016x}", self.founding), format!("{:016x}", theirs.founding));
        same(RefusalCode::Founding, "the hash of founding members and constants", &here, &there)
    }

    /// Its bytes, without a frame.
    pub fn encode(&self) -> Bytes {
        let record = IntroductionRecord {
            cluster: self.cluster.clone(),
            node: self.node,
            directory_high: (self.directory >> 64) as u64,
            directory_low: self.directory as u64,
            start: self.start,
            protocol: self.protocol.clone(),
            founding: self.founding,
            client_address: self.client_address.clone(),
        };
        record.encode_to_vec().into()
    }

    /// Reads what [`Introduction::encode`] returned.
    pub fn decode(bytes: Bytes) -> Result<Introduction, GreetingError> {
        IntroductionRecord::decode(bytes)?.into_introduction()
    }
}

impl Greeting {
    /// Appends the frame of this greeting.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let record = match self {
            Greeting::Hello(hello) => GreetingRecord {
                magic: MAGIC,
                version: hello.version,
                lowest_version: hello.lowest_version,
                node: hello.from,
                to: hello.to,
                nonce: if hello.nonce == Nonce::default() { vec![] } else { hello.nonce.to_vec() },
                has_key: hello.has_key,
                proof: proof_bytes(hello.proof),
                ..GreetingRecord::default()
            },
            Greeting::Introduction(signed) => GreetingRecord {
                magic: MAGIC,
                introduction: signed.introduction.clone(),
                proof: proof_bytes(signed.proof),
                ..GreetingRecord::default()
            },
            Greeting::Refusal(refusal) => GreetingRecord {
                magic: MAGIC,
                refusal_code: refusal.code.number(),
                text: refusal.text.clone(),
                proof: proof_bytes(refusal.proof),
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
        let proof = match record.proof.len() {
            0 => None,
            _ => Some(array(&record.proof, "a proof that is not of 32 bytes")?),
        };
        match record.refusal_code {
            0 if record.introduction.is_empty() => Ok(Greeting::Hello(record.into_hello(proof)?)),
            0 => Ok(Greeting::Introduction(Signed { introduction: record.introduction, proof })),
            code if record.text.len() <= MAX_TEXT_BYTES => {
                let code = RefusalCode::from_number(code);
                Ok(Greeting::Refusal(Refusal { code, text: record.text, proof }))
            }
            _ => Err(GreetingError::Field("a refusal's text of more than 1024 bytes")),
        }
    }
}

/// The protobuf form of all greetings: a refusal has a code, an introduction its bytes, a hello neither.
/// Numbers that are missing here were those of a hello of version 1, which was an introduction at the
/// same time.
#[derive(Clone, PartialEq, prost::Message)]
struct GreetingRecord {
    #[prost(fixed32, tag = "1")]
    magic: u32,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(uint32, tag = "3")]
    lowest_version: u32,
    #[prost(uint64, tag = "5")]
    node: u64,
    #[prost(uint32, tag = "12")]
    refusal_code: u32,
    #[prost(string, tag = "13")]
    text: String,
    #[prost(uint64, tag = "14")]
    to: u64,
    #[prost(bytes = "vec", tag = "15")]
    nonce: Vec<u8>,
    #[prost(bool, tag = "16")]
    has_key: bool,
    #[prost(bytes = "vec", tag = "17")]
    proof: Vec<u8>,
    #[prost(bytes = "bytes", tag = "18")]
    introduction: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IntroductionRecord {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(fixed64, tag = "3")]
    directory_high: u64,
    #[prost(fixed64, tag = "4")]
    directory_low: u64,
    #[prost(uint64, tag = "5")]
    start: u64,
    #[prost(string, tag = "6")]
    protocol: String,
    #[prost(fixed64, tag = "7")]
    founding: u64,
    #[prost(string, tag = "8")]
    client_address: String,
}

impl GreetingRecord {
    fn into_hello(self, proof: Option<Proof>) -> Result<Hello, GreetingError> {
        if self.node == 0 {
            return Err(GreetingError::Field("node id 0"));
        }
        if self.lowest_version > self.version {
            return Err(GreetingError::Field("a lowest version above its version"));
        }
        let nonce = match self.nonce.len() {
            0 => Nonce::default(),
            _ => array(&self.nonce, "a nonce that is not of 16 bytes")?,
        };
        Ok(Hello {
            version: self.version,
            lowest_version: self.lowest_version,
            from: self.node,
            to: self.to,
            nonce,
            has_key: self.has_key,
            proof,
        })
    }
}

impl IntroductionRecord {
    fn into_introduction(self) -> Result<Introduction, GreetingError> {
        if self.node == 0 {
            return Err(GreetingError::Field("node id 0"));
        }
        for name in [&self.cluster, &self.protocol, &self.client_address] {
            if name.len() > MAX_NAME_BYTES || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(GreetingError::Field("a name that is not at most 255 printable characters"));
            }
        }
        Ok(Introduction {
            node: self.node,
            cluster: self.cluster,
            protocol: self.protocol,
            founding: self.founding,
            directory: (u128::from(self.directory_high) << 64) | u128::from(self.directory_low),
            start: self.start,
            client_address: self.client_address,
        })
    }
}

fn proof_bytes(proof: Option<Proof>) -> Vec<u8> {
    proof.map_or(vec![], |proof| proof.to_vec())
}

fn array<const N: usize>(bytes: &[u8], otherwise: &'static str) -> Result<[u8; N], GreetingError> {
    bytes.try_into().map_err(|_| GreetingError::Field(otherwise))
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
            from: 1,
            to: 2,
            nonce: *b"0123456789abcdef",
            has_key: true,
            proof: Some([7; 32]),
        }
    }

    fn introduction() -> Introduction {
        Introduction {
            node: 1,
            cluster: "demo".into(),
            protocol: "paxos".into(),
            founding: u64::MAX - 1,
            directory: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            start: 7,
            client_address: "127.0.0.1:9001".into(),
        }
    }

    fn payload(greeting: &Greeting) -> BytesMut {
        let mut out = BytesMut::new();
        greeting.encode(&mut out).unwrap();
        out.split_off(HEADER_BYTES)
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
        for hello in [hello(), Hello { proof: None, nonce: Nonce::default(), has_key: false, ..hello() }] {
            let greeting = Greeting::Hello(hello);
            assert_eq!(round_trip(&greeting), Ok(greeting));
        }
        let encoded = introduction().encode();
        assert_eq!(Introduction::decode(encoded.clone()), Ok(introduction()));
        let greeting = Greeting::Introduction(Signed { introduction: encoded, proof: Some([9; 32]) });
        assert_eq!(round_trip(&greeting), Ok(greeting));
        for code in RefusalCode::KNOWN.into_iter().chain([RefusalCode::Other(99)]) {
            for proof in [None, Some([3; 32])] {
                let text = "cluster a here, b there".into();
                let greeting = Greeting::Refusal(Refusal { code, text, proof });
                assert_eq!(round_trip(&greeting), Ok(greeting));
            }
        }
    }

    /// Rolling upgrade: fields that a newer version adds are skipped, and those of an introduction are
    /// kept for the proof.
    #[test]
    fn unknown_fields_are_tolerated() {
        let mut newer = payload(&Greeting::Hello(hello()));
        prost::encoding::string::encode(500, &"from the future".to_owned(), &mut newer);
        assert_eq!(Greeting::decode(newer.freeze()), Ok(Greeting::Hello(hello())));
        let mut newer = BytesMut::from(&introduction().encode()[..]);
        prost::encoding::string::encode(500, &"from the future".to_owned(), &mut newer);
        let newer = newer.freeze();
        assert_eq!(Introduction::decode(newer.clone()), Ok(introduction()));
        let signed = Greeting::Introduction(Signed { introduction: newer, proof: None });
        assert_eq!(round_trip(&signed), Ok(signed));
    }

    /// A node of version 1 is refused for its version, in words that it understands. These are its bytes.
    #[test]
    fn a_hello_of_version_1_is_refused_for_its_version() {
        let mut old = vec![0x0d];
        old.extend(MAGIC.to_le_bytes());
        old.extend([0x10, 1, 0x18, 1, 0x22, 4]);
        old.extend(b"demo");
        old.extend([0x28, 3, 0x31, 1, 2, 3, 4, 5, 6, 7, 8, 0x40, 1, 0x4a, 5]);
        old.extend(b"paxos");
        let Ok(Greeting::Hello(theirs)) = Greeting::decode(old.into()) else { panic!("not a hello") };
        assert_eq!((theirs.version, theirs.from, theirs.to), (1, 3, 0));
        let refusal = hello().check_version(&theirs).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Version);
        let stranger = Refusal::new(RefusalCode::Version, "");
        assert_eq!(
            payload(&Greeting::Refusal(stranger))[5..],
            [0x60, 1],
            "code 1 in field 12, as in version 1"
        );
    }

    /// A different magic, node 0, and unprintable or long names are refused: they would reach logs and
    /// clients.
    #[test]
    fn strange_greetings_are_refused() {
        for strange in [Hello { from: 0, ..hello() }, Hello { lowest_version: WIRE_VERSION + 1, ..hello() }] {
            assert!(matches!(round_trip(&Greeting::Hello(strange)), Err(GreetingError::Field(_))));
        }
        for strange in [
            Introduction { node: 0, ..introduction() },
            Introduction { client_address: "1.2.3.4:5\r\n+OK".into(), ..introduction() },
            Introduction { cluster: "x".repeat(256), ..introduction() },
            Introduction { protocol: "\u{1b}[2J".into(), ..introduction() },
        ] {
            assert!(matches!(Introduction::decode(strange.encode()), Err(GreetingError::Field(_))));
        }
        assert_eq!(Greeting::decode(Bytes::from_static(&[0x0d, 1, 0, 0, 0])), Err(GreetingError::Magic(1)));
        for (tag, length) in [(15, 15), (15, 17), (17, 31), (17, 33)] {
            let mut odd =
                payload(&Greeting::Hello(Hello { proof: None, nonce: Nonce::default(), ..hello() }));
            prost::encoding::bytes::encode(tag, &vec![1_u8; length], &mut odd);
            assert!(matches!(Greeting::decode(odd.freeze()), Err(GreetingError::Field(_))), "{tag} {length}");
        }
    }

    /// Each difference is refused with both values.
    #[test]
    fn differences_are_refused_with_both_values() {
        let own = introduction();
        assert_eq!(own.check(&Introduction { node: 2, start: 1, directory: 5, ..introduction() }), Ok(()));
        let other = |theirs| own.check(&theirs).unwrap_err();
        let newer = hello().check_version(&Hello { version: 9, lowest_version: 8, ..hello() }).unwrap_err();
        for (refusal, code, here, there) in [
            (newer, RefusalCode::Version, "version 2", "lowest 8"),
            (
                other(Introduction { cluster: "prod".into(), ..introduction() }),
                RefusalCode::Cluster,
                "demo",
                "prod",
            ),
            (
                other(Introduction { protocol: "raft".into(), ..introduction() }),
                RefusalCode::Protocol,
                "paxos",
                "raft",
            ),
            (
                other(Introduction { founding: 1, ..introduction() }),
                RefusalCode::Founding,
                "fffffffffffffffe",
                "0000000000000001",
            ),
        ] {
            assert_eq!(refusal.code, code);
            assert!(refusal.text.contains(here) && refusal.text.contains(there), "{refusal}");
        }
    }

    /// A newer version that still speaks ours counts as no difference.
    #[test]
    fn overlapping_versions_work_together() {
        let newer = Hello { version: WIRE_VERSION + 1, ..hello() };
        assert_eq!(hello().check_version(&newer), Ok(()));
        assert_eq!(newer.check_version(&hello()), Ok(()));
    }

    proptest! {
        /// Any bytes are an error or a greeting, never a panic.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Greeting::decode(Bytes::from(bytes.clone()));
            let _ = Introduction::decode(Bytes::from(bytes));
        }
    }
}
