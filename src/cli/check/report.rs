//! The report: in the form of the seed's checker, with what broke a rule below `not pass`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use crate::cli::output;

use super::error::CheckError;
use super::files::{NodeLog, Place};
use super::record::Record;
use super::table::{Break, Node, TOLD, Verdict};

/// Where a seq was committed, and what.
struct Found {
    place: Place,
    text: String,
}

/// By node and seq.
type Places = BTreeMap<(Node, u64), Vec<Found>>;

/// Prints the verdict. `generates_known`: whether all of rule 2 was checked.
pub(super) fn print(
    logs: &[NodeLog],
    verdict: &Verdict,
    generates_known: bool,
    out: &mut dyn Write,
) -> Result<(), CheckError> {
    let places = find_places(logs, verdict)?;
    let written = write(logs, verdict, generates_known, &places, out).and_then(|()| out.flush());
    // A reader that has gone away must not hide the verdict in the exit code.
    output::unless_nobody_reads(written).map_err(CheckError::Output)
}

fn write(
    logs: &[NodeLog],
    verdict: &Verdict,
    generates_known: bool,
    places: &Places,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "----------begin to check------------")?;
    for (log, commits) in logs.iter().zip(&verdict.commits) {
        writeln!(out, "node {} commits {commits} times", log.name)?;
    }
    for log in logs.iter().filter(|log| log.first > 1) {
        writeln!(out, "node {} begins at index {}: older lines are not in these files", log.name, log.first)?;
    }
    writeln!(out, "---------- check validity ------------")?;
    write_verdict(verdict.is_valid(), &[1, 2], logs, verdict, places, out)?;
    if !generates_known {
        writeln!(out, "(whether all of it was proposed is not known: give --proposed FILE)")?;
    }
    writeln!(out, "---------- check safety --------------")?;
    write_verdict(verdict.is_safe(), &[3], logs, verdict, places, out)?;
    writeln!(out, "---------- end -----------------------")
}

fn write_verdict(
    pass: bool,
    rules: &[usize],
    logs: &[NodeLog],
    verdict: &Verdict,
    places: &Places,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "{}", if pass { "pass" } else { "not pass" })?;
    for rule in rules {
        let (told, count) = (&verdict.breaks.told[rule - 1], verdict.breaks.count[rule - 1]);
        for broken in told {
            writeln!(out, "  rule {rule}: {}", describe(broken, logs, places))?;
        }
        if count > TOLD as u64 {
            writeln!(out, "  rule {rule}: and {} more", count - TOLD as u64)?;
        }
    }
    Ok(())
}

fn describe(broken: &Break, logs: &[NodeLog], places: &Places) -> String {
    let name = |node: &Node| &logs[*node].name;
    let said = |node: &Node, seq: &u64| {
        let found = places.get(&(*node, *seq)).map_or(&[][..], Vec::as_slice);
        let each = |found: &Found| {
            let Place { file, line } = found.place;
            format!("[{}] ({}:{line})", found.text, logs[*node].files[file].display())
        };
        found.iter().map(each).collect::<Vec<_>>().join(", then ")
    };
    match broken {
        Break::Again { node, seq } => {
            format!("node {} commits seq {seq} more than once: {}", name(node), said(node, seq))
        }
        Break::NotGenerated { node, seq } => {
            format!("node {} commits in seq {seq} what nobody generated: {}", name(node), said(node, seq))
        }
        Break::NothingCommitted { node } => format!("node {} committed nothing", name(node)),
        Break::Differs { first, node, seq } => format!(
            "seq {seq} differs: node {} has {}; node {} has {}",
            name(first),
            said(first, seq),
            name(node),
            said(node, seq)
        ),
        Break::Missing { node, other, seq } => format!(
            "seq {seq} is missing on node {}, which goes on beyond it; node {} has {}",
            name(node),
            name(other),
            said(other, seq)
        ),
    }
}

/// The second reading: where the seqs of breaks were committed. At most two places are kept for each.
fn find_places(logs: &[NodeLog], verdict: &Verdict) -> Result<Places, CheckError> {
    let mut wanted: BTreeSet<(Node, u64)> = BTreeSet::new();
    for broken in verdict.breaks.told.iter().flatten() {
        match *broken {
            Break::Again { node, seq } | Break::NotGenerated { node, seq } => wanted.extend([(node, seq)]),
            Break::Differs { first, node, seq } => wanted.extend([(first, seq), (node, seq)]),
            Break::Missing { other, seq, .. } => wanted.extend([(other, seq)]),
            Break::NothingCommitted { .. } => {}
        }
    }
    let mut places = Places::new();
    for node in wanted.iter().map(|(node, _)| *node).collect::<BTreeSet<Node>>() {
        let mut reader = logs[node].reader();
        while let Some((place, record)) = reader.next()? {
            let Record::Commit { seq, value, .. } = record else { continue };
            if !wanted.contains(&(node, seq)) {
                continue;
            }
            let found = places.entry((node, seq)).or_default();
            if found.len() < 2 {
                let text = String::from_utf8_lossy(&value[..value.len().min(200)]).into_owned();
                found.push(Found { place, text });
            }
        }
    }
    Ok(places)
}
