//! A disk that fails as told: the memory engine, and beside it what a real one does around a failure. A write
//! that failed may be there after all once the store is opened again, and opening may itself fail for a while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use spaxos::store::engine::{Engine, EngineError, Op, Space, Visit};
use spaxos::store::memory::MemoryEngine;

/// What becomes of the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room, and nothing of it is on the disk.
    NoRoom,
    /// No room is left when it is to be flushed: it may be found on the disk later (`true`) or not.
    NoRoomAtFlush(bool),
    /// The power goes while it is flushed: it is on the disk (`true`) or not.
    PowerCut(bool),
}

#[derive(Default)]
pub struct Disk {
    memory: MemoryEngine,
    /// How many writes that were never synced are on the disk when it is looked at next.
    kept: AtomicUsize,
    /// The next reopen fails for want of room.
    refuse_reopen: AtomicBool,
    /// Since a failed reopen, until one succeeds.
    closed: AtomicBool,
}

impl Disk {
    /// The next write fails; to be called only when there is one.
    pub fn fail(&self, fault: Fault) {
        let full = || EngineError::NoRoom("a full disk".into());
        match fault {
            Fault::NoRoom => self.memory.fail_next(full()),
            Fault::NoRoomAtFlush(_) => self.memory.fail_sync(full()),
            Fault::PowerCut(_) => self.memory.fail_sync(EngineError::Failed("a power cut".into())),
        }
        let kept = matches!(fault, Fault::NoRoomAtFlush(true) | Fault::PowerCut(true));
        self.kept.store(usize::from(kept), Ordering::Relaxed);
    }

    /// The next reopen fails for want of room.
    pub fn refuse_reopen(&self) {
        self.refuse_reopen.store(true, Ordering::Relaxed);
    }

    /// The process is gone, or the machine: what is there next is what was synced, and the write that was under
    /// way as its fault said.
    pub fn power_cut(&self) {
        self.refuse_reopen.store(false, Ordering::Relaxed);
        let reopened = self.reopen();
        assert_eq!(reopened, Ok(()), "memory opens");
    }

    fn check(&self) -> Result<(), EngineError> {
        match self.closed.load(Ordering::Relaxed) {
            true => Err(EngineError::Closed),
            false => Ok(()),
        }
    }
}

impl Engine for Disk {
    fn scan(&self, space: Space, from: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.check()?;
        self.memory.scan(space, from, visit)
    }

    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.check()?;
        self.memory.read(space, key)
    }

    fn put_atomic(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        self.check()?;
        self.memory.put_atomic(ops)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.check()?;
        self.memory.sync()
    }

    fn reopen(&self) -> Result<(), EngineError> {
        if self.refuse_reopen.swap(false, Ordering::Relaxed) {
            self.closed.store(true, Ordering::Relaxed);
            return Err(EngineError::NoRoom("a full disk".into()));
        }
        self.closed.store(false, Ordering::Relaxed);
        self.memory.crash(self.kept.swap(0, Ordering::Relaxed));
        self.memory.reopen()
    }

    fn free_bytes(&self) -> Result<u64, EngineError> {
        Ok(u64::MAX)
    }
}
