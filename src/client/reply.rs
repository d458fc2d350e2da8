//! The encoding of replies, RESP2: each function appends one to a buffer. An array is its header and then
//! its elements.

use std::io::Write;

/// `+text`: a short fixed answer.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text);
}

/// `-CODE text`. Line ends in it become spaces, so that nothing a client sent can pose as a second reply.
pub fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text);
}

/// `:number`.
pub fn integer(out: &mut Vec<u8>, number: u64) {
    number_line(out, b':', number);
}

/// A string of any bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    number_line(out, b'$', bytes.len() as u64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Nothing, in place of a string or a number.
pub fn nil(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// Nothing, in place of an array.
pub fn nil_array(out: &mut Vec<u8>) {
    out.extend_from_slice(b"*-1\r\n");
}

/// The header of an array of `len` elements.
pub fn array(out: &mut Vec<u8>, len: usize) {
    number_line(out, b'*', len as u64);
}

fn line(out: &mut Vec<u8>, mark: u8, text: &str) {
    out.push(mark);
    out.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

fn number_line(out: &mut Vec<u8>, mark: u8, number: u64) {
    out.push(mark);
    write!(out, "{number}").expect("writing to memory cannot fail");
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule: whatever a value or an error text contains, a reply stays one reply.
    #[test]
    fn nothing_inside_a_reply_can_pose_as_another() {
        let mut out = vec![];
        error(&mut out, "ERR what\r\n+OK");
        bulk(&mut out, b"\r\n+OK\r\n");
        array(&mut out, 2);
        integer(&mut out, u64::MAX);
        nil(&mut out);
        let expected: &[u8] =
            b"-ERR what  +OK\r\n$7\r\n\r\n+OK\r\n\r\n*2\r\n:18446744073709551615\r\n$-1\r\n";
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
