//! Leading, as both protocols do it: the ballot, heartbeats, reads, handing over, placing proposals, and
//! stepping down.
//!
//! A leader of either protocol holds a [`Leadership`] and adds what is its own: how entries are sent, how
//! answers are counted, and which node is up to date. There is no generic leader above the two:
//! `paxos/leader.rs` and `raft/leader.rs` are read side by side, and each calls what it needs from here.
//!
//! Invariants:
//!
//! * A leader that hands over or makes way places nothing ([`Leadership::place`], asserted where the entries
//!   are proposed).
//! * A read gets its index only once `established` is chosen: before that, the watermark may be behind what
//!   earlier leaders told their clients.

use super::batch::{Batch, Event};
use super::log::Log;
use super::making_way::Way;
use super::member::{Member, Sender};
use super::message::ClusterBody;
use super::quorum::Set;
use super::reads::{Read, Reads};
use super::transfer::Transfer;
use super::types::{Ballot, Command, Entry, Index, NodeId};

/// What a leader of either protocol knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leadership {
    ballot: Ballot,
    heartbeat_at_ms: u64,
    /// The first entry of its own after all that it adopted: once that is chosen, its watermark is ahead of
    /// all that earlier leaders told their clients.
    established: Index,
    reads: Reads,
    /// While one is under way, nothing is placed.
    transfer: Option<Transfer>,
    /// When it steps down, if it makes way: until then nothing is placed.
    makes_way_until_ms: Option<u64>,
}

impl Leadership {
    pub(super) fn begin(member: &mut Member, ballot: Ballot, established: Index) -> Leadership {
        member.begin_to_lead(ballot);
        Leadership {
            ballot,
            heartbeat_at_ms: member.now_ms() + member.heartbeat_ms(),
            established,
            reads: Reads::default(),
            transfer: None,
            makes_way_until_ms: None,
        }
    }

    /// Steps down.
    pub(super) fn end(self, member: &mut Member, why: &'static str, out: &mut Batch) {
        out.events.push(Event::SteppedDown { ballot: self.ballot, why });
        member.end_to_lead();
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Tells the others who leads, each heartbeat interval.
    pub(super) fn tick_heartbeat(&mut self, member: &Member, chosen: Index, out: &mut Batch) {
        if member.now_ms() >= self.heartbeat_at_ms {
            self.heartbeat_at_ms = member.now_ms() + member.heartbeat_ms();
            for peer in member.others() {
                self.send_heartbeat(member, peer.node, chosen, out);
            }
        }
    }

    /// Tells a peer the watermark; the answer has the peer's own.
    pub(super) fn send_heartbeat(&self, member: &Member, to: NodeId, chosen: Index, out: &mut Batch) {
        let heartbeat = ClusterBody::Heartbeat { ballot: self.ballot, chosen, sent_ms: member.seen_ms() };
        member.send_early(to, heartbeat, out);
    }

    /// The nodes whose clients wait for what was just chosen hear of it immediately, unless entries in this
    /// batch tell them; the others hear of it with the next entries or heartbeat.
    pub(super) fn tell_forwarders(&self, member: &Member, forwarders: Set, chosen: Index, out: &mut Batch) {
        for peer in member.others() {
            if forwarders.contains(peer.bit) {
                self.send_heartbeat(member, peer.node, chosen, out);
            }
        }
    }

    /// See [`Raft::normalize`](super::raft::Raft::normalize).
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, heartbeat_at_ms: u64) {
        self.heartbeat_at_ms = heartbeat_at_ms;
    }
}

/// Placing.
impl Leadership {
    /// Places waiting proposals at the end of the log, in order, while at most `window_entries` are open;
    /// none while leadership is handed over or the node makes way. The caller puts the entries there.
    pub(super) fn place(&self, member: &mut Member, log: &Log, window_entries: u64) -> Vec<Entry> {
        if self.transfer.is_some() || self.makes_way_until_ms.is_some() {
            return Vec::new();
        }
        let (ballot, window_bytes) = (self.ballot, member.window_bytes());
        let proposals = member.proposals_mut();
        let (mut open, mut bytes) = (log.open(), log.bytes());
        let room = window_entries.saturating_sub(open).max(1) as usize;
        let mut entries = Vec::with_capacity(proposals.waiting().min(room));
        for index in log.last() + 1.. {
            let fits = |command: &Command| {
                let room = bytes + command.cost_bytes() <= window_bytes;
                open == 0 || (open < window_entries && room)
            };
            let Some(command) = proposals.place_next(index, fits) else { break };
            open += 1;
            bytes += command.cost_bytes();
            entries.push(Entry { index, ballot, command });
        }
        entries
    }

    pub(super) fn assert_places(&self, entries: &[Entry]) {
        assert_eq!(self.transfer, None, "a leader that hands over places nothing, not {entries:?}");
        let until_ms = self.makes_way_until_ms;
        assert_eq!(until_ms, None, "a leader that makes way places nothing, not {entries:?}");
    }
}

/// Reads: see [`Reads`] for how they go.
impl Leadership {
    /// A read of this node or another.
    pub(super) fn handle_read(&mut self, member: &mut Member, read: Read, chosen: Index, out: &mut Batch) {
        if !self.reads.add(read) {
            member.count_dropped(1);
        }
        self.begin_reads(member, chosen, out);
    }

    /// The reads that wait share the next question, once the leader is established.
    pub(super) fn begin_reads(&mut self, member: &Member, chosen: Index, out: &mut Batch) {
        if chosen >= self.established {
            self.reads.begin(member, self.ballot, chosen, out);
        }
    }

    /// A follower of a ballot answered a question; an answer under another ballot is late.
    pub(super) fn handle_confirmed(
        &mut self,
        member: &Member,
        from: Sender,
        ballot: Ballot,
        number: u64,
        chosen: Index,
        out: &mut Batch,
    ) {
        if ballot == self.ballot {
            self.reads.handle_confirmed(member, from, number, out);
            self.begin_reads(member, chosen, out);
        }
    }

    pub(super) fn tick_reads(&mut self, member: &Member, out: &mut Batch) {
        self.reads.tick(member, self.ballot, out);
    }
}

/// Handing over: see [`Transfer`] for how it goes.
impl Leadership {
    /// The node that leadership is handed over to.
    pub(super) fn successor(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.to)
    }

    /// Begins to hand over. Returns whether it did: one transfer is under way at a time.
    pub(super) fn begin_transfer(&mut self, member: &Member, to: NodeId, out: &mut Batch) -> bool {
        let begins = self.transfer.is_none();
        if begins {
            self.transfer = Some(Transfer::begin(member, to, self.ballot, out));
        }
        begins
    }

    /// The successor is up to date: it is told to take over, if that is due.
    pub(super) fn tell_successor(&mut self, member: &Member, out: &mut Batch) {
        if let Some(transfer) = &mut self.transfer {
            transfer.tell(member, self.ballot, out);
        }
    }

    /// Gives up a transfer that takes too long. Returns whether it did: then what waited can be placed.
    pub(super) fn gives_up_transfer(&mut self, member: &Member, out: &mut Batch) -> bool {
        let late = self.transfer.take_if(|transfer| member.now_ms() >= transfer.until_ms);
        if let Some(Transfer { to, .. }) = &late {
            out.events.push(Event::KeptLeading { to: *to, ballot: self.ballot });
        }
        late.is_some()
    }
}

/// Making way: see [`Fitter`](super::making_way::Fitter) for how it goes.
impl Leadership {
    /// Begins to make way, goes on with it, or ends it.
    pub(super) fn make_way(&mut self, member: &Member) -> Way {
        if !member.fitter().any() {
            let made_way = self.makes_way_until_ms.take().is_some();
            return if made_way { Way::LeadsAgain } else { Way::Leads };
        }
        let last_ms = member.now_ms() + member.election_ms();
        let until_ms = *self.makes_way_until_ms.get_or_insert(last_ms);
        if member.now_ms() < until_ms { Way::Seeks } else { Way::StepsDown }
    }

    /// Whether it makes way and has not found a successor yet.
    pub(super) fn seeks_successor(&self) -> bool {
        self.makes_way_until_ms.is_some() && self.transfer.is_none()
    }

    /// The last word of a leader that made way in vain.
    pub(super) fn say_last_word(&self, member: &Member, to: NodeId, out: &mut Batch) {
        member.send_early(to, ClusterBody::TimeoutNow { ballot: self.ballot }, out);
    }
}
