//! What a peer sends: frames, greetings, messages.

use bytes::{Bytes, BytesMut};

use crate::wire::frame::{FrameDecoder, FrameError, HEADER_BYTES, MAX_FRAME_BYTES, encode_frame};
use crate::wire::hello::{
    Greeting, GreetingError, Hello, LOWEST_WIRE_VERSION, MAX_GREETING_BYTES, WIRE_VERSION,
};
use crate::wire::message::{
    Decoded, MessageError, PeerMessage, decode_message, encode_message, encode_service,
};

use super::pieces;

/// A connection from its first byte on: a greeting, then messages. The input begins with the sizes of pieces.
/// It is read as it is, and once more with correct checksums, since no fuzzer finds those.
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
    check_greeting(&Greeting::decode(payload), data.len());
}

/// What was heard on a connection until its end or its first error.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    greeting: Option<Result<Greeting, GreetingError>>,
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
        if self.greeting.is_none() {
            let greeting = Greeting::decode(payload);
            check_greeting(&greeting, len);
            decoder.set_limit(MAX_FRAME_BYTES);
            return self.greeting.insert(greeting).is_ok();
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
        (Greeting::Refusal(said), Greeting::Refusal(read)) => {
            assert_eq!(said.code, read.code, "the code of a refusal");
            assert!(said.text.starts_with(&read.text), "{:?} was {:?}", read.text, said.text);
            let shown = said.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?} is not for a terminal");
        }
        _ => panic!("{greeting:?} became {again:?}"),
    }
}

/// Two nodes agree on whether they work together, whichever asks, and a refusal can be encoded.
fn check_hello(theirs: &Hello) {
    let own = Hello {
        version: WIRE_VERSION,
        lowest_version: LOWEST_WIRE_VERSION,
        cluster: "demo".into(),
        protocol: "paxos".into(),
        ..theirs.clone()
    };
    assert_eq!(own.check(theirs).is_ok(), theirs.check(&own).is_ok(), "{own:?} and {theirs:?}");
    if let Err(refusal) = own.check(theirs) {
        let mut frame = BytesMut::new();
        Greeting::Refusal(refusal).encode(&mut frame).expect("a refusal fits into a greeting");
    }
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
