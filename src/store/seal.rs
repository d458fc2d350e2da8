//! The seal of every value on the disk, and the integers in a value.
//!
//! | bytes of a value | |
//! | --- | --- |
//! | 1 | format version |
//! | 4 | CRC-32C, little endian, of the key, the version and everything that follows |
//! | … | content |
//!
//! A record's key is its number, big endian. The checksum covers the key, so a value that turns up under
//! another key is noticed. Integers in the content are LEB128 unless said otherwise.

use thiserror::Error;

/// The format that this version writes.
pub const FORMAT: u8 = 1;
/// The oldest format whose versions can read what this version writes.
pub const FORMAT_LOWEST: u8 = 1;

/// How many bytes come before the content.
pub const SEAL_BYTES: usize = 5;

/// Why a record or a small value cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// A later version wrote it.
    #[error("its format {0} is newer than {FORMAT}, the newest that this version reads")]
    Newer(u8),
    /// The bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// The checksum is right but the content is not: a bug, or a record in a place where it does not belong.
    #[error("{0}")]
    Malformed(&'static str),
}

/// A sealed value: format, checksum over its key and itself, content.
pub fn seal(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut value = vec![FORMAT, 0, 0, 0, 0];
    value.extend_from_slice(content);
    seal_in_place(key, &mut value);
    value
}

/// The content of a sealed value.
pub fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (&version, rest) = value.split_first().ok_or(Damage::Malformed("it is empty"))?;
    let (crc, content) = rest.split_first_chunk().ok_or(Damage::Malformed("it is too short"))?;
    // The checksum comes first: a flipped bit in the version is damage, not a newer version.
    if u32::from_le_bytes(*crc) != checksum(key, version, content) {
        return Err(Damage::Checksum);
    }
    match version {
        FORMAT => Ok(content),
        version => Err(Damage::Newer(version)),
    }
}

/// Writes the checksum into a value whose format and content are in place.
pub fn seal_in_place(key: &[u8], value: &mut [u8]) {
    let crc = checksum(key, value[0], &value[SEAL_BYTES..]);
    value[1..SEAL_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(key: &[u8], version: u8, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &[version]), content)
}

/// Appends an integer as LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Damage::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*array)
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damage::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next integer.
    pub fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damage::Malformed("an integer is above 2^64"))
    }

    /// The next integer, a length of at most `max`.
    pub fn length(&mut self, max: usize) -> Result<usize, Damage> {
        let length = self.varint()?;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= max)
            .ok_or(Damage::Malformed("a length is above its limit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_over_their_whole_range() {
        for value in [0, 1, 127, 128, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = vec![];
            put_varint(&mut bytes, value);
            assert_eq!(Cursor(&bytes).varint(), Ok(value));
        }
        assert!(Cursor(&[0xff; 10]).varint().is_err());
        assert!(Cursor(&[0x80]).varint().is_err());
    }
}
