//! Bytes that are added at the end and taken from the front, with a size that can be accounted for.
//! (`BytesMut` would do, but hides how much memory it holds in front of its start.)

/// Invariant: `start <= bytes.len()`, and both are 0 when it is empty.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// How much memory an empty buffer keeps for the next time; more is freed.
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

    /// Takes `count` bytes from the front; moves the rest down once it is the smaller part.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} bytes of {}", self.len());
        self.start += count;
        if self.is_empty() {
            self.clear();
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.bytes.clear();
        if self.bytes.capacity() > Buffer::KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }
}
