//! What signals do to a server, from the first moment of its start to its end.
//!
//! The signals are caught before anything else is done, even before the configuration is read: by default
//! SIGHUP and SIGUSR1 would end the process. (Until its first line of code runs nothing can be done about
//! that; a supervisor that cannot wait starts it with these signals ignored.) Before the node serves there
//! is no log file to open again and no status to write, so they do nothing; SIGINT and SIGTERM end the
//! process, which has served nothing and promised nothing.
//!
//! The thread never waits, whatever the disk does: a SIGTERM is always heard. An orderly end waits for the
//! disk, which may not answer. It has a time limit, after which the process ends without the disk. That is
//! safe, as kill -9 is: everything that was acknowledged is durable. (A thread that waits inside the kernel,
//! such as for a device that is gone, keeps the process from being gone, as it does after kill -9.)

use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{error, info};
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::client::front::Front;
use crate::logfile::LogControl;
use crate::node::{Ender, ExitCode as Code, StartError};

use super::output;

/// The thread that obeys signals.
#[derive(Clone)]
pub struct SignalThread(Arc<Mutex<Option<Served>>>);

/// What signals act on, once the node runs.
pub struct Served {
    ender: Ender,
    log: LogControl,
    front: Arc<dyn Front>,
    patience: Duration,
    /// To the thread that opens the log file again.
    reopen: SyncSender<()>,
}

impl SignalThread {
    /// Catches the signals from now on.
    pub fn start() -> Result<SignalThread, StartError> {
        let refused = |error| StartError::new(Code::Config, format!("cannot handle signals: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map_err(refused)?;
        let started = SignalThread(Arc::default());
        let thread = started.clone();
        let run = move || {
            let mut asked = false;
            for signal in signals.forever() {
                thread.obey(signal, &mut asked);
            }
        };
        thread::Builder::new().name("signals".into()).spawn(run).map_err(refused)?;
        Ok(started)
    }

    /// From now on the node runs.
    pub fn serve(&self, served: Served) {
        *self.0.lock() = Some(served);
    }

    /// Ends the node in order, as SIGTERM does.
    pub fn end(&self) {
        if let Some(served) = &*self.0.lock() {
            served.end();
        }
    }

    fn obey(&self, signal: i32, asked: &mut bool) {
        match (&*self.0.lock(), signal) {
            (None, SIGHUP | SIGUSR1) => {}
            (None, _) => {
                output::tell("ended by a signal before it served");
                exit(Code::Ok as i32);
            }
            // If one waits already, it has not begun: it sees what was moved by now.
            (Some(served), SIGHUP) => drop(served.reopen.try_send(())),
            (Some(served), SIGUSR1) => served.log_status(),
            (Some(_), _) if *asked => exit(128 + signal),
            (Some(served), _) => {
                *asked = true;
                served.end();
            }
        }
    }
}

impl Served {
    /// What ends the node, its log, its status, and the longest time that an orderly end may take.
    pub fn new(ender: Ender, log: LogControl, front: Arc<dyn Front>, patience: Duration) -> Served {
        Served { ender, reopen: start_reopening(log.clone()), log, front, patience }
    }

    /// Asks for an orderly end, and makes sure that there is one.
    fn end(&self) {
        self.ender.ask();
        let (ender, log, patience) = (self.ender.clone(), self.log.clone(), self.patience);
        spawn("last-wait", move || {
            thread::sleep(patience);
            error!(
                "the disk did not answer: this node could not end in order within {} ms; it waited for its thread \
                 {}. It ends now; everything that was acknowledged is durable",
                patience.as_millis(),
                ender.waits_for().unwrap_or("main")
            );
            log.flush();
            exit(Code::Disk as i32);
        });
    }

    fn log_status(&self) {
        for (section, lines) in self.front.status().lines() {
            let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            info!("status {section}: {}", lines.join(" "));
        }
    }
}

/// The log file is opened again on a thread of its own: somebody who writes to a disk that does not answer
/// may hold it.
fn start_reopening(log: LogControl) -> SyncSender<()> {
    let (reopen, asked) = sync_channel(1);
    spawn("log-reopen", move || {
        for () in asked {
            match log.reopen() {
                Ok(()) => info!("SIGHUP: the log file was opened again"),
                Err(error) => error!("SIGHUP: {error}; lines still go into the old file"),
            }
        }
    });
    reopen
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        error!("cannot start the {name} thread: {error}");
    }
}
