//! The application that simulated nodes run: a chain of hashes over everything that it was given, so that two
//! nodes are in the same state if and only if they applied the same items.

use std::hash::Hasher;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use crate::application::{Application, Item};

/// Answers with its state.
#[derive(Default)]
pub(super) struct Chain {
    state: u64,
    items: u64,
}

impl Application for Chain {
    fn apply(&mut self, item: &Item) -> Bytes {
        self.items += 1;
        assert_eq!(item.number, self.items, "items are numbered without gaps");
        let mut hasher = SipHasher13::new_with_keys(self.state, item.index);
        hasher.write_u64(item.command.request.number);
        hasher.write(&item.command.payload);
        self.state = hasher.finish();
        Bytes::copy_from_slice(&self.state.to_be_bytes())
    }
}
