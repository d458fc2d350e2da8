//! Proposals to send: distinct random reqids, values that do not compress.

use std::io::{self, Write};
use std::time::Instant;

/// Values are cut out of this many random bytes, each at a place of its own.
const POOL_BYTES: usize = 64 * 1024;

/// One proposal.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Greater than 0.
    pub reqid: u64,
    /// Where in the pool its value begins.
    value_at: usize,
    /// When it was first handed to the system; `None` until then.
    pub sent: Option<Instant>,
}

/// Makes requests and encodes them.
pub struct Requests {
    seed: u64,
    made: u64,
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Requests {
    /// Fails if the system provides no random numbers.
    pub fn new(value_bytes: usize) -> io::Result<Requests> {
        let mut pool = vec![0; POOL_BYTES + value_bytes];
        getrandom::fill(&mut pool).map_err(io::Error::other)?;
        // Letters and digits: in a chosen line a value is then as long as it is.
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        pool.iter_mut().for_each(|byte| *byte = ALPHABET[usize::from(*byte % 64)]);
        Ok(Requests { seed: getrandom::u64().map_err(io::Error::other)?, made: 0, pool, value_bytes })
    }

    /// A request that is different from all others of this run.
    pub fn make(&mut self) -> Request {
        loop {
            self.made += 1;
            let reqid = split_mix(self.seed, self.made);
            if reqid != 0 {
                return Request { reqid, value_at: (reqid >> 32) as usize % POOL_BYTES, sent: None };
            }
        }
    }

    /// Appends `PROP reqid value` in RESP.
    pub fn encode(&self, request: &Request, out: &mut Vec<u8>) {
        let digits = request.reqid.checked_ilog10().map_or(1, |power| power + 1);
        let value = &self.pool[request.value_at..request.value_at + self.value_bytes];
        let result =
            write!(out, "*3\r\n$4\r\nPROP\r\n${digits}\r\n{}\r\n${}\r\n", request.reqid, value.len());
        assert!(result.is_ok(), "memory takes every write: {result:?}");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// SplitMix64: for one seed a bijection of `count`, so that no two numbers are equal.
fn split_mix(seed: u64, count: u64) -> u64 {
    let mut x = seed.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// No two requests have the same reqid, and none has 0.
    #[test]
    fn reqids_are_distinct() {
        let mut requests = Requests::new(8).unwrap();
        let reqids: BTreeSet<u64> = (0..10_000).map(|_| requests.make().reqid).collect();
        assert_eq!(reqids.len(), 10_000);
        assert!(!reqids.contains(&0));
    }

    /// The announced lengths are those of what follows, for short and long reqids, and what is sent again is
    /// the same.
    #[test]
    fn requests_are_well_formed() {
        let requests = Requests::new(5).unwrap();
        for reqid in [1, 9, 10, 99, 100, u64::MAX] {
            let request = Request { reqid, value_at: POOL_BYTES - 1, sent: None };
            let (mut first, mut second) = (Vec::new(), Vec::new());
            requests.encode(&request, &mut first);
            requests.encode(&request, &mut second);
            let number = reqid.to_string();
            let head = format!("*3\r\n$4\r\nPROP\r\n${}\r\n{number}\r\n$5\r\n", number.len());
            assert!(first.starts_with(head.as_bytes()), "{:?}", String::from_utf8_lossy(&first));
            assert_eq!(first.len(), head.len() + 5 + 2);
            assert_eq!(first, second);
        }
    }
}
