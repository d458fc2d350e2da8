//! Proofs that a node knows the cluster's shared secret: HMAC-SHA-256 over what both ends of a connection
//! said when they opened it.
//!
//! [`Keys`] never shows key material. Comparing a proof takes the same time wherever it differs. Left
//! out: where keys come from (the file that `peers_key` names), and who says what when
//! (`pipeline::handshake`).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

/// The shortest key. A shorter one could be found by trying.
pub const MIN_KEY_BYTES: usize = 16;

/// The length of a proof.
pub const PROOF_BYTES: usize = 32;

/// A proof: an HMAC-SHA-256.
pub type Proof = [u8; PROOF_BYTES];

/// The one or two keys of a cluster. The first one proves, and both are accepted, so that a key can be
/// replaced while the cluster runs.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<Key>,
}

/// One key, ready for use.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Keys {
    /// Keys of at least [`MIN_KEY_BYTES`] each (asserted; the reader of the file says it first).
    pub fn new(first: Vec<u8>, second: Option<Vec<u8>>) -> Keys {
        Keys { keys: [first].into_iter().chain(second).map(|bytes| Key::new(&bytes)).collect() }
    }

    /// The key that proves.
    pub fn first(&self) -> &Key {
        &self.keys[0]
    }

    /// The key by which this is a proof of `text`, if it is one by any of them.
    pub fn find(&self, text: &[u8], proof: &Proof) -> Option<&Key> {
        self.keys.iter().find(|key| key.proves(text, proof))
    }
}

impl Key {
    fn new(bytes: &[u8]) -> Key {
        assert!(
            bytes.len() >= MIN_KEY_BYTES,
            "a key of {} bytes, not of {MIN_KEY_BYTES} or more",
            bytes.len()
        );
        Key(Hmac::new_from_slice(bytes).expect("HMAC takes a key of any length"))
    }

    /// Proves `text`.
    pub fn prove(&self, text: &[u8]) -> Proof {
        self.0.clone().chain_update(text).finalize().into_bytes().into()
    }

    /// Returns whether this is a proof of `text` by this key.
    pub fn proves(&self, text: &[u8], proof: &Proof) -> bool {
        self.0.clone().chain_update(text).verify_slice(proof).is_ok()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.keys.len())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Vec<u8> {
        vec![byte; MIN_KEY_BYTES]
    }

    /// Test case 1 of RFC 4231.
    #[test]
    fn the_proof_is_hmac_sha_256() {
        let proof = Key::new(&[0x0b; 20]).prove(b"Hi There");
        let shown: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    /// The first key proves, both are accepted, and a proof of another text or by another key is not.
    #[test]
    fn the_first_proves_and_both_are_accepted() {
        let (old, new) = (Keys::new(key(1), None), Keys::new(key(2), Some(key(1))));
        let (by_old, by_new) = (old.first().prove(b"text"), new.first().prove(b"text"));
        assert!(new.find(b"text", &by_old).is_some() && new.find(b"text", &by_new).is_some());
        assert!(old.find(b"text", &by_old).is_some() && old.find(b"text", &by_new).is_none());
        assert!(new.find(b"texts", &by_new).is_none());
        let mut changed = by_new;
        changed[PROOF_BYTES - 1] ^= 1;
        assert!(new.find(b"text", &changed).is_none());
    }

    /// Keys never reach a log.
    #[test]
    fn keys_are_not_shown() {
        let keys = Keys::new(b"a very secret key".to_vec(), Some(key(7)));
        assert_eq!(format!("{keys:?} {:?}", keys.first()), "Keys(2) Key");
    }
}
