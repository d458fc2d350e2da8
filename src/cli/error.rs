//! Why a command failed, in words for a person.

/// Why a command that starts or loads a cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, with the path or address.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Ctrl-C or SIGTERM came in while waiting.
    #[error("interrupted")]
    Interrupted,
    /// Everything else, in whole sentences: what was wrong and what to do.
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// An [`Error::Io`] made of what was tried.
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }
}
