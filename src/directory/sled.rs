//! The engine on sled 0.34.7, and everything that has to be known about sled.
//!
//! - `Db::flush` writes and ends in `sync_file_range`, which survives no power cut. So every sync ends in an
//!   fdatasync through our own handle to sled's file `db`, which is opened before the first write and kept:
//!   Linux reports a failed write-back once to each handle that was open when it failed.
//! - Sled writes on threads of its own. An error there poisons its handle: later writes fail with the same
//!   error, of which only the kind is left. Our handle shows whether an error of kind "no room" came from a
//!   write or from a failed write-back: if an fdatasync through it succeeds, nothing that was written got
//!   lost, and the store may be reopened; otherwise the disk failed for good.
//! - When such a thread fails, sled sometimes forgets to wake the threads in `flush` (`exit_reservation` sets
//!   the error without a notification), which then wait forever. A thread of ours checks every 100 ms whether
//!   there is an error, and if so flushes, which fails immediately and wakes all of them.
//! - Sled's own lock on `db` is held until its last thread is done with the file, so reopening waits for it:
//!   a late write of the poisoned handle cannot reach into the reopened one.
//! - A new file is durable only with its folder. Sled makes files when it opens, after which
//!   [`folder::settle`] syncs them all, and perhaps later, without a sync of the folder. So each commit that
//!   sets small values (the identity, a start, a binding) is followed by a sync of the folder as well; there
//!   are few of them.
//! - If sled is interrupted (a kill, a full disk) while it writes its file `conf`, which it does before
//!   anything else and in two parts, it cannot open its folder again. As long as `db` is empty, nothing was
//!   written: then `conf` is removed.
//! - If the process is killed while sled opens, `snap.*.generating` is left, which sled later takes for a
//!   snapshot and refuses.
//! - Sled panics on some damaged files. Every call runs under `catch_unwind`; see [`exit_code_of_panic`] for
//!   what a panic hook must ask.
//! - Values above 128 KiB (leaves of up to 17 values) go to `blobs/`, unsynced: see
//!   `store::engine::MAX_VALUE_BYTES`.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::store::engine::{
    Commit, Engine, EngineError, Journal, MAX_VALUE_BYTES, Meta, Put, VisitRecord, VisitValue,
};
use crate::store::is_no_room;

use super::folder;

/// The byte before every key of the small values. 2 is reserved for protocols that keep a promise per
/// instance (classic Paxos).
const META: u8 = 1;
/// The byte before every record's number (big endian, so that sled's order is ours). The log grows at its
/// end, so it comes last.
const LOG: u8 = 3;

/// How many times sled's lock is tried, 10 ms apart, while threads of the previous handle finish.
const LOCK_TRIES: u32 = 500;

/// How often a thread checks whether sled failed and someone waits in vain.
const WAKE_INTERVAL: Duration = Duration::from_millis(100);

/// A sled database in a folder.
///
/// Invariant: `data` was opened before sled wrote to the file, and is the same handle over all reopens.
pub struct SledEngine {
    folder: PathBuf,
    cache_bytes: u64,
    /// `None` after a failed reopen. No clone of the handle leaves this file.
    db: Arc<RwLock<Option<sled::Db>>>,
    data: DataFile,
    /// Whether small values were committed since the last sync.
    names_due: AtomicBool,
    waker: Waker,
}

impl SledEngine {
    /// Opens or creates a database in `folder`, with 0700 and 0600 whatever the umask.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<SledEngine, EngineError> {
        // Sled would make `blobs` open to all.
        folder::create_folder(&folder.join("blobs")).map_err(|error| outside(&error, folder))?;
        let path = folder.join("db");
        let file = folder::open_file(&path).map_err(|error| outside(&error, &path))?;
        let db = Arc::new(RwLock::new(None));
        let engine = SledEngine {
            folder: folder.to_path_buf(),
            cache_bytes,
            waker: Waker::start(db.clone()).map_err(|error| outside(&error, folder))?,
            db,
            data: DataFile { file, failing: AtomicBool::new(false) },
            names_due: AtomicBool::new(false),
        };
        remove_unfinished_conf(folder).map_err(|error| outside(&error, folder))?;
        engine.reopen()?;
        Ok(engine)
    }

    /// Makes every later fdatasync of the data file fail. This is a hook for tests.
    #[cfg(test)]
    pub fn fail_syncs(&self) {
        self.data.failing.store(true, Ordering::SeqCst);
    }

    fn open_sled(&self) -> Result<sled::Db, EngineError> {
        let config = sled::Config::new()
            .path(&self.folder)
            .cache_capacity(self.cache_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        for _ in 0..LOCK_TRIES {
            remove_unfinished_snapshots(&self.folder).map_err(|error| outside(&error, &self.folder))?;
            match caught(|| config.open())? {
                Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(self.judge(error)),
                Ok(db) => return Ok(db),
            }
        }
        Err(EngineError::Failed(format!(
            "{} stays locked by sled: another process has it open",
            self.folder.display()
        )))
    }

    /// Tells errors that may pass from those that may not.
    fn judge(&self, error: sled::Error) -> EngineError {
        match error {
            sled::Error::Io(error) if is_no_room(&error) => match self.data.sync() {
                Ok(()) => EngineError::NoRoom(words(&error)),
                Err(sync) => EngineError::Failed(format!("{}, and then fdatasync: {sync}", words(&error))),
            },
            error @ sled::Error::Corruption { .. } => damaged(&error.to_string()),
            error => EngineError::Failed(error.to_string()),
        }
    }

    /// Calls sled, with its panics and errors turned into ours.
    fn with<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, EngineError> {
        let db = self.db.read();
        let db = db.as_ref().ok_or(EngineError::Closed)?;
        caught(|| call(db))?.map_err(|error| self.judge(error))
    }

    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.with(|db| db.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Visits the values whose keys begin with `prefix`, which has at least one byte. The visitor sees what
    /// follows that byte.
    fn each(&self, prefix: &[u8], visit: &mut VisitValue<'_>) -> Result<(), EngineError> {
        self.with(|db| {
            for pair in db.scan_prefix(prefix) {
                let (key, value) = pair?;
                if visit(&key[1..], &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn record_keys_below(&self, number: u64) -> Result<Vec<sled::IVec>, EngineError> {
        if number == 0 {
            return Ok(vec![]);
        }
        self.with(|db| db.range(record_key(0)..record_key(number)).keys().collect())
    }
}

impl Journal for SledEngine {
    fn read(&self, number: u64) -> Result<Option<Bytes>, EngineError> {
        self.value(&record_key(number))
    }

    fn scan(&self, visit: &mut VisitRecord<'_>) -> Result<(), EngineError> {
        let mut odd = None;
        self.each(&[LOG], &mut |key, record| match key.try_into() {
            Ok(number) => visit(u64::from_be_bytes(number), record),
            Err(_) => {
                odd = Some(key.to_vec());
                ControlFlow::Break(())
            }
        })?;
        let damaged = |key: Vec<u8>| {
            EngineError::Damaged(format!("record \"{}\": its key is not a number", key.escape_ascii()))
        };
        odd.map_or(Ok(()), |key| Err(damaged(key)))
    }
}

impl Meta for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.value(&meta_key(key))
    }

    fn scan_prefix(&self, prefix: &[u8], visit: &mut VisitValue<'_>) -> Result<(), EngineError> {
        self.each(&meta_key(prefix), visit)
    }
}

impl Engine for SledEngine {
    fn commit(&self, commit: &Commit<'_>) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for key in self.record_keys_below(commit.delete_below)? {
            batch.remove(key);
        }
        for Put { key, value } in commit.meta {
            insert(&mut batch, &meta_key(key), value);
        }
        for (number, record) in commit.numbered() {
            insert(&mut batch, &record_key(number), record);
        }
        self.names_due.fetch_or(!commit.meta.is_empty(), Ordering::Relaxed);
        self.with(|db| db.apply_batch(batch))
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.with(|db| db.flush())?;
        self.data
            .sync()
            .map_err(|error| EngineError::Failed(format!("fdatasync of {}: {error}", self.path())))?;
        if self.names_due.swap(false, Ordering::Relaxed) {
            folder::sync_folder(&self.folder).map_err(|error| outside(&error, &self.folder))?;
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), EngineError> {
        let mut db = self.db.write();
        // A poisoned handle fails to flush when it is dropped, but sled only logs that.
        caught(AssertUnwindSafe(|| drop(db.take())))?;
        let opened = self.open_sled()?;
        folder::settle(&self.folder).map_err(|error| outside(&error, &self.folder))?;
        *db = Some(opened);
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, EngineError> {
        folder::free_bytes(&self.folder).map_err(|error| outside(&error, &self.folder))
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        self.waker.stop();
        // Sled panics if its last fsync fails. Everything that matters was synced before.
        if let Err(error) = caught(|| drop(self.db.write().take())) {
            log::error!("closing {}: {error}", self.path());
        }
    }
}

/// The thread that wakes the threads that sled leaves waiting after an error.
struct Waker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Waker {
    fn start(db: Arc<RwLock<Option<sled::Db>>>) -> io::Result<Waker> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = thread::Builder::new().name("sled-waker".into()).spawn({
            let stop = stop.clone();
            move || Waker::run(&db, &stop)
        })?;
        Ok(Waker { stop, thread: Some(thread) })
    }

    fn run(db: &RwLock<Option<sled::Db>>, (stop, bell): &(Mutex<bool>, Condvar)) {
        let mut stopped = stop.lock();
        while !*stopped {
            let _ = bell.wait_for(&mut stopped, WAKE_INTERVAL);
            // There is nothing to do while it is being reopened: then nobody waits in it.
            let Some(db) = db.try_read() else { continue };
            if let Some(db) = db.as_ref().filter(|db| db.context.global_error().is_err()) {
                let _ = caught(|| db.flush());
            }
        }
    }

    fn stop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that wakes sled panicked");
        }
    }
}

impl SledEngine {
    fn path(&self) -> std::path::Display<'_> {
        self.folder.display()
    }
}

/// Our handle to sled's data file, used for nothing but fdatasync.
struct DataFile {
    file: File,
    /// Only tests set this.
    failing: AtomicBool,
}

impl DataFile {
    fn sync(&self) -> io::Result<()> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(io::Error::other("a test made it fail"));
        }
        self.file.sync_data()
    }
}

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// For a panic hook: the exit code with which to end the process, or `None` for a panic of sled that is
/// caught and turned into an error. Nobody catches a panic on a thread of sled's own, and a thread that waits
/// for it would wait forever, so such a panic ends the node like a failure of the disk.
pub fn exit_code_of_panic() -> Option<u8> {
    if CAUGHT.get() {
        return None;
    }
    let is_of_sled = thread::current().name().is_some_and(|name| name.starts_with("sled-io"));
    Some(if is_of_sled { 3 } else { 4 })
}

/// Runs sled's code, and turns its panic into an error.
fn caught<T>(call: impl FnOnce() -> T) -> Result<T, EngineError> {
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(before);
    result.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        damaged(message)
    })
}

/// An error that sled remembers is of the right kind, but its text is the debug form of the one before it.
fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.kind().to_string(), |_| error.to_string())
}

/// What sled says of damage is about its own code, so only a debug line has it.
fn damaged(details: &str) -> EngineError {
    log::debug!("the storage engine says: {details}");
    EngineError::Damaged("what its database holds is not what was written".into())
}

fn meta_key(key: &[u8]) -> Vec<u8> {
    [&[META], key].concat()
}

fn record_key(number: u64) -> [u8; 9] {
    let mut key = [LOG; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn insert(batch: &mut sled::Batch, key: &[u8], value: &[u8]) {
    assert!(value.len() <= MAX_VALUE_BYTES, "a value of {} bytes", value.len());
    batch.insert(key, value);
}

/// An error of one of our own calls, outside of sled.
fn outside(error: &io::Error, path: &Path) -> EngineError {
    let message = format!("{}: {error}", path.display());
    if is_no_room(error) { EngineError::NoRoom(message) } else { EngineError::Failed(message) }
}

fn remove_unfinished_conf(folder: &Path) -> io::Result<()> {
    let conf = folder.join("conf");
    if fs::metadata(folder.join("db"))?.len() == 0 && conf.try_exists()? {
        fs::remove_file(conf)?;
    }
    Ok(())
}

fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}
