//! Bytes that are added at the end and taken from the front, with a size that can be accounted for.
//! (`BytesMut` would do, but hides how much memory it holds in front of its start.)

/// Invariant: `start <= bytes.len()`, and both are 0 when it is empty.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// How much memory a buffer keeps for the next time; of more than this, what it does not need is freed.
    const KEEP_BYTES: usize = 16 * 1024;

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes' vector, to append to.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes `count` bytes from the front; moves the rest down once it is the smaller part, and then frees
    /// memory that is much more than the rest needs.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} bytes of {}", self.len());
        self.start += count;
        if self.is_empty() {
            self.clear();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.bytes.capacity() / 4 > self.bytes.len() {
                self.bytes.shrink_to(Buffer::KEEP_BYTES);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.bytes.clear();
        if self.bytes.capacity() > Buffer::KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Frees all memory that it does not need now.
    pub(super) fn release(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever it held, a buffer keeps little memory for what is left in it.
    #[test]
    fn what_a_long_request_took_is_freed() {
        for left in [0, 1, 100, 10_000] {
            let mut buffer = Buffer::default();
            for _ in 0..1000 {
                buffer.end().extend_from_slice(&[7; 1000]);
            }
            buffer.end().resize(1_000_000 + left, 8);
            buffer.consume(1_000_000);
            assert_eq!(buffer.as_slice(), vec![8; left]);
            let held = buffer.held_bytes();
            assert!(held <= Buffer::KEEP_BYTES.max(4 * left), "{held} bytes for {left}");
            buffer.release();
            assert!(buffer.held_bytes() <= 2 * left, "{} bytes for {left}", buffer.held_bytes());
        }
    }
}
