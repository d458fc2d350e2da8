//! Reads the end of a log file backward, in bounded memory whatever the file holds, to find where its last
//! whole line ends and the index of its last chosen line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::consensus::types::Index;
use crate::pipeline::chosen_line;

/// None of our lines is longer, including the newline (a diagnostic text is cut before that, a chosen line is
/// shorter).
pub const MAX_LINE_BYTES: usize = 8 * 1024;

/// How much is read at a time.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The part of a line that tells its index is within this many bytes of its start.
const PREFIX_BYTES: u64 = 128;

/// The beginning of the text of the line that opens a new file: chosen lines up to the index that follows are
/// in earlier files.
const EARLIER: &[u8] = b" [INFO] chosen earlier: up to index=";

/// The text of the line that opens a new file, beginning with the space after its timestamp.
pub fn earlier_line(last: Index) -> Vec<u8> {
    let mut text = EARLIER.to_vec();
    chosen_line::decimal(&mut text, last);
    text.push(b'\n');
    text
}

/// Returns how many bytes at the start of the file are whole lines. Fails with kind `InvalidData` if what
/// follows is longer than a torn line of ours can be: then it is somebody else's file.
pub fn whole_bytes(file: &File, len: u64) -> io::Result<u64> {
    let mut buffer = Vec::new();
    let mut end = len;
    // After a power cut a file may end in zero bytes, which count for nothing.
    let mut torn_end = None;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        read(file, start, end, &mut buffer)?;
        let newline = buffer.iter().rposition(|byte| *byte == b'\n').map(|place| start + place as u64 + 1);
        torn_end = torn_end.or(buffer.iter().rposition(|byte| *byte != 0).map(|at| start + at as u64 + 1));
        let whole = newline.unwrap_or(start);
        if torn_end.is_some_and(|torn_end| torn_end - whole > MAX_LINE_BYTES as u64) {
            let why = format!("its last line is unfinished and longer than {MAX_LINE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if newline.is_some() {
            return Ok(whole);
        }
        end = start;
    }
    Ok(0)
}

/// The index of the last chosen line in the first `whole` bytes, which end with a line.
pub fn last_index(file: &File, whole: u64) -> io::Result<Option<Index>> {
    let mut buffer = Vec::new();
    let mut end = whole;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        // A line that starts at the end of this block goes on in the one that was read before it.
        read(file, start, (end + PREFIX_BYTES).min(whole), &mut buffer)?;
        let first_line = if start == 0 { Some(0) } else { None };
        let starts = line_starts(&buffer, (end - start) as usize).chain(first_line);
        if let Some(index) = starts.into_iter().find_map(|start| index_of(&buffer[start..])) {
            return Ok(Some(index));
        }
        end = start;
    }
    Ok(None)
}

/// The index of the last chosen line among whole lines in memory.
pub fn last_index_in(lines: &[u8]) -> Option<Index> {
    let body = lines.len().saturating_sub(1);
    let first_line = if lines.is_empty() { None } else { Some(0) };
    line_starts(lines, body).chain(first_line).find_map(|start| index_of(&lines[start..]))
}

/// Where lines start after the newlines within the first `within` bytes, the last one first.
fn line_starts(bytes: &[u8], within: usize) -> impl Iterator<Item = usize> {
    (0..within).rev().filter(|place| bytes[*place] == b'\n').map(|place| place + 1)
}

fn index_of(line: &[u8]) -> Option<Index> {
    chosen_line::parse_index(line).or_else(|| parse_earlier(line))
}

fn parse_earlier(line: &[u8]) -> Option<Index> {
    let rest = chosen_line::skip_timestamp(line)?.strip_prefix(EARLIER)?;
    let digits = rest.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn read(file: &File, start: u64, end: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize((end - start) as usize, 0);
    file.read_exact_at(buffer, start)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TIME: &str = "2026-11-21T07:39:49.123456Z";

    fn chosen(index: Index) -> String {
        format!("{TIME} [INFO] chosen index={index} reqid={index} ballot=1.1 from=1 value=\"v\"\n")
    }

    fn file(text: impl AsRef<[u8]>) -> (File, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_ref()).unwrap();
        (file, text.as_ref().len() as u64)
    }

    fn tail(text: impl AsRef<[u8]>) -> (u64, Option<Index>) {
        let (file, len) = file(text);
        let whole = whole_bytes(&file, len).unwrap();
        (whole, last_index(&file, whole).unwrap())
    }

    #[test]
    fn a_line_is_whole_only_with_its_newline_wherever_it_is_torn() {
        let lines = [chosen(1), chosen(2), chosen(3)];
        let text = lines.concat();
        for cut in 0..=text.len() {
            let whole_lines = text[..cut].matches('\n').count();
            let whole = lines[..whole_lines].concat().len() as u64;
            let index = (whole_lines > 0).then_some(whole_lines as u64);
            assert_eq!(tail(&text[..cut]), (whole, index), "cut at {cut}");
            // Zero bytes after the torn line, as a power cut may leave, change nothing.
            let zeros = [&text.as_bytes()[..cut], &[0; 100_000]].concat();
            assert_eq!(tail(zeros), (whole, index), "cut at {cut}, then zeros");
        }
    }

    #[test]
    fn the_last_chosen_line_is_found_at_every_place_around_a_block_border() {
        let line = chosen(7);
        let others = format!("{TIME} [WARN] something else\n");
        for after in (BLOCK_BYTES as usize - 2 * line.len())..(BLOCK_BYTES as usize + 10) {
            let filler = format!("{}\n", "x".repeat(after));
            let (file, len) = file(format!("{others}{}{line}{filler}", chosen(6)));
            assert_eq!(last_index(&file, len).unwrap(), Some(7), "{after} bytes after it");
        }
    }

    #[test]
    fn the_line_that_opens_a_new_file_counts_as_the_lines_before_it() {
        let earlier = [TIME.as_bytes(), &earlier_line(41)].concat();
        assert_eq!(tail(&earlier).1, Some(41));
        assert_eq!(last_index_in(&earlier), Some(41));
        assert_eq!(tail([&earlier[..], chosen(42).as_bytes()].concat()).1, Some(42));
    }

    #[test]
    fn lines_in_memory() {
        assert_eq!(last_index_in(b""), None);
        assert_eq!(last_index_in(chosen(3).as_bytes()), Some(3));
        let lines = format!("{}{}{TIME} [WARN] no\n", chosen(3), chosen(4));
        assert_eq!(last_index_in(lines.as_bytes()), Some(4));
    }

    #[test]
    fn somebody_elses_file_is_not_cut() {
        for len in [MAX_LINE_BYTES + 1, 70_000, 300_000] {
            let (file, len) = file([chosen(1).as_bytes(), &vec![b'x'; len]].concat());
            let error = whole_bytes(&file, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        let junk: Vec<u8> = (0..200_000u32).map(|number| (number * 7 % 251) as u8).collect();
        let (file, len) = file(&junk);
        let whole = whole_bytes(&file, len).unwrap();
        assert_eq!(last_index(&file, whole).unwrap(), None);
    }
}
