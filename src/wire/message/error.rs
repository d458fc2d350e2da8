//! Why the payload of a frame is not a message.

/// What is wrong with a message. Its connection is closed: an honest node never sends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No protobuf of ours.
    #[error("not a message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Impossible contents.
    #[error("an impossible message: {0}")]
    Nonsense(String),
}
