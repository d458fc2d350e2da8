//! `spaxos bench core`: runs with either protocol, and prints what its users read. (That all nodes deliver
//! the same is checked by the command itself.)

use std::process::Command;

const MODES: [&str; 4] = ["1", "64", "1024", "p1024x64x8"];

/// A JSON line for each run of each kind, with the names that the comparison's other programs have.
#[test]
fn prints_json_lines() {
    for (protocol, nodes) in [("paxos", 3), ("raft", 3), ("raft", 1), ("paxos", 5)] {
        let lines = bench(&["--protocol", protocol, "--nodes", &nodes.to_string(), "--json"]);
        let rows: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2 * MODES.len(), "{lines}");
        for (row, mode) in rows.iter().zip(MODES.iter().cycle()) {
            assert_eq!(row["core"], format!("spaxos-{protocol}"), "{row}");
            assert_eq!(
                (&row["mode"], &row["nodes"], &row["bytes"]),
                (&(*mode).into(), &nodes.into(), &8.into())
            );
            // As many as were asked for, and what came with the last of them.
            let entries = row["entries"].as_u64().unwrap();
            assert!((300..300 + 1024).contains(&entries), "{row}");
            assert!(row["cpu_ns_entry"].as_f64().unwrap() > 0.0, "{row}");
        }
        // Entries one at a time: each other node is sent one and accepts it; now and then there is a
        // heartbeat.
        let messages = rows[0]["msgs_entry"].as_f64().unwrap();
        let exchanged = 2.0 * f64::from(nodes - 1);
        assert!((exchanged..=1.5 * exchanged).contains(&messages), "{messages} messages an entry");
    }
}

/// The table has a line for each kind, with its median and range.
#[test]
fn prints_a_table() {
    let table = bench(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + MODES.len(), "{table}");
    assert!(lines[0].contains("3 cores") && lines[0].contains("8-byte values"), "{table}");
    for (line, words) in
        lines[1..].iter().zip(["one at a time", "64 outstanding", "1024 outstanding", "64 a turn"])
    {
        assert!(
            line.contains(words) && line.contains("ns/entry  (") && line.contains("messages/entry"),
            "{line}"
        );
    }
}

fn bench(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spaxos"));
    command.args(["bench", "core", "--entries", "300", "--size", "8", "--runs", "2"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
