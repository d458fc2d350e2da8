//! What a peer sends: frames, greetings, messages.

use bytes::{Bytes, BytesMut};

use crate::wire::frame::{FrameDecoder, FrameError, HEADER_BYTES, MAX_FRAME_BYTES, encode_frame};
use crate::wire::hello::{
    Greeting, GreetingError, Hello, Introduction, LOWEST_WIRE_VERSION, MAX_GREETING_BYTES, Refusal, Signed,
    WIRE_VERSION,
};
use crate::wire::message::{
    Decoded, MessageError, PeerMessage, decode_message, encode_message, encode_service,
};

use super::pieces;

/// How many greetings a dialler says: a hello, and an introduction.
const GREETINGS: usize = 2;

/// A connection from its first byte on: a hello, an introduction, then messages. The input begins with
/// the sizes of pieces. It is read as it is, and once more with correct checksums, since no fuzzer finds
/// those.
pub fn peer_stream(data: &[u8]) {
    let (sizes, bytes) = pieces::split(data);
    for bytes in [bytes, &mend_checksums(bytes)] {
        let whole = listen(&[bytes]);
        let torn = listen(&pieces::cut(sizes, bytes));
        assert_eq!(whole, torn, "what a connection says depends on how its bytes arrive");
        assert!(bytes.starts_with(&whole.frames), "frames are not written as they were read");
    }
}

/// The payload of one frame: as a message, and as a greeting.
pub fn peer_message(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    check_message(&decode_message(payload.clone()), payload.len());
    check_greeting(&Greeting::decode(payload.clone()), data.len());
    check_introduction(&Introduction::decode(payload), data.len());
}

/// What was heard on a connection until its end or its first error.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    greetings: Vec<Result<Greeting, GreetingError>>,
    messages: Vec<Result<Decoded, MessageError>>,
    error: Option<FrameError>,
    /// The frames that were read, encoded again.
    frames: Vec<u8>,
}

fn listen(pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard::default();
    let mut decoder = FrameDecoder::new(MAX_GREETING_BYTES);
    for piece in pieces {
        let mut input = *piece;
        while !input.is_empty() {
            let before = input.len();
            let payload = match decoder.decode(&mut input) {
                Ok(Some(payload)) => payload,
                Ok(None) if input.is_empty() => break,
                Ok(None) => panic!("{} of {before} bytes are left of an incomplete frame", input.len()),
                Err(error) => {
                    heard.error = Some(error);
                    return heard;
                }
            };
            if !heard.take(payload, &mut decoder) {
                return heard;
            }
        }
    }
    heard
}

impl Heard {
    /// Takes the payload of a frame. Returns whether the connection goes on.
    fn take(&mut self, payload: Bytes, decoder: &mut FrameDecoder) -> bool {
        let len = payload.len();
        let mut frame = BytesMut::new();
        encode_frame(&mut frame, |out| out.extend_from_slice(&payload)).expect("it was in a frame");
        self.frames.extend_from_slice(&frame);
        if self.greetings.len() < GREETINGS {
            let greeting = Greeting::decode(payload);
            check_greeting(&greeting, len);
            self.greetings.push(greeting);
            if self.greetings.len() == GREETINGS {
                decoder.set_limit(MAX_FRAME_BYTES);
            }
            return self.greetings.last().is_some_and(Result::is_ok);
        }
        let message = decode_message(payload);
        check_message(&message, len);
        self.messages.push(message);
        self.messages.last().is_some_and(Result::is_ok)
    }
}

/// What was decoded from `len` bytes is encoded to the same, in no more bytes.
fn check_message(decoded: &Result<Decoded, MessageError>, len: usize) {
    let message = match decoded {
        Ok(Decoded::Message(message)) => message,
        Ok(Decoded::UnknownKind(_)) => return,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let shown = message.to_string();
    let mut frame = BytesMut::new();
    let encoded = match message {
        PeerMessage::Core(message) => encode_message(message, &mut frame),
        PeerMessage::Service(service) => encode_service(service, &mut frame),
    };
    encoded.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let payload = frame.freeze().slice(HEADER_BYTES..);
    assert!(payload.len() <= len, "{len} bytes become {}: {shown}", payload.len());
    let again = decode_message(payload);
    assert_eq!(again.as_ref(), decoded.as_ref(), "{shown} is not what is read again");
}

fn check_greeting(decoded: &Result<Greeting, GreetingError>, len: usize) {
    let greeting = match decoded {
        Ok(greeting) => greeting,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut frame = BytesMut::new();
    greeting.encode(&mut frame).unwrap_or_else(|error| panic!("{greeting:?}: {error}"));
    let payload = frame.freeze().slice(HEADER_BYTES..);
    assert!(payload.len() <= MAX_GREETING_BYTES, "a greeting of {} bytes", payload.len());
    let again = Greeting::decode(payload.clone()).unwrap_or_else(|error| panic!("{greeting:?}: {error}"));
    match (greeting, &again) {
        (Greeting::Hello(hello), Greeting::Hello(_)) => {
            assert_eq!(greeting, &again, "a hello is not what is read again");
            assert!(payload.len() <= len, "{len} bytes become {}: {hello:?}", payload.len());
            check_hello(hello);
        }
        (Greeting::Introduction(signed), Greeting::Introduction(_)) => {
            assert_eq!(greeting, &again, "an introduction is not what is read again");
            check_introduction(&Introduction::decode(signed.introduction.clone()), signed.introduction.len());
        }
        (Greeting::Refusal(said), Greeting::Refusal(_)) => {
            assert_eq!(greeting, &again, "a refusal is not what is read again");
            let shown = said.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?} is not for a terminal");
        }
        _ => panic!("{greeting:?} became {again:?}"),
    }
}

/// Two nodes agree on whether they speak a version in common, whichever asks, and a refusal can be
/// encoded.
fn check_hello(theirs: &Hello) {
    let own = Hello { version: WIRE_VERSION, lowest_version: LOWEST_WIRE_VERSION, ..theirs.clone() };
    let (here, there) = (own.check_version(theirs), theirs.check_version(&own));
    assert_eq!(here.is_ok(), there.is_ok(), "{own:?} and {theirs:?}");
    here.map_or_else(check_refusal, |()| ());
}

/// An introduction is encoded to what it was read from, and two nodes agree on whether they belong
/// together.
fn check_introduction(decoded: &Result<Introduction, GreetingError>, len: usize) {
    let theirs = match decoded {
        Ok(theirs) => theirs,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let encoded = theirs.encode();
    assert!(encoded.len() <= len, "{len} bytes become {}: {theirs:?}", encoded.len());
    assert_eq!(Introduction::decode(encoded.clone()).as_ref(), Ok(theirs), "not what is read again");
    let mut frame = BytesMut::new();
    let signed = Signed { introduction: encoded, proof: Some([1; 32]) };
    Greeting::Introduction(signed).encode(&mut frame).expect("an introduction fits into a greeting");
    let own = Introduction { cluster: "demo".into(), protocol: "paxos".into(), ..theirs.clone() };
    let (here, there) = (own.check(theirs), theirs.check(&own));
    assert_eq!(here.is_ok(), there.is_ok(), "{own:?} and {theirs:?}");
    here.map_or_else(check_refusal, |()| ());
}

fn check_refusal(refusal: Refusal) {
    let mut frame = BytesMut::new();
    Greeting::Refusal(refusal).encode(&mut frame).expect("a refusal fits into a greeting");
    assert!(frame.len() <= HEADER_BYTES + MAX_GREETING_BYTES, "a refusal of {} bytes", frame.len());
}

/// The same stream with the correct checksum in every complete frame.
fn mend_checksums(stream: &[u8]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let mut rest = &mut stream[..];
    while let Some((header, after)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let Some((payload, later)) = after.split_at_mut_checked(length as usize) else { break };
        header[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        rest = later;
    }
    stream
}
