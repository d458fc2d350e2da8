//! The protobuf form of a [`PeerMessage`]: one flat record for all kinds (`record`). `cluster`, `paxos` and
//! `raft` each have the kinds of one part of [`Body`](crate::consensus::message::Body), with their numbers
//! and fields; `service` has those that no core sees.
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
mod point;
mod raft;
mod record;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::consensus::message::Message;
use crate::consensus::types::NodeId;

use super::frame::FrameError;

pub use check::MAX_INDEX;
pub use decode::{Decoded, MAX_ITEMS};
pub use error::MessageError;
pub use point::Point;
pub use service::{MAX_CORE_KIND, Service, ServiceBody, Trouble};

/// What a connection between two members carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerMessage {
    /// For the core.
    Core(Message),
    /// For a service around it.
    Service(Service),
}

impl PeerMessage {
    /// The node that says it.
    pub fn from(&self) -> NodeId {
        match self {
            PeerMessage::Core(message) => message.from,
            PeerMessage::Service(service) => service.from,
        }
    }

    /// The node that it is for.
    pub fn to(&self) -> NodeId {
        match self {
            PeerMessage::Core(message) => message.to,
            PeerMessage::Service(service) => service.to,
        }
    }

    /// What it takes in memory and, roughly, on the wire.
    pub fn cost_bytes(&self) -> usize {
        match self {
            PeerMessage::Core(message) => 64 + message.body.cost_bytes(),
            PeerMessage::Service(service) => service.cost_bytes(),
        }
    }
}

impl From<Message> for PeerMessage {
    fn from(message: Message) -> PeerMessage {
        PeerMessage::Core(message)
    }
}

impl From<Service> for PeerMessage {
    fn from(service: Service) -> PeerMessage {
        PeerMessage::Service(service)
    }
}

impl fmt::Display for PeerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerMessage::Core(message) => message.fmt(f),
            PeerMessage::Service(service) => service.fmt(f),
        }
    }
}

/// Appends the frame of a message. On an error ([`FrameError::TooLong`]: the core should have made pages)
/// `out` is as before.
pub fn encode_message(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    encode::encode(message, out)
}

/// Appends the frame of a service message, which always fits.
pub fn encode_service(service: &Service, out: &mut BytesMut) -> Result<(), FrameError> {
    encode::encode_service(service, out)
}

/// Reads the payload of a frame. Payloads of commands are slices of `frame`, which is freed with the last of
/// them; entries of one frame come and go together, so hardly more memory is kept than they need.
pub fn decode_message(frame: Bytes) -> Result<Decoded, MessageError> {
    decode::decode(frame)
}
