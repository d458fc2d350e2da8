//! Frames: a length, a CRC-32C and a payload, so that a stream of bytes can be split into messages and a
//! damaged message is noticed.
//!
//! ```text
//! length of the payload, u32 little-endian │ CRC-32C of the payload, u32 little-endian │ payload
//! ```
//!
//! Each payload gets memory of its own (one allocation, one copy): a slice of it that is kept later pins that
//! frame and nothing else. A length is checked before anything is allocated, and memory grows with the bytes
//! that really arrive, so that a header that announces much and is followed by nothing costs nothing. What a
//! payload means is not known here.

use bytes::{BufMut, Bytes, BytesMut};

use crate::consensus::types::MAX_PAYLOAD_BYTES;

/// Length and checksum.
pub const HEADER_BYTES: usize = 8;

/// The longest payload: 1 MiB plus one command of the longest kind with its numbers. The sender cuts longer
/// transfers into pages; a longer frame ends the connection.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + MAX_PAYLOAD_BYTES + 1024;

/// What is wrong with a frame. The stream cannot be read any further, so the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nobody sends an empty payload.
    #[error("a frame of length 0: the other end does not speak this protocol")]
    Empty,
    /// The payload is longer than what is allowed on this connection now.
    #[error(
        "a frame of {length} bytes where at most {limit} are allowed: the other end speaks another protocol"
    )]
    TooLong {
        /// The announced or written length, in bytes.
        length: usize,
        /// The allowed length, in bytes.
        limit: usize,
    },
    /// The payload is not what was sent.
    #[error("a frame with checksum {found:08x} instead of {announced:08x}: it was damaged on its way")]
    Checksum {
        /// The checksum in the header.
        announced: u32,
        /// The checksum of the payload.
        found: u32,
    },
}

/// Appends a frame, whose payload `write` appends. On an error `out` is as before.
pub fn encode_frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) -> Result<(), FrameError> {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    write(out);
    let payload = &out[start + HEADER_BYTES..];
    let (length, checksum) = (payload.len(), crc32c::crc32c(payload));
    if length == 0 || length > MAX_FRAME_BYTES {
        out.truncate(start);
        return Err(match length {
            0 => FrameError::Empty,
            _ => FrameError::TooLong { length, limit: MAX_FRAME_BYTES },
        });
    }
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Splits a stream of bytes into payloads, however the bytes arrive.
///
/// Invariant: `payload.len() <= length <= limit` while a frame is incomplete, and `payload`'s capacity is at
/// most `length` and at most twice what arrived.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    payload: Vec<u8>,
}

impl FrameDecoder {
    /// Refuses payloads above `limit` bytes.
    pub fn new(limit: usize) -> FrameDecoder {
        assert!(limit <= MAX_FRAME_BYTES, "a limit of {limit} is above {MAX_FRAME_BYTES}");
        FrameDecoder { limit, header: [0; HEADER_BYTES], header_len: 0, payload: Vec::new() }
    }

    /// Allows payloads up to `limit` from the next header on.
    pub fn set_limit(&mut self, limit: usize) {
        assert!(limit <= MAX_FRAME_BYTES, "a limit of {limit} is above {MAX_FRAME_BYTES}");
        self.limit = limit;
    }

    /// Takes bytes from the front of `input`: either up to the end of a frame, whose payload it returns, or
    /// all. After an error the decoder must not be used again.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, FrameError> {
        if self.header_len < HEADER_BYTES && !self.take_header(input)? {
            return Ok(None);
        }
        let (length, announced) = self.header_words();
        let missing = length as usize - self.payload.len();
        self.take_payload(input, missing);
        if self.payload.len() < length as usize {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.payload);
        self.header_len = 0;
        let found = crc32c::crc32c(&payload);
        if found != announced {
            return Err(FrameError::Checksum { announced, found });
        }
        Ok(Some(Bytes::from(payload)))
    }

    /// Whether the header is complete, and sane.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        let count = input.len().min(HEADER_BYTES - self.header_len);
        let (taken, rest) = input.split_at(count);
        self.header[self.header_len..self.header_len + count].copy_from_slice(taken);
        self.header_len += count;
        *input = rest;
        if self.header_len < HEADER_BYTES {
            return Ok(false);
        }
        match self.header_words().0 as usize {
            0 => Err(FrameError::Empty),
            length if length > self.limit => Err(FrameError::TooLong { length, limit: self.limit }),
            _ => Ok(true),
        }
    }

    fn take_payload(&mut self, input: &mut &[u8], missing: usize) {
        let (taken, rest) = input.split_at(input.len().min(missing));
        *input = rest;
        let needed = self.payload.len() + taken.len();
        if self.payload.capacity() < needed {
            // The memory doubles as bytes arrive, but never beyond the frame: it is handed out as it is.
            let wanted = needed.max(2 * self.payload.len()).min(self.payload.len() + missing);
            self.payload.reserve_exact(wanted - self.payload.len());
        }
        self.payload.extend_from_slice(taken);
    }

    fn header_words(&self) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.header;
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_frame(&mut out, |out| out.extend_from_slice(payload)).unwrap();
        out.to_vec()
    }

    /// All payloads, and the error that ended the stream, when `bytes` arrive in the given pieces.
    fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Bytes>, Option<FrameError>) {
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let mut payloads = vec![];
        let mut rest = bytes;
        let mut arrived = 0;
        for piece in pieces.iter().copied().chain([usize::MAX]) {
            let (mut input, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            arrived += input.len();
            while !input.is_empty() {
                match decoder.decode(&mut input) {
                    Ok(Some(payload)) => payloads.push(payload),
                    Ok(None) => {
                        assert!(input.is_empty(), "an incomplete frame takes everything that is there")
                    }
                    Err(error) => return (payloads, Some(error)),
                }
                assert!(decoder.payload.capacity() <= 2 * arrived, "memory follows what arrived");
            }
        }
        (payloads, None)
    }

    /// Lengths are checked before anything is allocated, even right at the limit.
    #[test]
    fn lengths_beyond_the_limit_are_refused_from_the_header_alone() {
        for (length, error) in [
            (0, FrameError::Empty),
            (u32::MAX, FrameError::TooLong { length: u32::MAX as usize, limit: MAX_FRAME_BYTES }),
            (
                MAX_FRAME_BYTES as u32 + 1,
                FrameError::TooLong { length: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES },
            ),
        ] {
            let mut header = length.to_le_bytes().to_vec();
            header.extend([0; 4]);
            assert_eq!(decode(&header, &[]), (vec![], Some(error)));
        }
        let mut header = (MAX_FRAME_BYTES as u32).to_le_bytes().to_vec();
        header.extend([0; 4]);
        assert_eq!(decode(&header, &[]), (vec![], None));
    }

    /// A payload of the maximum length passes. One more byte is refused and leaves the buffer as it was.
    #[test]
    fn the_longest_frame_passes_and_a_longer_one_is_not_written() {
        let longest = vec![7; MAX_FRAME_BYTES];
        let (payloads, error) = decode(&frame(&longest), &[100_000, 300_000]);
        assert_eq!((payloads[0].len(), error), (MAX_FRAME_BYTES, None));

        let mut out = BytesMut::from(&b"before"[..]);
        let too_long = encode_frame(&mut out, |out| out.put_bytes(7, MAX_FRAME_BYTES + 1));
        assert_eq!(
            too_long,
            Err(FrameError::TooLong { length: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES })
        );
        assert_eq!(encode_frame(&mut out, |_| ()), Err(FrameError::Empty));
        assert_eq!(&out[..], b"before");
    }

    proptest! {
        /// What was written can be read again, however the stream is torn.
        #[test]
        fn frames_survive_any_tearing(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            pieces in prop::collection::vec(0usize..200, 0..20),
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let (read, error) = decode(&stream, &pieces);
            prop_assert_eq!(read, payloads);
            prop_assert_eq!(error, None);
        }

        /// A flipped bit in checksum or payload is noticed.
        #[test]
        fn a_flipped_bit_is_a_checksum_error(
            payload in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0..8u32,
        ) {
            let mut bytes = frame(&payload);
            let at = 4 + at.index(bytes.len() - 4);
            bytes[at] ^= 1u8 << bit;
            let (read, error) = decode(&bytes, &[]);
            prop_assert!(read.is_empty() && matches!(error, Some(FrameError::Checksum { .. })), "{:?}", error);
        }

        /// Any bytes in any pieces cause no panic and take no memory beyond twice what arrived.
        #[test]
        fn any_bytes_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            pieces in prop::collection::vec(0usize..200, 0..20),
        ) {
            decode(&bytes, &pieces);
        }
    }
}
