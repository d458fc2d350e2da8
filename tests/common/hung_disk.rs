//! A disk that hangs: every fsync and fdatasync of a node waits until the test lets the disk go on, as with a
//! loose cable or a volume that has lost its server. Nothing fails, and the thread that waits cannot be
//! woken.
//!
//! A small library in C that the test compiles stands between the node and the C library (`LD_PRELOAD`). The
//! log file is written without a sync, so its writes do not hang. Left out: machines without a C compiler,
//! where the test says that it tests nothing.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// The disk of one node.
pub struct HungDisk {
    /// Holds the library, and the flag while the disk hangs.
    folder: TempDir,
}

impl HungDisk {
    /// A disk that works for now. `None` where there is no C compiler, and then it says so.
    pub fn compile() -> Option<HungDisk> {
        let disk = HungDisk { folder: tempfile::tempdir().unwrap() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/hung_disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(disk.library())
            .arg(source)
            .status();
        if compiled.as_ref().is_ok_and(|status| status.success()) {
            return Some(disk);
        }
        eprintln!("NOT TESTED: cc cannot compile {source} ({compiled:?}), so no disk hangs here");
        None
    }

    /// The process that this command starts has its data on this disk.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library()).env("HUNG_DISK_FLAG", self.flag());
    }

    /// From now on whatever must become durable waits.
    pub fn hang(&self) {
        std::fs::write(self.flag(), "").unwrap();
    }

    /// The disk goes on.
    pub fn recover(&self) {
        std::fs::remove_file(self.flag()).unwrap();
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("hung_disk.so")
    }

    fn flag(&self) -> PathBuf {
        self.folder.path().join("hangs")
    }
}
