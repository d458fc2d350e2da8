//! The state of one simulated connection: what its sender's system keeps until the other end's has it.

use std::collections::VecDeque;

use crate::consensus::types::NodeId;
use crate::wire::message::PeerMessage;

/// A connection, on which the node that dialled it sends, and the other one only reads.
pub struct Stream {
    pub from: NodeId,
    pub to: NodeId,
    /// The directory of the process that dialled.
    pub directory: u128,
    /// The process that reads it.
    pub reader: u64,
    /// What the other end has not acknowledged, in the order in which it was sent.
    pub unacknowledged: VecDeque<Segment>,
    /// The number of the first of these.
    pub first: u64,
    /// The number of the next one that the reader takes: all before it arrived.
    pub next: u64,
    /// How long the first of these has been waiting for an acknowledgement.
    pub waits_since_us: u64,
    /// How often something was sent again since the last acknowledgement.
    pub tries: u32,
    /// A step is scheduled at which something is sent again.
    pub is_timed: bool,
    pub last_sent_us: u64,
}

/// A message on its way, or waiting for that.
pub struct Segment {
    /// Names the message in the run.
    pub id: u64,
    pub message: PeerMessage,
    /// It is at the other end, which takes it once all before it are there.
    pub has_arrived: bool,
    /// It was lost, and must be sent again.
    pub is_lost: bool,
}

impl Stream {
    pub fn new(from: NodeId, to: NodeId, directory: u128, reader: u64, now_us: u64) -> Stream {
        Stream {
            from,
            to,
            directory,
            reader,
            unacknowledged: VecDeque::new(),
            first: 0,
            next: 0,
            waits_since_us: now_us,
            tries: 0,
            is_timed: false,
            last_sent_us: now_us,
        }
    }

    /// Adds a message at the end. Returns its number.
    pub fn push(&mut self, id: u64, message: PeerMessage, now_us: u64) -> u64 {
        if self.unacknowledged.is_empty() {
            (self.waits_since_us, self.tries) = (now_us, 0);
        }
        self.last_sent_us = now_us;
        self.unacknowledged.push_back(Segment { id, message, has_arrived: false, is_lost: false });
        self.first + self.unacknowledged.len() as u64 - 1
    }

    /// The segment of this number, unless it was acknowledged.
    pub fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let place = number.checked_sub(self.first)?;
        self.unacknowledged.get_mut(place as usize)
    }

    /// The message that the reader takes next, if it is there.
    pub fn arrived(&mut self) -> Option<(u64, PeerMessage)> {
        let next = self.next;
        let segment = self.segment(next).filter(|segment| segment.has_arrived)?;
        Some((segment.id, segment.message.clone()))
    }

    /// All that arrived in order is acknowledged. Returns whether that is news.
    pub fn acknowledge(&mut self, now_us: u64) -> bool {
        let news = self.next > self.first;
        self.unacknowledged.drain(..(self.next - self.first) as usize);
        self.first = self.next;
        if news {
            (self.waits_since_us, self.tries) = (now_us, 0);
        }
        news
    }

    /// The numbers of what was lost.
    pub fn lost(&self) -> Vec<u64> {
        let numbered = (self.first..).zip(&self.unacknowledged);
        numbered.filter(|(_, segment)| segment.is_lost).map(|(number, _)| number).collect()
    }
}
