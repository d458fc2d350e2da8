//! Proposals of the embedder: their place in the log immediately, their outcome later.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::protocol::Proposal;
use crate::consensus::types::{Ballot, Index, Kind, RequestId};
use crate::pipeline::placement::{Placed, Placement, Submission};

use super::errors::{MAX_COMMANDS, ProposeError, WaitError};
use super::handles::{Delivered, Handle};
use super::shared::Shared;

/// How long [`Node::propose`](super::Node::propose) waits for the place of a proposal, which is known after
/// one turn of the state machine: some 20 µs if the node is idle. If that turn does not come in time (the
/// disk holds everything up), the proposal goes on all the same, and is reported to have no place yet.
pub const PLACEMENT_WAIT: Duration = Duration::from_millis(250);

/// What a node could say about a proposal immediately, and a handle to wait for its outcome:
/// [`Proposed::wait`], [`Proposed::try_outcome`], or as a [`Future`], under any executor. Dropping it changes
/// nothing for the proposal.
#[must_use = "only the outcome tells whether the command was chosen"]
pub struct Proposed {
    /// The command's index in the log *if it is ever chosen* there: a different leader may put something else
    /// there, and this command elsewhere. `None` if it has no place yet: this node does not lead, its window
    /// is full, it is handing leadership over, or the same request is already under way.
    pub index: Option<Index>,
    /// The ballot that this node is in (Raft: its round is the term).
    pub ballot: Ballot,
    /// Whether this node leads, as far as it knows. If not, it forwards the command to the leader, even to
    /// one that has yet to be elected, until it is chosen or `client.timeout_ms` have passed.
    pub leads: bool,
    handle: Handle,
}

impl Proposed {
    /// The permanent name of the request, for [`Node::propose_as`](super::Node::propose_as).
    pub fn request(&self) -> RequestId {
        self.handle.request()
    }

    /// Waits until the command is delivered on this node, at most this long.
    pub fn wait(&self, timeout: Duration) -> Result<Delivered, WaitError> {
        self.handle.wait(timeout).unwrap_or(Err(WaitError::TimedOut))
    }

    /// The outcome, if it is known.
    pub fn try_outcome(&self) -> Option<Result<Delivered, WaitError>> {
        self.handle.outcome()
    }
}

/// Like [`Proposed::wait`], but without a time limit: bring your own.
impl Future for Proposed {
    type Output = Result<Delivered, WaitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.handle.poll(context)
    }
}

impl fmt::Debug for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proposed { index, ballot, leads, .. } = self;
        let (request, outcome) = (self.request(), self.try_outcome());
        write!(
            f,
            "Proposed {{ request: {request}, index: {index:?}, ballot: {ballot}, leads: {leads}, outcome: {outcome:?} }}"
        )
    }
}

/// The embedder's way into the node.
pub(super) struct Proposer {
    pub(super) shared: Arc<Shared>,
    /// The longest payload: `limits.value_bytes`.
    pub(super) value_limit: usize,
    /// How long the node keeps proposing a command: `client.timeout_ms`.
    pub(super) timeout_ms: u64,
    /// The session of requests that the embedder gave no id, for this run.
    pub(super) session: u128,
    /// The number that was used last in that session.
    pub(super) last_number: AtomicU64,
}

impl Proposer {
    /// A request id that was never used before.
    pub(super) fn next_request(&self) -> RequestId {
        let number = 1 + self.last_number.fetch_add(1, Ordering::Relaxed);
        RequestId { session: self.session, number }
    }

    /// Proposes commands together, and waits for one turn of the state machine.
    pub(super) fn propose(&self, commands: Vec<(RequestId, Bytes)>) -> Result<Vec<Proposed>, ProposeError> {
        self.check(&commands)?;
        let handles = self.shared.handles.open(commands.iter().map(|(request, _)| *request));
        let proposals = self.admit(&handles, commands).map_err(ProposeError::Busy)?;
        let ids: Vec<RequestId> = proposals.iter().map(|proposal| proposal.command.request).collect();
        let (ballot, leads, places) = match self.submit(proposals)? {
            Some(Placement::Refused(why)) => return Err(ProposeError::Busy(why)),
            Some(Placement::Taken { ballot, leads, indexes }) => {
                (ballot, leads, ids.into_iter().zip(indexes).collect())
            }
            None => {
                let status = self.shared.status.lock();
                (status.promised, status.is_leader(), BTreeMap::new())
            }
        };
        let proposed = |handle: Handle| {
            let index = places.get(&handle.request()).copied().flatten();
            Proposed { index, ballot, leads, handle }
        };
        Ok(handles.into_iter().map(proposed).collect())
    }

    /// Checks the form of the commands, and that all of them would be admitted now.
    fn check(&self, commands: &[(RequestId, Bytes)]) -> Result<(), ProposeError> {
        if self.shared.inbox.submissions.is_closed() {
            return Err(ProposeError::Ended);
        }
        if !(1..=MAX_COMMANDS).contains(&commands.len()) {
            return Err(ProposeError::Count(commands.len()));
        }
        for (request, payload) in commands {
            if *request == RequestId::NONE {
                return Err(ProposeError::NoRequest);
            }
            let (bytes, limit) = (payload.len(), self.value_limit);
            if bytes > limit {
                return Err(ProposeError::TooLong { bytes, limit });
            }
        }
        let admitting = self.shared.admission.open().map_err(ProposeError::Busy)?;
        admitting.check_room(commands.len()).map_err(ProposeError::Busy)
    }

    /// Returns the commands that must be proposed. Left out are those that were delivered before, whose
    /// handles are told here, and those whose handles a node that ended in the meantime has already told.
    fn admit(
        &self,
        handles: &[Handle],
        commands: Vec<(RequestId, Bytes)>,
    ) -> Result<Vec<Proposal>, &'static str> {
        let mut admitting = self.shared.admission.open()?;
        let mut proposals = Vec::with_capacity(commands.len());
        for (handle, (request, payload)) in handles.iter().zip(commands) {
            match admitting.admit((request, Kind::Value, payload), self.timeout_ms, handle.ticket()) {
                Err(answer) => handle.tell_earlier(answer),
                Ok(_) if handle.outcome().is_some() => {}
                Ok(proposal) => proposals.push(proposal),
            }
        }
        Ok(proposals)
    }

    /// Returns `None` if no turn came in time, or if nothing is left to propose.
    fn submit(&self, proposals: Vec<Proposal>) -> Result<Option<Placement>, ProposeError> {
        if proposals.is_empty() {
            return Ok(None);
        }
        let submissions = &self.shared.inbox.submissions;
        let placed = Arc::new(Placed::default());
        if submissions.try_push(Submission { proposals, placed: placed.clone() }).is_ok() {
            return Ok(placed.wait(PLACEMENT_WAIT));
        }
        if submissions.is_closed() {
            return Err(ProposeError::Ended);
        }
        Err(ProposeError::Busy("the proposing queue is full; try again"))
    }
}
