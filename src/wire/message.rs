//! The protobuf form of [`Message`]: one flat record for all kinds (`record`). `cluster`, `paxos` and `raft`
//! each have the kinds of one part of [`Body`](crate::consensus::message::Body), with their numbers and
//! fields.
//!
//! Numbers are only ever added: a node skips fields that it does not know, and a message of an unknown kind
//! as a whole ([`Decoded::UnknownKind`]), so that versions can be mixed in a rolling upgrade. Messages are
//! written and read by hand over prost's primitives, because prost's derive would need each entry cloned into
//! a second form, and would let 2 bytes of input grow to 112 in memory. A derived twin checks both directions
//! in the tests.
//!
//! What no honest node sends, whatever its state, is refused here, so that a core can rely on that. The core
//! checks what depends on the receiver's state (rounds, ballots, watermarks), and the connection checks who
//! may send it.

mod check;
mod cluster;
mod decode;
mod encode;
mod error;
mod paxos;
mod raft;
mod record;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use crate::consensus::message::Message;

use super::frame::FrameError;

pub use check::MAX_INDEX;
pub use decode::{Decoded, MAX_ITEMS};
pub use error::MessageError;

/// Appends the frame of a message. On an error ([`FrameError::TooLong`]: the core should have made pages)
/// `out` is as before.
pub fn encode_message(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    encode::encode(message, out)
}

/// Reads the payload of a frame. Payloads of commands are slices of `frame`, which is freed with the last of
/// them; entries of one frame come and go together, so hardly more memory is kept than they need.
pub fn decode_message(frame: Bytes) -> Result<Decoded, MessageError> {
    decode::decode(frame)
}
