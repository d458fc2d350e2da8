//! The layout of the source holds: imports point down the list of layers, each file says what it is, and
//! clippy refuses in the pure modules what would make a run depend on more than its inputs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file may import its own layer and those after it. A name stands for `src/NAME.rs` or `src/NAME/`.
const LAYERS: [&str; 14] = [
    "bin",
    "cli",
    "node",
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
const FENCED: [&str; 5] = ["consensus", "pipeline", "application", "sim", "kv"];

#[test]
fn imports_point_down_the_layers() {
    let wrong: Vec<String> = sources().iter().flat_map(upward_imports).collect();
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_points_up_is_found() {
    let source = |path: &str, text: &str| Source { path: PathBuf::from(path), text: text.into() };
    for (path, text, count) in [
        ("consensus/types.rs", "use crate::pipeline::queue::Queue;", 1),
        ("consensus/paxos/mod.rs", "use super::super::wire::frame;", 1),
        ("config.rs", "fn load() { super::store::open() }", 1),
        ("store/sled.rs", "use crate::{node::peers, consensus::types};", 1),
        ("store/sled.rs", "use crate::{\n    consensus::types,\n    node::peers,\n};", 1),
        ("consensus/types.rs", "// as crate::pipeline has it\nuse super::message;", 0),
        ("consensus/paxos/mod.rs", "use super::super::types;\nuse crate::consensus::batch;", 0),
        ("node/mod.rs", "use crate::pipeline::queue; use crate::config::Config;", 0),
        ("client/mod.rs", "use crate::sim::Sim;", 1),
        ("bin/spaxos.rs", "fn main() { spaxos::cli::main() }", 0),
    ] {
        assert_eq!(upward_imports(&source(path, text)).len(), count, "{path}: {text}");
    }
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
        assert!(known, "{}: its place among the layers is to be decided", source.path.display());
    }
}

#[test]
fn clippy_refuses_a_hash_map_in_the_pure_modules() {
    for module in FENCED {
        let candidates = [format!("src/{module}/mod.rs"), format!("src/{module}.rs")];
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

/// What clippy says, with this repository's clippy.toml and lints, of a crate whose module `pure` opens with
/// `fence`; `None` if it is content. The crate depends on nothing, so this is quick and needs no network.
fn clippy(fence: &str, code: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, lints) = manifest.split_once("[lints.clippy]").expect("Cargo.toml has [lints.clippy]");
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

/// A file under `src/`, with its path from there.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The name of its layer, or `lib`.
    fn layer(&self) -> &str {
        let first = self.path.components().next().unwrap().as_os_str();
        Path::new(first).file_stem().unwrap().to_str().unwrap()
    }

    /// How many `super::` lead from its module to the crate.
    fn depth(&self) -> usize {
        let is_mod = self.path.ends_with("mod.rs");
        self.path.components().count() - usize::from(is_mod)
    }
}

/// Each import of a layer above the file's own, in words.
fn upward_imports(source: &Source) -> Vec<String> {
    let place = |layer: &str| LAYERS.iter().position(|name| *name == layer);
    let Some(own) = place(source.layer()) else { return Vec::new() };
    let wrong = |layer: &&String| place(layer).is_some_and(|place| place < own);
    let imports = imported_modules(source);
    imports.iter().filter(wrong).map(|layer| format!("{} imports {layer}", source.path.display())).collect()
}

/// The crate's modules that a file names from the crate's root, as `crate::x`, `spaxos::x`, `crate::{x, y}`
/// or by enough `super::`.
fn imported_modules(source: &Source) -> Vec<String> {
    let code: String = source.text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let to_root = "super::".repeat(source.depth());
    let mut modules = Vec::new();
    for root in ["crate::", "spaxos::", &to_root] {
        for (place, _) in code.match_indices(root) {
            let is_word = code[..place].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            if !is_word {
                modules.extend(first_names(&code[place + root.len()..]));
            }
        }
    }
    modules
}

/// `x` of `x::y`; `x` and `z` of `{x::{a, b}, z}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut depth = 0;
    let mut start = 0;
    let mut names = Vec::new();
    for (place, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[start..place]));
                start = place + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut folders = vec![src.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push(Source { path: path.strip_prefix(&src).unwrap().to_owned(), text });
            }
        }
    }
    assert!(sources.len() > 10, "the sources are found");
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
