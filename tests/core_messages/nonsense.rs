//! What liars say to a core.

use bytes::Bytes;
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody, Range};
use spaxos::consensus::protocol::Proposal;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::random::Random;
use spaxos::consensus::types::{Ballot, Command, Entry, Index, Kind, NodeId, Position, RequestId, Round};

/// Messages whose every field is small, extreme, or near what the core knows.
pub struct Nonsense {
    pub random: Random,
    /// What the core has come to.
    round: Round,
    chosen: Index,
    last: Index,
}

impl Nonsense {
    pub fn new(random: Random) -> Nonsense {
        Nonsense { random, round: 0, chosen: 0, last: 0 }
    }

    /// What the core has come to, so that some of what follows is near it.
    pub fn known(&mut self, round: Round, chosen: Index, last: Index) {
        (self.round, self.chosen, self.last) = (round, chosen, last);
    }

    fn number(&mut self) -> u64 {
        // An index as far as the window reaches is costly: the next leader fills all before it.
        if self.random.between(0, 2000) == 0 {
            return 65_530 + self.random.between(0, 10);
        }
        match self.random.between(0, 8) {
            0 => u64::MAX,
            1 => u64::MAX - self.random.between(0, 3),
            2 => 1 << self.random.between(20, 64),
            3 => 1 << self.random.between(0, 8),
            _ => self.random.between(0, 20),
        }
    }

    fn ballot(&mut self, from: NodeId) -> Ballot {
        let round = self.round;
        let node = if self.random.between(0, 10) == 0 { self.number() } else { from };
        let round = match self.random.between(0, 10) {
            0 => self.number(),
            1 => round.saturating_add(1 << 40),
            _ => round.saturating_add(self.random.between(0, 2)),
        };
        Ballot { round, node }
    }

    fn command(&mut self) -> Command {
        Command {
            request: RequestId { session: 0, number: self.number() },
            from: self.random.between(1, 4),
            kind: Kind::from_code(self.random.between(0, 6) as u8),
            payload: Bytes::from(vec![b'x'; self.random.between(0, 3000) as usize]),
        }
    }

    pub fn proposal(&mut self, now_ms: u64) -> Proposal {
        let number = self.random.between(1, 50);
        let deadline_ms = now_ms + self.random.between(1, 500);
        Proposal { command: Command::value(number, 1, "v"), deadline_ms }
    }

    fn entries(&mut self, ballot: Ballot) -> Vec<Entry> {
        let count = self.random.between(0, 5);
        let entry = |_| {
            let ballot = if self.random.between(0, 3) > 0 { ballot } else { self.ballot(2) };
            Entry { index: self.number(), ballot, command: self.command() }
        };
        (0..count).map(entry).collect()
    }

    /// What the node tells itself comes back; what it asks others is answered now and then, so that the
    /// nonsense meets a candidate and a leader as well.
    pub fn answer(&mut self, message: &Message) -> Option<Message> {
        let chosen = 0;
        let body: Body = match &message.body {
            _ if message.to == 1 => return Some(message.clone()),
            _ if self.random.between(0, 3) > 0 => return None,
            Body::Paxos(PaxosBody::PreVote { ballot })
            | Body::Raft(RaftBody::RequestPreVote { ballot, .. }) => {
                ClusterBody::PreVoteReply { ballot: *ballot, granted: true, promised: Ballot::ZERO }.into()
            }
            Body::Paxos(PaxosBody::Prepare { ballot, first }) => {
                let (entries, last) = (vec![], *first);
                PaxosBody::Promise {
                    ballot: *ballot,
                    chosen,
                    compacted: 0,
                    first: *first,
                    last,
                    more: false,
                    entries,
                }
                .into()
            }
            Body::Paxos(PaxosBody::Accept { ballot, entries, .. }) => {
                let (first, last) = (entries.first()?.index, entries.last()?.index);
                PaxosBody::Accepted { ballot: *ballot, chosen, ranges: vec![Range { first, last }] }.into()
            }
            Body::Raft(RaftBody::RequestVote { ballot, .. }) => RaftBody::Vote { ballot: *ballot }.into(),
            Body::Raft(RaftBody::Append { ballot, entries, .. }) => {
                RaftBody::Appended { ballot: *ballot, chosen, matched: entries.last()?.index }.into()
            }
            _ => return None,
        };
        Some(Message { from: message.to, to: 1, body })
    }

    pub fn message(&mut self, protocol: ProtocolName) -> Message {
        let from = self.random.between(2, 5);
        let ballot = match self.random.between(0, 4) {
            0 => Ballot { round: self.round, node: 1 },
            _ => self.ballot(from),
        };
        let body: Body = match (protocol, self.random.between(0, 14)) {
            (_, 0..7) => self.common(ballot).into(),
            (ProtocolName::Paxos, _) => self.of_paxos(ballot).into(),
            (ProtocolName::Raft, 7) => self.of_paxos(ballot).into(),
            (ProtocolName::Raft, _) => self.of_raft(ballot),
        };
        let to = if self.random.between(0, 20) == 0 { 2 } else { 1 };
        Message { from, to, body }
    }

    /// What both protocols say.
    fn common(&mut self, ballot: Ballot) -> ClusterBody {
        let (first, chosen, promised) = (self.number(), self.number(), self.ballot(3));
        match self.random.between(0, 11) {
            0 => ClusterBody::PreVoteReply { ballot, granted: first % 2 == 0, promised },
            1 => ClusterBody::Heartbeat { ballot, chosen, sent_ms: first },
            2 => ClusterBody::HeartbeatReply { ballot, chosen, sent_ms: first },
            3 => ClusterBody::Refuse { ballot, promised },
            4 => ClusterBody::CatchUp { first },
            5 => ClusterBody::Learn { chosen, entries: self.entries(ballot) },
            6 => ClusterBody::TimeoutNow { ballot },
            7 => ClusterBody::Confirm { ballot, number: first },
            8 => ClusterBody::Confirmed { ballot, number: first },
            9 => ClusterBody::Read { id: first },
            _ => ClusterBody::Forward {
                commands: (0..self.random.between(0, 4)).map(|_| self.command()).collect(),
            },
        }
    }

    fn of_paxos(&mut self, ballot: Ballot) -> PaxosBody {
        let (first, last, chosen) = (self.number(), self.number(), self.number());
        match self.random.between(0, 5) {
            0 => PaxosBody::PreVote { ballot },
            1 => PaxosBody::Prepare { ballot, first },
            2 => {
                let entries = self.entries(Ballot { round: 1, node: 2 });
                let more = last % 2 == 0;
                PaxosBody::Promise { ballot, chosen, compacted: first, first, last, more, entries }
            }
            3 => PaxosBody::Accept { ballot, chosen, entries: self.entries(ballot) },
            _ => PaxosBody::Accepted { ballot, chosen, ranges: vec![Range { first, last }] },
        }
    }

    fn of_raft(&mut self, ballot: Ballot) -> Body {
        let (place, chosen, hint) = (self.position(), self.number(), self.position());
        let body = match self.random.between(0, 8) {
            0 => RaftBody::RequestPreVote { ballot, last: place },
            1 => RaftBody::RequestVote { ballot, last: place },
            2 => RaftBody::Vote { ballot },
            3 => RaftBody::Appended { ballot, chosen, matched: place.index },
            4 => RaftBody::Mismatch { ballot, chosen, previous: place.index, hint },
            5 => RaftBody::Append { ballot, chosen, previous: place, entries: self.entries(ballot) },
            6 => RaftBody::Append {
                ballot,
                chosen,
                previous: place,
                entries: self.log_from(place.index, ballot),
            },
            _ => {
                let entries = self.log_from(self.chosen, ballot);
                return ClusterBody::Learn { chosen, entries }.into();
            }
        };
        body.into()
    }

    /// A place that the log has, or any.
    fn position(&mut self) -> Position {
        match self.random.between(0, 3) {
            0 => Position { index: self.number(), round: self.number() },
            _ => {
                let index = self.random.between(self.chosen.saturating_sub(1), self.last + 2);
                Position { index, round: self.round.saturating_sub(self.random.between(0, 3)) }
            }
        }
    }

    /// Entries one after the other, of rounds that may have been.
    fn log_from(&mut self, before: Index, ballot: Ballot) -> Vec<Entry> {
        let count = self.random.between(0, 5);
        let entry = |ahead| {
            let round = ballot.round.saturating_sub(self.random.between(0, 3));
            let index = before.saturating_add(ahead);
            Entry { index, ballot: Ballot { round, ..ballot }, command: self.command() }
        };
        (1..=count).map(entry).collect()
    }
}
