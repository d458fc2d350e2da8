//! A fake node that only remembers, for tests of sessions.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::front::{ClientProposal, Front, LogItem, Outcome};
use super::status::NodeStatus;
use crate::consensus::types::{Command, Index, NodeId, RequestId};
use crate::pipeline::waiters::Ticket;
use crate::store::LogReadError;

#[derive(Default)]
pub(crate) struct FakeNode {
    /// Index by reqid.
    pub(crate) delivered: Mutex<BTreeMap<u64, Index>>,
    pub(crate) waiters: Mutex<Vec<(RequestId, Ticket)>>,
    pub(crate) log: Mutex<Vec<LogItem>>,
}

impl FakeNode {
    pub(crate) fn item(index: Index, reqid: u64, value: &'static str) -> LogItem {
        LogItem { index, command: (reqid > 0).then(|| Command::value(reqid, 1, value)) }
    }
}

impl Front for FakeNode {
    fn propose(&self, proposals: Vec<ClientProposal>, _: &mut Vec<(Ticket, Outcome)>) {
        let waiters = proposals.iter().map(|proposal| (proposal.request, proposal.ticket));
        self.waiters.lock().extend(waiters);
    }

    fn wait(&self, request: RequestId, ticket: Ticket) -> Option<Index> {
        let index = self.lookup(request);
        if index.is_none() {
            self.waiters.lock().push((request, ticket));
        }
        index
    }

    fn lookup(&self, request: RequestId) -> Option<Index> {
        self.delivered.lock().get(&request.number).copied()
    }

    fn forget(&self, request: RequestId, ticket: Ticket) {
        self.waiters.lock().retain(|waiter| *waiter != (request, ticket));
    }

    fn read_log(&self, first: Index, count: usize, _: usize) -> Result<Vec<LogItem>, LogReadError> {
        let log = self.log.lock();
        if log.first().is_some_and(|item| first < item.index) {
            return Err(LogReadError::Compacted { compacted: first });
        }
        Ok(log.iter().filter(|item| item.index >= first).take(count).cloned().collect())
    }

    fn node(&self) -> NodeId {
        1
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        Some((2, "127.0.0.1:9002".to_owned()))
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::default()
    }
}
