//! Why the payload of a frame is not a message.

/// What is wrong with a message. Its connection is closed, since an honest node never sends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not protobuf of the expected form.
    #[error("not a message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Its contents are impossible.
    #[error("an impossible message: {0}")]
    Nonsense(String),
}
