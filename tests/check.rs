//! `spaxos check` against logs made by hand: each rule broken once in each way, and what must not count as
//! broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const GOOD: i32 = 0;
const NOT_PASS: i32 = 1;
const UNREADABLE: i32 = 2;

/// Returns what the checker says of files with these contents, in the order given: its exit code and words.
/// Paths are shown without their folder.
fn check(files: &[(&str, &str)], options: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(name, text): &(&str, &str)| -> PathBuf {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<PathBuf> = files.iter().map(write).filter(|path| !path.ends_with("proposed")).collect();
    run(folder.path(), &paths, options)
}

fn run(folder: &Path, paths: &[PathBuf], options: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spaxos"));
    let output = command.arg("check").args(paths).args(options).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap().replace(&format!("{}/", folder.display()), "");
    (output.status.code().unwrap(), text)
}

/// Instance lines: `c 1 a` commits a in seq 1, `g 1 a` generates it, anything else is the line itself; the
/// last one may be torn.
fn log(lines: &[&str]) -> String {
    let line = |line: &&str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["c", seq, name] => format!("commit Instance[{name}] in seq {seq} at 5\n"),
        ["g", seq, name] => format!("2026/11/21 08:00 generate Instance[{name}] in seq {seq} at 5\n"),
        _ => line.to_string(),
    };
    lines.iter().map(line).collect()
}

/// The form is the seed's.
#[test]
fn the_words_of_the_seed() {
    let first = log(&["g 1 a", "c 1 a", "g 2 b", "c 2 b"]);
    let second = log(&["c 1 a"]);
    let files = [("log/instancelog1.log", &*second), ("log/instancelog0.log", &*first)];
    let (code, text) = check(&files, &[]);
    assert_eq!(
        text,
        "----------begin to check------------\n\
         node 0 commits 2 times\n\
         node 1 commits 1 times\n\
         ---------- check validity ------------\n\
         pass\n\
         ---------- check safety --------------\n\
         pass\n\
         ---------- end -----------------------\n"
    );
    assert_eq!(code, GOOD);
}

/// Each way to break a rule, what is said of it, and under which heading.
#[test]
fn each_rule_broken_in_each_way() {
    let good = log(&["g 1 a", "g 2 b", "g 3 d", "c 1 a", "c 2 b", "c 3 d"]);
    for (broken, validity, safety, words) in [
        // Rule 1.
        (
            vec!["c 1 a", "c 2 b", "c 2 b", "c 3 d"],
            false,
            true,
            "rule 1: node 1 commits seq 2 more than once: [b] (log1.log:2), then [b] (log1.log:3)",
        ),
        (
            vec!["c 1 a", "c 2 b", "c 3 d", "c 1 b"],
            false,
            true,
            "rule 1: node 1 commits seq 1 more than once: [a] (log1.log:1), then [b] (log1.log:4)",
        ),
        // Rule 2.
        (
            vec!["c 1 a", "c 2 b", "c 3 d", "c 4 e"],
            false,
            true,
            "rule 2: node 1 commits in seq 4 what nobody generated: [e] (log1.log:4)",
        ),
        (vec!["g 4 e"], false, true, "rule 2: node 1 committed nothing"),
        // Rule 3.
        (
            vec!["c 1 a", "c 2 d"],
            true,
            false,
            "rule 3: seq 2 differs: node 0 has [b] (log0.log:5); node 1 has [d] (log1.log:2)",
        ),
        (
            vec!["c 1 a", "c 3 d"],
            true,
            false,
            "rule 3: seq 2 is missing on node 1, which goes on beyond it; node 0 has [b] (log0.log:5)",
        ),
        (
            vec!["c 1 a", "c 2 b", "c 3 d", "g 5 e", "c 5 e", "g 4 f"],
            true,
            true,
            "pass", // A gap beyond what the other node has does not count.
        ),
        (vec!["c 2 b", "c 3 d"], true, false, "rule 3: seq 1 is missing on node 1"),
    ] {
        let bad = log(&broken);
        for files in
            [[("log0.log", &*good), ("log1.log", &*bad)], [("log1.log", &*bad), ("log0.log", &*good)]]
        {
            let (code, text) = check(&files, &[]);
            assert!(text.contains(words), "{broken:?}: {text}");
            let word = |pass| if pass { "pass\n" } else { "not pass\n" };
            assert!(
                text.contains(&format!("validity ------------\n{}", word(validity))),
                "{broken:?}: {text}"
            );
            assert!(text.contains(&format!("safety --------------\n{}", word(safety))), "{broken:?}: {text}");
            assert_eq!(code, if validity && safety { GOOD } else { NOT_PASS }, "{broken:?}: {text}");
        }
    }
}

/// What does not break a rule: other lines between, a torn last line, rotated files in any order, a value
/// that is generated later in the files than it is committed, seqs from 0, a node that is behind, seqs out of
/// order.
#[test]
fn what_is_in_order_passes() {
    let good = log(&["c 0 a", "c 1 b", "c 2 d", "g 0 a", "g 1 b", "g 2 d"]);
    let passes = |files: &[(&str, &str)]| {
        let (code, text) = check(files, &[]);
        assert_eq!(code, GOOD, "{files:?}: {text}");
    };
    for other in [
        log(&["c 0 a", "[INFO] ready\n", "\n", "\u{1F642}commit Instance[x in seq 1 at 2\n", "c 1 b"]),
        log(&["c 0 a", "commit Instance[b] in seq 1"]),
        log(&["c 0 a", "commit Instance[b] in seq 1 at 5"]),
        log(&["c 2 d", "c 0 a", "c 1 b"]),
        log(&["c 0 a"]),
        format!("{}{}\n{}", log(&["c 0 a"]), "x".repeat(1_000_000), log(&["c 1 b"])),
    ] {
        passes(&[("log0.log", &good), ("log1.log", &other)]);
    }
    let (old, new) = (log(&["g 2 d", "c 0 a", "c 1 b"]), log(&["c 2 d"]));
    passes(&[("log0.log", &good), ("log1.log", &new), ("log1.log.1", &old)]);
    passes(&[("a/log.log", &good), ("b/log.log.10", &old), ("b/log.log", &new)]);
}

/// Breaks beyond those that are shown are counted.
#[test]
fn many_breaks_are_counted() {
    let lines = |name: &str| {
        (1..=1000).map(|seq| format!("commit Instance[{name}] in seq {seq} at 1\n")).collect::<String>()
    };
    let (code, text) = check(&[("log0.log", &lines("a")), ("log1.log", &lines("b"))], &[]);
    assert!(text.contains("rule 3: and 990 more"), "{text}");
    assert_eq!(code, NOT_PASS);
}

fn chosen(index: u64, rest: &str) -> String {
    format!("2026-11-21T07:39:49.123456Z [INFO] chosen index={index} {rest}\n")
}

/// Logs of simplesvr: rules 1 and 3 need nothing else, rule 2 needs what was proposed; ballots may differ,
/// no-ops are the same on all and proposed by nobody; a torn chosen line does not count; a log may begin
/// late.
#[test]
fn logs_of_simplesvr() {
    let line = |index, ballot, value| {
        chosen(index, &format!("reqid={index} ballot={ballot} from=1 value=\"{value}\""))
    };
    let noop = chosen(1, "reqid=0 ballot=1.1 from=1 noop");
    let one = [noop.clone(), line(2, "1.1", "x"), line(3, "1.1", r"a\x00b")].concat();
    let other =
        [noop, "2026-11-21T07:39:49Z [INFO] ready\n".into(), line(2, "2.1", "x"), line(3, "1.1", r"a\x00b")]
            .concat();
    let torn = format!("{other}{}", chosen(4, "reqid=4 ballot=1.1 from=1 value=\"to").trim_end());
    let late = line(3, "1.1", r"a\x00b");
    let logs = |second: &str, proposed: &str, options: &[&str]| {
        check(
            &[("node1/simplesvr.log", &one), ("node2/simplesvr.log", second), ("proposed", proposed)],
            options,
        )
    };
    for second in [&other, &torn, &late] {
        let (code, text) = logs(second, "", &[]);
        assert_eq!(code, GOOD, "{second}: {text}");
        assert!(text.contains("node 2 commits") && text.contains("give --proposed"), "{text}");
    }
    let (code, text) = logs(&other, "2 x\nPROP 3 a\0b\n", &["--proposed", "proposed"]);
    assert_eq!(code, GOOD, "{text}");
    let (code, text) = logs(&other, "2 x\n3 c\n", &["--proposed", "proposed"]);
    assert!(text.contains("rule 2: node 1 commits in seq 3 what nobody generated"), "{text}");
    assert_eq!(code, NOT_PASS);
    let differs = [line(1, "1.1", "w"), line(2, "1.1", "x")].concat();
    let (code, text) = logs(&differs, "", &[]);
    assert!(
        text.contains("rule 3: seq 1 differs: node 1 has [from=1 reqid=0 noop] (node1/simplesvr.log:1)"),
        "{text}"
    );
    assert_eq!(code, NOT_PASS);
}

/// What cannot be checked has an exit code of its own, and words that say why.
#[test]
fn unreadable_input_is_told_apart() {
    let instance = log(&["g 1 a", "c 1 a"]);
    let chosen = chosen(1, "reqid=0 ballot=1.1 from=1 noop");
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        run(folder.path(), &["missing.log".into()], &[]),
        run(folder.path(), &[folder.path().into()], &[]),
        check(&[("log0.log", &instance), ("log1.log", &chosen)], &[]),
        check(&[("log0.log", &instance), ("proposed", "1 a")], &["--proposed", "proposed"]),
        check(&[("log0.log", &chosen), ("proposed", "1 a\nx\n")], &["--proposed", "proposed"]),
    ];
    let words = [
        "cannot read missing.log",
        "cannot read",
        "log1.log holds a different kind",
        "--proposed is for",
        "proposed:2: not a proposal",
    ];
    for ((code, text), words) in cases.into_iter().zip(words) {
        assert_eq!(code, UNREADABLE, "{words}: {text}");
        assert!(text.contains(words), "{words}: {text}");
    }
}
