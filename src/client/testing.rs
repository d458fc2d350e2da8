//! A node that only remembers, for tests of sessions.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{LogItem, Outcome, Section, Service, Submission};
use crate::consensus::types::{Index, NodeId};
use crate::pipeline::requests::Ticket;

#[derive(Default)]
pub(crate) struct FakeNode {
    /// Index by reqid.
    pub(crate) delivered: Mutex<BTreeMap<u64, Index>>,
    pub(crate) waiters: Mutex<Vec<(u64, Ticket)>>,
    pub(crate) log: Mutex<Vec<LogItem>>,
}

impl FakeNode {
    pub(crate) fn item(index: Index, reqid: u64, value: &'static str) -> LogItem {
        let value = (reqid > 0).then_some(Bytes::from_static(value.as_bytes()));
        LogItem { index, reqid, value }
    }
}

impl Service for FakeNode {
    fn propose(&self, proposals: Vec<Submission>, _: &mut Vec<(Ticket, Outcome)>) {
        let waiters = proposals.iter().map(|proposal| (proposal.reqid, proposal.ticket));
        self.waiters.lock().extend(waiters);
    }

    fn wait(&self, reqid: u64, ticket: Ticket) -> Option<Index> {
        let index = self.lookup(reqid);
        if index.is_none() {
            self.waiters.lock().push((reqid, ticket));
        }
        index
    }

    fn lookup(&self, reqid: u64) -> Option<Index> {
        self.delivered.lock().get(&reqid).copied()
    }

    fn forget(&self, reqid: u64, ticket: Ticket) {
        self.waiters.lock().retain(|waiter| *waiter != (reqid, ticket));
    }

    fn read_log(&self, first: Index, count: usize, _: usize) -> Result<Vec<LogItem>, String> {
        let log = self.log.lock();
        if log.first().is_some_and(|item| first < item.index) {
            return Err(format!("index {first} is no longer kept"));
        }
        Ok(log.iter().filter(|item| item.index >= first).take(count).cloned().collect())
    }

    fn node(&self) -> NodeId {
        1
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        Some((2, "127.0.0.1:9002".to_owned()))
    }

    fn status(&self) -> Vec<Section> {
        vec![("Consensus".to_owned(), vec![("role".to_owned(), "follower".to_owned())])]
    }
}
