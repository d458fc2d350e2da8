//! Why logs cannot be checked, in words for a person.

use std::path::PathBuf;

/// Why logs cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The system refused it.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The verdict cannot be printed.
    #[error("cannot print the verdict to standard output: {0}")]
    Output(std::io::Error),
    /// The files are not the logs of one cluster.
    #[error("{0}")]
    Input(String),
}
