//! A shim in C between a node and the system (`shim.c`): it records flushes and new names, and makes a disk
//! that is full or does not answer. It needs a C compiler; a test says so where there is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::Node;

/// A compiled shim, and what it is told.
pub struct Shim {
    library: PathBuf,
    folder: PathBuf,
    under: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Shim {
    /// Compiles it for a node: what counts is its data directory. `None` if that is not possible here.
    pub fn build(node: &Node) -> Option<Shim> {
        let folder = node.data.parent().unwrap();
        let library = folder.join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/shim.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("NOT TESTED: there is no C compiler (cc) for the shim");
            return None;
        }
        Some(Shim { library, folder: folder.to_path_buf(), under: node.data.clone(), variables: Vec::new() })
    }

    /// Tells it something; see `shim.c`.
    pub fn with(mut self, variable: &'static str, value: impl ToString) -> Shim {
        self.variables.push((variable, value.to_string()));
        self
    }

    /// Puts it between a command and the system.
    pub fn under(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("SHIM_UNDER", &self.under);
        command.env("SHIM_RECORD", self.record());
        command.env("SHIM_HANG", self.folder.join("hang")).env("SHIM_FULL", self.folder.join("full"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// From now on no flush returns, or again.
    pub fn hang(&self, hangs: bool) {
        switch(&self.folder.join("hang"), hangs);
    }

    /// From now on writes to what ends with `SHIM_FULL_END` find no room, or again.
    pub fn fill(&self, is_full: bool) {
        switch(&self.folder.join("full"), is_full);
    }

    /// What was recorded since this was called last, a line for each call.
    pub fn take_record(&self) -> Vec<String> {
        let text = fs::read_to_string(self.record()).unwrap_or_default();
        let _ = fs::remove_file(self.record());
        text.lines().map(str::to_owned).collect()
    }

    fn record(&self) -> PathBuf {
        self.folder.join("record")
    }
}

fn switch(file: &Path, on: bool) {
    if on {
        fs::write(file, "").unwrap();
    } else {
        fs::remove_file(file).unwrap();
    }
}
