//! What processes and the machine have used, as `/proc` reports. Where there is no `/proc`, everything is 0.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Sums since the processes or the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU of the given processes, user and system.
    pub servers_cpu_s: f64,
    /// CPU of this process.
    pub client_cpu_s: f64,
    /// CPU that anybody used, interrupts included.
    pub machine_cpu_s: f64,
    /// What the given processes caused to be written to the disk.
    pub servers_written_bytes: u64,
}

impl Usage {
    /// Reads it now.
    pub fn now(pids: &[u32]) -> Usage {
        let ticks_s = rustix::param::clock_ticks_per_second() as f64;
        let cpu_s = |pid: &str| process_ticks(&read(pid, "stat")).unwrap_or(0) as f64 / ticks_s;
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        Usage {
            servers_cpu_s: pids.iter().map(|pid| cpu_s(&pid.to_string())).sum(),
            client_cpu_s: cpu_s("self"),
            machine_cpu_s: machine_ticks(&machine).unwrap_or(0) as f64 / ticks_s,
            servers_written_bytes: pids
                .iter()
                .filter_map(|pid| written_bytes(&read(&pid.to_string(), "io")))
                .sum(),
        }
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            servers_cpu_s: self.servers_cpu_s - earlier.servers_cpu_s,
            client_cpu_s: self.client_cpu_s - earlier.client_cpu_s,
            machine_cpu_s: self.machine_cpu_s - earlier.machine_cpu_s,
            servers_written_bytes: self.servers_written_bytes.saturating_sub(earlier.servers_written_bytes),
        }
    }

    /// CPU that neither the servers nor this process used.
    pub fn foreign_cpu_s(&self) -> f64 {
        self.machine_cpu_s - self.servers_cpu_s - self.client_cpu_s
    }
}

/// CPU that this thread has used, user and system.
pub fn thread_cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec as u32)
}

/// What a process holds in memory now, in MiB, rounded.
pub fn resident_mib(pid: u32) -> u64 {
    resident_kib(&read(&pid.to_string(), "status")).map_or(0, |kib| (kib + 512) / 1024)
}

fn read(pid: &str, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// `utime` and `stime` of a process. Its name, in parentheses, may hold spaces and parentheses.
fn process_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// User, nice, system, irq and softirq of all processors; idle, waiting and stolen time left out.
fn machine_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    [0, 1, 2, 5, 6].iter().map(|at| ticks.get(*at)).sum()
}

fn written_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's files are read as proc(5) describes them.
    #[test]
    fn reads_proc() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 4 0 1 2 3";
        assert_eq!(process_ticks(stat), Some(175));
        assert_eq!(machine_ticks("cpu  10 20 30 1000 500 1 2 99 0 0\ncpu0 1 2 3"), Some(63));
        assert_eq!(written_bytes("rchar: 1\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n"), Some(8192));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048));
    }

    /// Anything else yields nothing, never a panic.
    #[test]
    fn survives_nonsense() {
        for text in ["", "cpu ", "cpu x", "cpu 1 2", "1 (x", "1 (x) S", "VmRSS:", "write_bytes: -1"] {
            assert_eq!(process_ticks(text), None, "{text}");
            assert_eq!(machine_ticks(text), None, "{text}");
            assert_eq!(written_bytes(text), None, "{text}");
            assert_eq!(resident_kib(text), None, "{text}");
        }
    }
}
