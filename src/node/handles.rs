//! The embedder's handles: each receives the outcome of one of its open proposals.
//!
//! A [`Handle`] is held by the embedder, in a [`Proposed`](super::Proposed), and found again by its ticket in
//! [`Handles`] when the applier has delivered its request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::consensus::types::{Index, RequestId};
use crate::pipeline::ledger::Answer;
use crate::pipeline::requests::Requests;
use crate::pipeline::waiters::Ticket;

use super::errors::WaitError;

/// The command was delivered on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it was chosen.
    pub index: Index,
    /// What the application of this node answered; empty without an application. `None` if the request had
    /// been delivered before it was proposed here: answers are not kept.
    pub response: Option<Bytes>,
}

/// All open handles: at most as many as the embedder holds, and at most `limits.pending`.
pub(super) struct Handles {
    requests: Arc<Mutex<Requests>>,
    /// The sequence of the ticket that was made last.
    last: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// By the sequence of their tickets.
    slots: BTreeMap<u64, Arc<Slot>>,
    ended: bool,
}

impl Handles {
    pub(super) fn new(requests: Arc<Mutex<Requests>>) -> Handles {
        Handles { requests, last: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Returns a handle for each request. Once the node has ended, the outcome is known immediately.
    pub(super) fn open(self: &Arc<Self>, requests: impl ExactSizeIterator<Item = RequestId>) -> Vec<Handle> {
        let first = 1 + self.last.fetch_add(requests.len() as u64, Ordering::Relaxed);
        let handle = |(sequence, request)| Handle {
            table: Arc::downgrade(self),
            request,
            ticket: Ticket { connection: Ticket::EMBEDDED, sequence },
            slot: Arc::default(),
        };
        let handles: Vec<Handle> = (first..).zip(requests).map(handle).collect();
        let mut open = self.open.lock();
        if open.ended {
            handles.iter().for_each(|handle| handle.slot.tell(Err(WaitError::Ended)));
        } else {
            open.slots.extend(handles.iter().map(|handle| (handle.ticket.sequence, handle.slot.clone())));
        }
        drop(open);
        handles
    }

    /// Tells the handles whose requests were answered in a turn of the applier; `responses` are in ascending
    /// order of their indexes.
    pub(super) fn tell(&self, answers: &[(Ticket, Answer)], responses: &[(Index, Bytes)]) {
        let mut open = self.open.lock();
        let told = answers
            .iter()
            .filter_map(|(ticket, answer)| Some((open.slots.remove(&ticket.sequence)?, *answer)));
        let told: Vec<_> = told.collect();
        drop(open);
        for (slot, answer) in told {
            let place = responses.binary_search_by_key(&answer.index(), |(index, _)| *index);
            let response = place.map_or(Bytes::new(), |place| responses[place].1.clone());
            slot.tell(outcome(answer, Some(response)));
        }
    }

    /// The node ends: nothing more is delivered, and every open handle is told so.
    pub(super) fn end(&self) {
        let mut open = self.open.lock();
        open.ended = true;
        let slots = std::mem::take(&mut open.slots);
        drop(open);
        slots.values().for_each(|slot| slot.tell(Err(WaitError::Ended)));
    }

    /// Returns whether the handle was still open.
    fn close(&self, ticket: Ticket) -> bool {
        self.open.lock().slots.remove(&ticket.sequence).is_some()
    }
}

/// Waits for one request. When it is dropped, its wait is forgotten. It keeps nothing of a node that has
/// ended.
pub(super) struct Handle {
    table: Weak<Handles>,
    request: RequestId,
    ticket: Ticket,
    slot: Arc<Slot>,
}

impl Handle {
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The request had been delivered before it was proposed here.
    pub(super) fn tell_earlier(&self, answer: Answer) {
        self.slot.tell(outcome(answer, None));
    }

    pub(super) fn outcome(&self) -> Option<Result<Delivered, WaitError>> {
        self.slot.told.lock().outcome.clone()
    }

    /// Waits for the outcome, at most this long.
    pub(super) fn wait(&self, timeout: Duration) -> Option<Result<Delivered, WaitError>> {
        let mut told = self.slot.told.lock();
        let _ = self.slot.changed.wait_while_for(&mut told, |told| told.outcome.is_none(), timeout);
        told.outcome.clone()
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Delivered, WaitError>> {
        let mut told = self.slot.told.lock();
        match &told.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                told.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade()
            && table.close(self.ticket)
        {
            table.requests.lock().waiters.forget(self.request, self.ticket);
        }
    }
}

/// The place for the outcome of one proposal.
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
    /// Only the first outcome counts.
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

fn outcome(answer: Answer, response: Option<Bytes>) -> Result<Delivered, WaitError> {
    match answer {
        Answer::Delivered(index) => Ok(Delivered { index, response }),
        Answer::OtherValue(index) => Err(WaitError::OtherCommand { index }),
    }
}
