//! What a line of a log says to the rules.

use memchr::memmem;

use super::super::instance_line::{self, Verb};
use crate::consensus::types::{Ballot, Command};
use crate::pipeline::chosen_line;

/// A line that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A value was generated.
    Generate { value: &'a [u8] },
    /// A value (or a no-op, an operation) was committed.
    Commit {
        seq: u64,
        value: &'a [u8],
        /// The value as it was generated; `None` for what nobody generates.
        generated: Option<&'a [u8]>,
    },
}

/// Which kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Instance,
    Chosen,
}

/// The record in a line without its newline. `scratch` holds what is not in the line as one piece.
pub(super) fn parse<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<(Form, Record<'a>)> {
    if let Some(seq) = chosen_line::parse_index(line) {
        return Some((Form::Chosen, chosen(seq, line, scratch)?));
    }
    let found = instance_line::find(line)?;
    let value = found.name;
    Some((
        Form::Instance,
        match found.verb {
            Verb::Generate => Record::Generate { value },
            Verb::Commit => Record::Commit { seq: found.seq, value, generated: Some(value) },
        },
    ))
}

/// `… reqid=R ballot=B from=F value="…"`: all but the ballot, which may differ between nodes, is compared. A
/// value is generated as `R value="…"`, whatever node took it.
fn chosen<'a>(seq: u64, line: &[u8], scratch: &'a mut Vec<u8>) -> Option<Record<'a>> {
    let reqid_at = memmem::find(line, b" reqid=")?;
    let ballot_at = memmem::find(line, b" ballot=")?;
    let from_at = memmem::find(line, b" from=")?;
    let from = &line[from_at + 1..];
    let what = &from[memchr::memchr(b' ', from)? + 1..];
    let reqid = line.get(reqid_at + 1..ballot_at)?;
    scratch.clear();
    scratch.extend_from_slice(&from[..from.len() - what.len()]);
    let generated_at = scratch.len();
    scratch.extend_from_slice(reqid);
    scratch.push(b' ');
    scratch.extend_from_slice(what);
    let is_value = what.starts_with(b"value=");
    let generated = is_value.then(|| &scratch[generated_at..]);
    Some(Record::Commit { seq, value: scratch, generated })
}

/// What a proposal, a line `reqid value` or `PROP reqid value`, is once chosen; `None` if it is not one.
pub(super) fn proposal<'a>(line: &[u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let line = line.strip_prefix(b"PROP ").unwrap_or(line);
    let space = memchr::memchr(b' ', line)?;
    let reqid = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    let command = Command::value(reqid, 0, line[space + 1..].to_vec());
    let mut text = Vec::new();
    chosen_line::format(&mut text, 1, &command, Ballot::ZERO, false);
    match chosen(1, &text, scratch)? {
        Record::Commit { generated, .. } => generated,
        Record::Generate { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Option<(Form, u64, String, Option<String>)> {
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut scratch = Vec::new();
        match parse(line.as_bytes(), &mut scratch)? {
            (form, Record::Commit { seq, value, generated }) => {
                Some((form, seq, string(value), generated.map(string)))
            }
            (form, Record::Generate { value }) => Some((form, 0, string(value), None)),
        }
    }

    /// The ballot of a chosen line does not count, a no-op is not generated, and only whole lines are
    /// records.
    #[test]
    fn chosen_lines() {
        let line =
            r#"2026-11-21T07:39:49.1Z [INFO] chosen index=2 reqid=7 ballot=1.1 from=3 value="a ballot=x b""#;
        let (form, seq, value, generated) = text(line).unwrap();
        assert_eq!((form, seq), (Form::Chosen, 2));
        assert_eq!(value, r#"from=3 reqid=7 value="a ballot=x b""#);
        assert_eq!(generated.as_deref(), Some(r#"reqid=7 value="a ballot=x b""#));
        let noop = "2026-11-21T07:39:49Z [INFO] chosen index=3 reqid=0 ballot=1.1 from=2 noop";
        assert_eq!(text(noop), Some((Form::Chosen, 3, "from=2 reqid=0 noop".into(), None)));
        for other in
            ["2026-11-21T07:39:49Z [INFO] ready client=", "chosen index=3 reqid=0 ballot=1.1 from=2 noop"]
        {
            assert_eq!(text(other), None);
        }
    }

    /// A proposal is compared as the chosen line shows it: escaped, and cut with length and checksum.
    #[test]
    fn proposals() {
        let mut scratch = Vec::new();
        let mut shown =
            |line: &[u8]| proposal(line, &mut scratch).map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(shown(b"7 a \"b\"").as_deref(), Some(r#"reqid=7 value="a \"b\"""#));
        assert_eq!(shown(b"PROP 7 x").as_deref(), Some(r#"reqid=7 value="x""#));
        assert!(shown(&[b"7 ", &[b'x'; 200][..]].concat()).unwrap().contains("len=200 crc="));
        assert_eq!(shown(b"x y"), None);
        assert_eq!(shown(b"7"), None);
    }
}
