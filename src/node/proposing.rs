//! Proposals of the embedder: immediately where they stand, later what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::protocol::Proposal;
use crate::consensus::types::{Ballot, Command, Index, Kind, RequestId};
use crate::pipeline::placement::{Placed, Placement, Submission};
use crate::pipeline::requests::Digest;

use super::MAX_COMMANDS;
use super::errors::{ProposeError, WaitError};
use super::handles::{Delivered, Handle};
use super::service::NodeService;

/// A node gives the place of a proposal after one turn of its state machine, some 20 µs if it is idle. If
/// that turn does not come so soon (the disk holds everything up), the proposal goes its way all the same,
/// and is said to have no place yet.
pub const PLACEMENT_WAIT: Duration = Duration::from_millis(250);

/// What a node said of a proposal at once, and the handle to wait for what comes of it: [`Proposed::wait`],
/// [`Proposed::try_outcome`], or as a [`Future`], under any executor. Dropping it changes nothing for the
/// proposal.
#[must_use = "without a look at the outcome nobody knows whether the command was chosen"]
pub struct Proposed {
    /// Where the command stands in the log *if it is ever chosen* there: another leader may put something
    /// else there, and this command elsewhere. `None` if it has no place yet: this node does not lead, its
    /// window is full, it hands leadership over, or the same request is under way already.
    pub index: Option<Index>,
    /// The ballot that this node is in (Raft: its round is the term).
    pub ballot: Ballot,
    /// Whether this node leads, as far as it knows. If not, it forwards the command to the leader, also to
    /// one that is yet to be elected, until it is chosen or `client.timeout_ms` have passed.
    pub leads: bool,
    handle: Handle,
}

impl Proposed {
    /// Names the request for ever, for [`Node::propose_as`](super::Node::propose_as).
    pub fn request(&self) -> RequestId {
        self.handle.request()
    }

    /// Waits until the command is delivered on this node, at most so long.
    pub fn wait(&self, timeout: Duration) -> Result<Delivered, WaitError> {
        self.handle.wait(timeout).unwrap_or(Err(WaitError::TimedOut))
    }

    /// What came of it, if that is known.
    pub fn try_outcome(&self) -> Option<Result<Delivered, WaitError>> {
        self.handle.outcome()
    }
}

/// As [`Proposed::wait`] without a limit of time: bring your own.
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

/// Proposes commands together, and waits for one turn of the state machine.
pub(super) fn propose(
    service: &NodeService,
    commands: Vec<(RequestId, Bytes)>,
) -> Result<Vec<Proposed>, ProposeError> {
    check(service, &commands)?;
    let handles = register(service, &commands);
    let deadline_ms = service.clock.now_ms().saturating_add(service.propose_timeout_ms);
    // What was delivered before is not proposed again.
    let open = handles.iter().zip(commands).filter(|(handle, _)| handle.outcome().is_none());
    let proposals = open.map(|(handle, (_, payload))| {
        let command = Command { request: handle.request(), from: service.node, kind: Kind::Value, payload };
        Proposal { command, deadline_ms }
    });
    let proposals: Vec<Proposal> = proposals.collect();
    let open_ids: Vec<RequestId> = proposals.iter().map(|proposal| proposal.command.request).collect();
    let (ballot, leads, places) = match submit(service, proposals)? {
        Some(Placement::Refused(why)) => return Err(ProposeError::Busy(why)),
        Some(Placement::Taken { ballot, leads, indexes }) => {
            (ballot, leads, open_ids.into_iter().zip(indexes).collect())
        }
        None => {
            let status = service.status.lock();
            (status.promised, status.is_leader(), BTreeMap::new())
        }
    };
    let proposed = |handle: Handle| {
        let index = places.get(&handle.request()).copied().flatten();
        Proposed { index, ballot, leads, handle }
    };
    Ok(handles.into_iter().map(proposed).collect())
}

fn check(service: &NodeService, commands: &[(RequestId, Bytes)]) -> Result<(), ProposeError> {
    if service.inbox.submissions.is_closed() {
        return Err(ProposeError::Ended);
    }
    if !(1..=MAX_COMMANDS).contains(&commands.len()) {
        return Err(ProposeError::Count(commands.len()));
    }
    for (request, payload) in commands {
        if *request == RequestId::NONE {
            return Err(ProposeError::NoRequest);
        }
        let (bytes, limit) = (payload.len(), service.value_limit);
        if bytes > limit {
            return Err(ProposeError::TooLong { bytes, limit });
        }
    }
    if let Some(why) = service.health.refuses() {
        return Err(ProposeError::Busy(why));
    }
    if service.requests.lock().waiting() + commands.len() > service.pending_limit {
        return Err(ProposeError::Busy("too many requests wait for their answers (limits.pending)"));
    }
    Ok(())
}

/// A handle for each command; of one that was delivered before the outcome is known immediately.
fn register(service: &NodeService, commands: &[(RequestId, Bytes)]) -> Vec<Handle> {
    let handles = service.handles.open(commands.iter().map(|(request, _)| *request));
    let mut requests = service.requests.lock();
    for (handle, (request, payload)) in handles.iter().zip(commands) {
        let digest = Digest::of_payload(Kind::Value, payload);
        if let Some(answer) = requests.register(*request, Some(digest), handle.ticket()) {
            handle.tell_earlier(answer);
        }
    }
    handles
}

/// `None`: no turn came in time, or nothing is left to propose.
fn submit(service: &NodeService, proposals: Vec<Proposal>) -> Result<Option<Placement>, ProposeError> {
    if proposals.is_empty() {
        return Ok(None);
    }
    let placed = Arc::new(Placed::default());
    let submission = Submission { proposals, placed: placed.clone() };
    if service.inbox.submissions.try_push(submission).is_err() {
        return match service.inbox.submissions.is_closed() {
            true => Err(ProposeError::Ended),
            false => Err(ProposeError::Busy("the proposing queue is full; try again")),
        };
    }
    Ok(placed.wait(PLACEMENT_WAIT))
}
