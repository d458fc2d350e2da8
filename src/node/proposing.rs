//! Proposals of whoever embeds the node: at once where they stand, later what came of them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::consensus::protocol::Proposal;
use crate::consensus::types::{Ballot, Command, Index, Kind, RequestId};
use crate::pipeline::placement::{Placed, Placement, Submission};
use crate::pipeline::requests::{Answer, Digest, Ticket};

use super::service::NodeService;

/// A node gives the place of a proposal after one turn of its state machine, some 20 µs if it is idle. If
/// that turn does not come so soon (the disk holds everything up), the proposal goes its way all the same,
/// and is said to have no place yet.
pub const PLACEMENT_WAIT: Duration = Duration::from_millis(250);

/// One proposal holds at most so many commands.
pub const MAX_COMMANDS: usize = 4096;

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
    waiter: Waiter,
}

/// The command was delivered on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it was chosen.
    pub index: Index,
    /// What the application of this node answered; empty without one. `None` if the request had been
    /// delivered before it was proposed here: answers are not kept.
    pub response: Option<Bytes>,
}

/// Why a command was not delivered, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not delivered on this node in time. It may have been chosen, or still be. Propose it again with
    /// [`Node::propose_as`](super::Node::propose_as) and the same [`Proposed::request`]: it is delivered
    /// once.
    #[error(
        "not delivered in time: whether it is chosen is unknown; propose it again with the same request id"
    )]
    TimedOut,
    /// The node was stopped or has failed. As unknown as [`WaitError::TimedOut`].
    #[error("the node ended: whether the command is chosen is unknown")]
    Ended,
    /// Another command with the same request id was delivered at this index, so this one never is.
    #[error("the request id was used for another command, delivered at index {index}")]
    OtherCommand {
        /// Where.
        index: Index,
    },
}

/// Why a command is certainly not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Too much is under way, or the disk is full.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The payload is longer than this node takes.
    #[error("{bytes} bytes; limits.value_bytes allows {limit}")]
    TooLong {
        /// Of the payload.
        bytes: usize,
        /// `limits.value_bytes`.
        limit: usize,
    },
    /// Not between 1 and [`MAX_COMMANDS`] commands.
    #[error("{0} commands in one proposal; allowed are 1 to {MAX_COMMANDS}")]
    Count(usize),
    /// [`RequestId::NONE`] names nothing.
    #[error("the request id 0 names nothing; use another")]
    NoRequest,
    /// The node has failed: see [`Node::failure`](super::Node::failure).
    #[error("the node has ended")]
    Ended,
}

impl Proposed {
    /// Names the request for ever, for [`Node::propose_as`](super::Node::propose_as).
    pub fn request(&self) -> RequestId {
        self.waiter.request
    }

    /// Waits until the command is delivered on this node, at most so long.
    pub fn wait(&self, timeout: Duration) -> Result<Delivered, WaitError> {
        let mut told = self.waiter.slot.told.lock();
        let _ = self.waiter.slot.changed.wait_while_for(&mut told, |told| told.outcome.is_none(), timeout);
        told.outcome.clone().unwrap_or(Err(WaitError::TimedOut))
    }

    /// What came of it, if that is known.
    pub fn try_outcome(&self) -> Option<Result<Delivered, WaitError>> {
        self.waiter.slot.told.lock().outcome.clone()
    }
}

/// As [`Proposed::wait`] without a limit of time: bring your own.
impl Future for Proposed {
    type Output = Result<Delivered, WaitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut told = self.waiter.slot.told.lock();
        match &told.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                told.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
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

/// One that waits for a request. Dropped, it is forgotten. It keeps nothing of a node that has ended.
struct Waiter {
    service: Weak<NodeService>,
    request: RequestId,
    ticket: Ticket,
    slot: Arc<Slot>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(service) = self.service.upgrade()
            && service.waiters.remove(self.ticket)
        {
            service.requests.lock().forget(self.request, self.ticket);
        }
    }
}

/// Where the outcome of one proposal is told.
#[derive(Default)]
struct Slot {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    outcome: Option<Result<Delivered, WaitError>>,
    waker: Option<Waker>,
}

impl Slot {
    /// The first outcome stands.
    fn tell(&self, outcome: Result<Delivered, WaitError>) {
        let mut told = self.told.lock();
        told.outcome.get_or_insert(outcome);
        let waker = told.waker.take();
        drop(told);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Who waits for the outcome of proposals: at most as many as handles are held, and `limits.pending`.
#[derive(Default)]
pub(super) struct Waiters {
    last: AtomicU64,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    /// By the sequence of their tickets.
    waiting: BTreeMap<u64, Arc<Slot>>,
    ended: bool,
}

impl Waiters {
    fn add(&self, count: usize) -> Vec<(Ticket, Arc<Slot>)> {
        let first = 1 + self.last.fetch_add(count as u64, Ordering::Relaxed);
        let new: Vec<_> = (first..first + count as u64).map(|sequence| (sequence, Arc::default())).collect();
        let mut slots = self.slots.lock();
        if slots.ended {
            new.iter().for_each(|(_, slot): &(u64, Arc<Slot>)| slot.tell(Err(WaitError::Ended)));
        } else {
            slots.waiting.extend(new.iter().cloned());
        }
        let ticket = |sequence| Ticket { connection: Ticket::EMBEDDED, sequence };
        new.into_iter().map(|(sequence, slot)| (ticket(sequence), slot)).collect()
    }

    fn remove(&self, ticket: Ticket) -> bool {
        self.slots.lock().waiting.remove(&ticket.sequence).is_some()
    }

    /// Tells those that were answered in a turn of the applier; `responses` by ascending index.
    pub(super) fn tell(&self, answers: &[(Ticket, Answer)], responses: &[(Index, Bytes)]) {
        let mut slots = self.slots.lock();
        let waiting = answers
            .iter()
            .filter_map(|(ticket, answer)| Some((slots.waiting.remove(&ticket.sequence)?, *answer)));
        let waiting: Vec<_> = waiting.collect();
        drop(slots);
        for (slot, answer) in waiting {
            let place = responses.binary_search_by_key(&answer.index(), |(index, _)| *index);
            let response = place.map_or(Bytes::new(), |place| responses[place].1.clone());
            slot.tell(outcome(answer, Some(response)));
        }
    }

    /// The node ends: nobody is told anything any more.
    pub(super) fn end(&self) {
        let mut slots = self.slots.lock();
        slots.ended = true;
        let waiting = std::mem::take(&mut slots.waiting);
        drop(slots);
        waiting.values().for_each(|slot| slot.tell(Err(WaitError::Ended)));
    }
}

fn outcome(answer: Answer, response: Option<Bytes>) -> Result<Delivered, WaitError> {
    match answer {
        Answer::Delivered(index) => Ok(Delivered { index, response }),
        Answer::OtherValue(index) => Err(WaitError::OtherCommand { index }),
    }
}

/// Proposes commands together, and waits for one turn of the state machine.
pub(super) fn propose(
    service: &Arc<NodeService>,
    commands: Vec<(RequestId, Bytes)>,
) -> Result<Vec<Proposed>, ProposeError> {
    check(service, &commands)?;
    let waiters = register(service, &commands);
    let deadline_ms = service.clock.now_ms().saturating_add(service.propose_timeout_ms);
    // What was delivered before is not proposed again.
    let open = waiters.iter().zip(commands).filter(|(waiter, _)| waiter.slot.told.lock().outcome.is_none());
    let proposals = open.map(|(waiter, (_, payload))| {
        let command = Command { request: waiter.request, from: service.node, kind: Kind::Value, payload };
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
    let proposed = |waiter: Waiter| {
        let index = places.get(&waiter.request).copied().flatten();
        Proposed { index, ballot, leads, waiter }
    };
    Ok(waiters.into_iter().map(proposed).collect())
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
    match service.requests.lock().waiting() + commands.len() > service.pending_limit {
        true => Err(ProposeError::Busy("too many requests wait for their answers (limits.pending)")),
        false => Ok(()),
    }
}

/// A waiter for each command; of one that was delivered before the outcome is known at once.
fn register(service: &Arc<NodeService>, commands: &[(RequestId, Bytes)]) -> Vec<Waiter> {
    let slots = service.waiters.add(commands.len());
    let mut requests = service.requests.lock();
    let waiters = slots.into_iter().zip(commands).map(|((ticket, slot), (request, payload))| {
        let digest = Digest::of_payload(Kind::Value, payload);
        if let Some(answer) = requests.register(*request, Some(digest), ticket) {
            slot.tell(outcome(answer, None));
        }
        Waiter { service: Arc::downgrade(service), request: *request, ticket, slot }
    });
    waiters.collect()
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
