//! The beginning of inputs that are read in pieces, or as a script: the sizes of the pieces, or numbers.

/// The sizes of pieces, and the bytes to cut. The first byte says how many sizes follow, a byte each; a size
/// of 0 stands for 4096, no sizes for pieces of one byte.
pub(super) fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((count, rest)) = data.split_first() else { return (&[], &[]) };
    rest.split_at((*count as usize).min(rest.len()))
}

/// The bytes in pieces of these sizes, over and over.
pub(super) fn cut<'a>(sizes: &[u8], mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let size = |size: u8| if size == 0 { 4096 } else { usize::from(size) };
    let sizes = if sizes.is_empty() { &[1] } else { sizes };
    let mut pieces = vec![];
    for next in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size(*next).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Reads an input as a script: numbers from the front, 0 at its end.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Two bytes, little-endian.
    pub(super) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// This many bytes, or those that are left.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
