//! The state of the simulated clients: what each waits for and where, and what anyone was told so far.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::consensus::random::Random;
use crate::consensus::types::{Index, NodeId, RequestId};
use crate::pipeline::waiters::Ticket;

use super::super::plan::Plan;

static BYTES: [u8; 60_000] = [b'x'; 60_000];

/// All clients.
pub struct Clients {
    pub random: Random,
    pub all: Vec<Client>,
    /// The requests that wait, and where.
    pub waiting: BTreeMap<Ticket, Waiter>,
    pub is_stopped: bool,
    tickets: u64,
    last_reqid: u64,
    probes: u64,
    /// When a request was first sent, everything up to this index had been told to somebody.
    floors: BTreeMap<RequestId, Index>,
    highest_told: Index,
    /// The longest pause between two requests of a client.
    pause_us: u64,
    /// Of a hundred requests, how many use an earlier reqid again, and how many carry a large value.
    again_percent: u64,
    large_percent: u64,
}

#[derive(Default)]
pub struct Client {
    /// Counts its operations, so that a time-out of an earlier one does nothing.
    pub operation: u64,
    pub request: Option<Request>,
}

#[derive(Clone)]
pub struct Request {
    pub reqid: u64,
    /// `None`: it only waits for what others propose.
    pub payload: Option<Bytes>,
    pub attempts: u64,
    pub ticket: Ticket,
}

/// A request that waits for its answer at a node.
pub struct Waiter {
    pub node: NodeId,
    pub process: u64,
    /// `None`: a probe.
    pub client: Option<usize>,
    pub request: RequestId,
    pub payload: Option<Bytes>,
}

impl Clients {
    pub fn new(plan: &Plan) -> Clients {
        let mut random = Random::new(plan.seed ^ 0xC11E);
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let drawn = pick(&[2, 6, 20]);
        let count = plan.clients.unwrap_or(drawn);
        Clients {
            pause_us: pick(&[500, 5_000, 50_000]),
            again_percent: pick(&[0, 10, 50]),
            large_percent: pick(&[0, 0, 0, 3]),
            all: (0..count).map(|_| Client::default()).collect(),
            waiting: BTreeMap::new(),
            tickets: 0,
            last_reqid: 0,
            probes: 0,
            floors: BTreeMap::new(),
            highest_told: 0,
            is_stopped: false,
            random,
        }
    }

    /// The next request of a client, with a new reqid or an earlier one.
    pub fn draw_request(&mut self) -> Request {
        let dice = self.random.between(0, 100);
        let (again, large) = (dice < self.again_percent, self.random.between(0, 100));
        let reqid = if again && self.last_reqid > 0 {
            self.random.between(self.last_reqid.saturating_sub(50).max(1), self.last_reqid + 1)
        } else {
            self.last_reqid += 1;
            self.last_reqid
        };
        let payload = match dice {
            0 | 1 if again => None,
            2 | 3 if again => Some(Bytes::from_static(b"other")),
            _ if large < self.large_percent => Some(Bytes::from_static(&BYTES)),
            _ => Some(Bytes::from_static(&BYTES[..5 + (reqid % 3) as usize])),
        };
        Request { reqid, payload, attempts: 0, ticket: Ticket { connection: 0, sequence: 0 } }
    }

    /// How long a client waits before its next request.
    pub fn draw_pause_us(&mut self) -> u64 {
        self.random.between(1, self.pause_us + 1)
    }

    pub fn new_ticket(&mut self, connection: u64) -> Ticket {
        self.tickets += 1;
        Ticket { connection, sequence: self.tickets }
    }

    /// The number of a new probe, from 1.
    pub fn new_probe(&mut self) -> u64 {
        self.probes += 1;
        self.probes
    }

    /// A request is sent with a value: every index told so far must be below its own.
    pub fn asks(&mut self, request: RequestId) {
        self.floors.entry(request).or_insert(self.highest_told);
    }

    /// Somebody was told of this index.
    pub fn hears(&mut self, index: Index) {
        self.highest_told = self.highest_told.max(index);
    }

    /// The highest index that was told to somebody before a request was first sent.
    pub fn floor(&self, request: RequestId) -> Index {
        self.floors.get(&request).copied().unwrap_or(0)
    }
}
