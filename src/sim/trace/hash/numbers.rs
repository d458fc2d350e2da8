//! What the hash is fed: numbers, and what is made of them.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::consensus::types::{Ballot, Command, Entry, RequestId};

/// Numbers on their way into the hash. Eight bytes at a time, so that it never has to piece words together.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(SipHasher13);

impl Numbers {
    /// The hash of all that was fed.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }

    pub fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    pub fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.number(*number));
    }

    /// The length, then the bytes, filled up with zeros.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.0.write(word));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.0.write(&word);
        }
    }

    pub fn word(&mut self, word: &str) {
        self.bytes(word.as_bytes());
    }

    pub fn ballot(&mut self, ballot: Ballot) {
        self.numbers(&[ballot.round, ballot.node]);
    }

    pub fn request(&mut self, request: RequestId) {
        self.0.write(&request.session.to_le_bytes());
        self.number(request.number);
    }

    pub fn command(&mut self, command: &Command) {
        self.request(command.request);
        self.numbers(&[command.from, u64::from(command.kind.code())]);
        self.bytes(&command.payload);
    }

    pub fn entries(&mut self, entries: &[Entry]) {
        self.number(entries.len() as u64);
        for entry in entries {
            self.number(entry.index);
            self.ballot(entry.ballot);
            self.command(&entry.command);
        }
    }
}
