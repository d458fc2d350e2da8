//! How many clients fit: a process may have only so many descriptors (open files, sockets), and those that
//! peers, the disk and the log need are reserved, so that no number of clients takes them.
//!
//! Without the reserve a flood of silent clients would keep a restarted peer from connecting, the log from
//! rotating and the disk from being opened again, although each of them comes back only because the node
//! still needs it. The reserve is made of numbers that are bounded elsewhere: connections of peers in
//! `peers/inbound.rs`, files in `directory` and `logfile`.
//!
//! What the process had open before counts as taken; what an embedder opens later is not known here, except
//! for a few in the slack. The limit itself is left alone: our server raises it before it starts a node, but
//! a library must not.

use std::fmt;

use rustix::process::{Resource, getrlimit};

use super::ending::ExitCode;
use super::errors::StartError;
use super::peers::most_connections;

/// Files of the node itself: those of sled while it is reopened, `tail`, the lock, the log file while it
/// rotates, the terminal; both ports and what their threads wait in.
const FILES: usize = 40;

/// For what is open for a moment only: a folder that is synced or listed, a client that is told that there
/// are too many.
const SLACK: usize = 24;

/// Taken if the system does not tell how many are open.
const OPEN_UNKNOWN: usize = 64;

/// The descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    /// The most that it may have open.
    limit: usize,
    /// How many were open before this node opened any.
    open: usize,
    /// How many this node needs besides those of clients.
    reserve: usize,
}

/// The clients that fit, and what to say if they are fewer than configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) clients: usize,
    pub(super) warning: Option<String>,
}

/// Fits the configured number of clients to the descriptors that this process may have; 0 without a client
/// port. Fails if there are too few even for the reserve.
pub(super) fn fit(clients: usize, peers: usize) -> Result<Fit, StartError> {
    let budget = Budget { limit: limit(), open: open(), reserve: FILES + SLACK + most_connections(peers) };
    budget.fit(clients).map_err(|text| StartError::new(ExitCode::Config, text))
}

fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

fn open() -> usize {
    // One of them reads the folder.
    std::fs::read_dir("/dev/fd").map_or(OPEN_UNKNOWN, |open| open.count().saturating_sub(1))
}

impl Budget {
    fn fit(&self, clients: usize) -> Result<Fit, String> {
        let taken = self.open + self.reserve;
        let fitting = self.limit.saturating_sub(taken);
        if fitting < clients.min(1) || self.limit < taken {
            return Err(format!(
                "this process may open only {self}: raise the limit of open files (ulimit -n, LimitNOFILE) to {} or \
                 more",
                taken + clients.max(1)
            ));
        }
        if clients <= fitting {
            return Ok(Fit { clients, warning: None });
        }
        let warning = format!(
            "limits.clients is {clients}, but only {fitting} clients are served at a time: this process may open \
             {self}; raise the limit of open files (ulimit -n, LimitNOFILE) to {} or lower limits.clients",
            taken + clients
        );
        Ok(Fit { clients: fitting, warning: Some(warning) })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { limit, open, reserve } = self;
        write!(
            f,
            "{limit} files, of which {open} were open already and {reserve} are reserved for peers, disk and log"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> Budget {
        Budget { limit, open: 10, reserve: 90 }
    }

    /// Clients get what the reserve leaves, and a warning with both numbers says so.
    #[test]
    fn clients_fit_next_to_the_reserve() {
        assert_eq!(budget(1100).fit(1000), Ok(Fit { clients: 1000, warning: None }));
        let fit = budget(1099).fit(1000).unwrap();
        assert_eq!(fit.clients, 999);
        assert_eq!(
            fit.warning.unwrap(),
            "limits.clients is 1000, but only 999 clients are served at a time: this process may open 1099 files, \
             of which 10 were open already and 90 are reserved for peers, disk and log; raise the limit of open \
             files (ulimit -n, LimitNOFILE) to 1100 or lower limits.clients"
        );
        assert_eq!(budget(usize::MAX).fit(100_000).unwrap().warning, None);
    }

    /// Without room for one client, or for the reserve of a node that has none, nothing starts.
    #[test]
    fn too_few_descriptors_are_an_error() {
        assert_eq!(budget(101).fit(1000).unwrap().clients, 1);
        let text = budget(100).fit(1000).unwrap_err();
        assert!(text.contains("may open only 100 files") && text.contains("to 1100 or more"), "{text}");
        assert_eq!(budget(100).fit(0), Ok(Fit { clients: 0, warning: None }));
        assert!(budget(99).fit(0).is_err());
    }

    /// The reserve has room for more than a node really has open.
    #[test]
    fn what_is_open_is_counted() {
        let before = open();
        assert!(before > 2, "{before} descriptors are open");
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // Other tests of this process open and close some at the same time.
        assert!(limit() > 20 && open() > 20, "{} are open with {} of ours", open(), files.len());
    }
}
