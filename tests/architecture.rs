//! The layout of the source holds: imports point down the list of layers and never go round in a circle, the
//! simulator asks nothing of the system, each file says what it is, functions and comments keep within their
//! limits, and clippy refuses in the pure modules whatever would make a run depend on more than its inputs.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/purity.rs"]
mod purity;
#[path = "architecture/size.rs"]
mod size;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::process::Command;

use circles::circles;
use purity::impure;
use size::{MAX_COMMENT_WIDTH, MAX_FUNCTION_LINES, long_functions, wide_comments};
use source::{Source, files_under, root, sources};

/// A file may import its own layer and those after it. A name stands for `src/NAME.rs` or `src/NAME/`.
const LAYERS: [&str; 15] = [
    "bin",
    "cli",
    "node",
    "directory",
    "logfile",
    "fuzzing",
    "sim",
    "client",
    "kv",
    "pipeline",
    "application",
    "store",
    "wire",
    "config",
    "consensus",
];

/// The modules behind the fence of clippy.toml, as far as they exist.
const FENCED: [&str; 6] = ["consensus", "pipeline", "application", "store", "sim", "kv"];

#[test]
fn imports_point_down_the_layers() {
    let wrong: Vec<String> = sources().iter().flat_map(upward_imports).collect();
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_points_up_is_found() {
    for (path, text, count) in [
        ("consensus/types.rs", "use crate::pipeline::queue::Queue;", 1),
        ("consensus/paxos/mod.rs", "use super::super::wire::frame;", 1),
        ("config.rs", "fn load() { super::store::open() }", 1),
        ("directory/sled.rs", "use crate::{node::peers, consensus::types};", 1),
        ("directory/sled.rs", "use crate::{\n    consensus::types,\n    node::peers,\n};", 1),
        ("consensus/types.rs", "// as crate::pipeline has it\nuse super::message;", 0),
        ("consensus/paxos/mod.rs", "use super::super::types;\nuse crate::consensus::batch;", 0),
        ("node/mod.rs", "use crate::pipeline::queue; use crate::config::Config;", 0),
        ("client/mod.rs", "use crate::sim::Sim;", 1),
        ("bin/spaxos.rs", "fn main() { spaxos::cli::main() }", 0),
    ] {
        assert_eq!(upward_imports(&Source::new(path, text)).len(), count, "{path}: {text}");
    }
}

#[test]
fn no_imports_go_round_in_a_circle() {
    let found = circles(&sources());
    assert!(found.is_empty(), "circles between files:\n{}", found.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let found = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&sources)
    };
    let two = [("a.rs", "use crate::b::B;"), ("b.rs", "fn f() -> super::a::A { todo!() }")];
    assert_eq!(found(&two), ["a.rs -> b.rs"]);
    let by_a_third = [
        ("a.rs", "use crate::{c, b::{self, B}};"),
        ("b.rs", "pub struct B;"),
        ("c.rs", "use super::d::D;"),
        ("d.rs", "use crate::a::A as Other;"),
    ];
    assert_eq!(found(&by_a_third), ["a.rs -> c.rs -> d.rs"]);
    let tests_only = [
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }"),
        ("c.rs", "// use crate::a::A;\nconst C: &str = \"crate::a\";"),
    ];
    assert_eq!(found(&tests_only), [] as [&str; 0]);
}

/// A root file and its child may import each other; nothing more.
#[test]
fn a_circle_by_a_root_file_is_found() {
    let found = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&sources)
    };
    let family = [
        ("a/mod.rs", "mod one; mod two; pub use one::One; pub struct A;"),
        ("a/one.rs", "use super::A; mod inner { use super::One; }"),
        ("a/two.rs", "use super::{A, one::One};"),
        ("b.rs", "mod part; use part::Part;"),
        ("b/part.rs", "use super::B;"),
    ];
    assert_eq!(found(&family), [] as [&str; 0]);
    let siblings = [
        ("a/mod.rs", "mod one; mod two; use two::Two;"),
        ("a/one.rs", "use super::A;"),
        ("a/two.rs", "use super::one::One;"),
    ];
    assert_eq!(found(&siblings), ["a/mod.rs -> a/two.rs -> a/one.rs"]);
    let outside = [
        ("a/mod.rs", "mod one; pub use one::One;"),
        ("a/one.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::One;"),
    ];
    assert_eq!(found(&outside), ["a/mod.rs -> a/one.rs -> b.rs"]);
}

#[test]
fn the_simulator_asks_nothing_of_the_system() {
    let found = impure(&sources());
    assert!(found.is_empty(), "what the simulator imports names:\n{}", found.join("\n"));
}

#[test]
fn a_clock_below_the_simulator_is_found() {
    let found = |text: &str| {
        let sources = [
            Source::new("sim/mod.rs", "mod run; use crate::store::Store;"),
            Source::new("sim/run.rs", "use std::fmt; use crate::wire::frame;"),
            Source::new("store/mod.rs", "mod sled; pub use sled::Store; use crate::consensus::types;"),
            Source::new("consensus/types.rs", text),
            Source::new("node/mod.rs", "use std::thread; use crate::sim;"),
        ];
        impure(&sources)
    };
    assert_eq!(found("use std::{fmt, io};\nuse std::time::Duration; use std::nets;"), [] as [&str; 0]);
    let clock = "use std::time::{Duration, Instant};";
    assert_eq!(found(clock), ["consensus/types.rs: std::time::Instant"]);
    assert_eq!(found("fn f() { sled::open() }"), ["consensus/types.rs: sled::open"]);
    assert_eq!(found("#[cfg(test)]\nmod tests { use std::fs; }"), [] as [&str; 0]);
}

#[test]
fn functions_fit_a_screen() {
    let long: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files_under(folder))
        .flat_map(|file| long_functions(&file))
        .collect();
    assert!(long.is_empty(), "longer than {MAX_FUNCTION_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn a_long_function_is_found() {
    let function = |lines: usize| {
        let body = "    let _ = \"}\"; // {\n".repeat(lines - 2);
        Source::new("a.rs", &format!("trait A {{ fn short(); }}\nfn long<'a>(a: &'a [u8; 2]) {{\n{body}}}\n"))
    };
    assert_eq!(long_functions(&function(MAX_FUNCTION_LINES)), [] as [&str; 0]);
    assert_eq!(long_functions(&function(MAX_FUNCTION_LINES + 1)), ["a.rs: long has 77 lines"]);
}

#[test]
fn comments_fit_the_width_of_code() {
    let wide: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files_under(folder))
        .flat_map(|file| wide_comments(&file))
        .collect();
    assert!(wide.is_empty(), "comments wider than {MAX_COMMENT_WIDTH}:\n{}", wide.join("\n"));
}

#[test]
fn a_wide_comment_is_found() {
    let wide = |line: String| wide_comments(&Source::new("a.rs", &line)).len();
    let filled = |start: &str, width: usize| format!("{start}{}", "ä".repeat(width - start.chars().count()));
    assert_eq!(wide(filled("    // ", MAX_COMMENT_WIDTH)), 0);
    assert_eq!(wide(filled("    // ", MAX_COMMENT_WIDTH + 1)), 1);
    assert_eq!(wide(filled("//! ", 200)), 1);
    assert_eq!(wide(filled("//! | a row | ", 200)), 0);
    assert_eq!(wide(filled("/// https://example.org/", 200)), 0);
}

/// The README says how long the cores are.
#[test]
fn the_cores_are_as_short_as_the_readme_says() {
    let lines = |is_counted: &dyn Fn(&str) -> bool| {
        let files = files_under("src/core");
        let counted = files.iter().filter(|file| is_counted(&file.path.to_string_lossy()));
        counted.map(|file| file.text.lines().count()).sum::<usize>()
    };
    let (paxos, raft) = (lines(&|path| path.starts_with("paxos/")), lines(&|path| path.starts_with("raft/")));
    let shared = lines(&|path| !path.starts_with("paxos/") && !path.starts_with("raft/"));
    assert!(paxos < 1600 && raft < 1600 && shared < 4500, "{paxos} and {raft} lines, {shared} shared");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let said = ["fewer than 1,600 lines", "fewer than 4,500 that both share"];
    assert!(said.iter().all(|text| readme.contains(text)), "the README says {said:?}");
}

#[test]
fn every_file_says_first_what_it_is() {
    for source in sources() {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{} does not open with `//!`", source.path.display());
    }
}

#[test]
fn every_layer_has_its_place() {
    for source in sources() {
        let layer = source.layer();
        let known = layer == "lib" || LAYERS.contains(&layer);
        assert!(known, "{}: its place among the layers must be decided", source.path.display());
    }
}

/// An embedder of the cores gets three packages, and an embedder of a node none that only our programs need.
#[test]
fn an_embedder_depends_on_little() {
    let cores = packages(&["-p", "spaxos-consensus", "--depth", "1"]);
    assert_eq!(cores, ["bytes", "hashbrown", "spaxos-consensus", "thiserror"].map(String::from).into());
    let node = packages(&["-p", "spaxos", "--no-default-features", "--features", "node"]);
    assert!(node.contains("mio") && node.contains("sled"), "{node:?}");
    for ours in ["clap", "hdrhistogram", "mimalloc", "serde_json", "signal-hook", "simplelog", "tempfile"] {
        assert!(!node.contains(ours), "an embedder of a node depends on {ours}");
    }
}

/// The names of what cargo would build.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names in UTF-8");
    tree.lines()
        .filter_map(|line| Some(line.split(' ').next()?.to_owned()))
        .filter(|it| !it.is_empty())
        .collect()
}

#[test]
fn clippy_refuses_a_hash_map_in_the_pure_modules() {
    for module in FENCED {
        let folder = if module == "consensus" { "core" } else { module };
        let candidates = ["/mod.rs", "/lib.rs", ".rs"].map(|end| format!("src/{folder}{end}"));
        let Some(text) = candidates.iter().find_map(|path| std::fs::read_to_string(root().join(path)).ok())
        else {
            continue;
        };
        let fence = text.lines().find(|line| line.starts_with("#![deny(clippy::"));
        let fence = fence.unwrap_or_else(|| panic!("{module} has no #![deny(clippy::…)]"));
        for denied in ["disallowed_types", "disallowed_methods"] {
            assert!(fence.contains(denied), "{module} does not deny {denied}");
        }
    }
    let clean =
        "pub fn first(map: &std::collections::BTreeMap<u8, u8>) -> Option<&u8> { map.values().next() }";
    let planted =
        "pub fn first(map: &std::collections::HashMap<u8, u8>) -> Option<&u8> { map.values().next() }";
    let fence = "#![deny(clippy::disallowed_types, clippy::disallowed_methods)]";
    assert_eq!(clippy(fence, clean), None);
    let refused = clippy(fence, planted).expect("clippy refuses a HashMap behind the fence");
    assert!(refused.contains("HashMap") && refused.contains("differs from run to run"), "{refused}");
    let spawned = clippy(fence, "pub fn start() { std::thread::spawn(|| ()); }");
    assert!(spawned.expect("clippy refuses a thread behind the fence").contains("only node/ starts threads"));
    assert_eq!(clippy("", planted), None, "outside the fence it is allowed");
}

/// Returns what clippy says, with this repository's clippy.toml and lints, about a crate whose module `pure`
/// opens with `fence`, or `None` if it is content. The crate depends on nothing, so this is quick and needs
/// no network.
fn clippy(fence: &str, code: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[workspace.lints.clippy]").expect("Cargo.toml has the lints");
    let (lints, _) = rest.split_once("\n[").unwrap_or((rest, ""));
    write(
        "Cargo.toml",
        &format!(
            "[package]\nname = \"planted\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[lints.clippy]\n{lints}"
        ),
    );
    std::fs::copy(root().join("clippy.toml"), dir.path().join("clippy.toml")).unwrap();
    write("lib.rs", "pub mod pure;\n");
    write("pure.rs", &format!("{fence}\n{code}\n"));
    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--offline", "--quiet"])
        .current_dir(dir.path())
        .env("CARGO_TARGET_DIR", dir.path().join("target"))
        // Set by the cargo that runs this test, perhaps with a wrapper of its own.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() || said.contains("disallowed"),
        "clippy itself failed; is it installed (rustup component add clippy)?\n{said}"
    );
    if output.status.success() { None } else { Some(said) }
}

/// Each import of a layer above the file's own, in words.
fn upward_imports(source: &Source) -> Vec<String> {
    let place = |layer: &str| LAYERS.iter().position(|name| *name == layer);
    let Some(own) = place(source.layer()) else { return Vec::new() };
    let wrong = |layer: &&String| place(layer).is_some_and(|place| place < own);
    let layers: Vec<String> = source.paths().into_iter().filter_map(|path| path.into_iter().next()).collect();
    layers.iter().filter(wrong).map(|layer| format!("{} imports {layer}", source.path.display())).collect()
}
