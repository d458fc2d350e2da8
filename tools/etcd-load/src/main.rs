//! A closed loop of puts for etcd, the counterpart of `spaxos bench --json`: C workers with one request
//! outstanding each, over K HTTP/2 connections to the leader. One JSON line, with the same names.
//!
//! Single-threaded, as the load of `spaxos bench` is. Keys are random among `--keys` different ones, values
//! are the same kind of letters and digits.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use etcd_client::{Client, KvClient};
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

/// Load the leader of an etcd cluster with puts.
#[derive(Parser)]
struct Arguments {
    /// Client URLs of all nodes, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// C: puts outstanding at any time
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// K: connections that share them
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes of each value
    #[arg(long, default_value_t = 128)]
    value: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 6.0)]
    secs: f64,
    /// Seconds to warm up before
    #[arg(long, default_value_t = 1.5)]
    warm: f64,
    /// Different keys
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Process ids of the servers
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

/// What the workers write down.
struct Record {
    latencies_us: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let leader = tokio::time::timeout(Duration::from_secs(30), find_leader(&arguments.endpoints))
            .await
            .map_err(|_| "waited 30 s for a leader that all nodes name, in vain")?;
        measure(&arguments, &leader).await
    })
}

/// The client URL of the node that every node names as leader.
async fn find_leader(endpoints: &[String]) -> String {
    loop {
        if let Some(leader) = named_leader(endpoints).await {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn named_leader(endpoints: &[String]) -> Option<String> {
    let mut members = Vec::new();
    let mut leaders = Vec::new();
    for endpoint in endpoints {
        let mut client = Client::connect([endpoint.clone()], None).await.ok()?;
        let status = client.status().await.ok()?;
        members.push(status.header()?.member_id());
        leaders.push(status.leader());
    }
    let first = *leaders.first().filter(|leader| **leader != 0)?;
    let position = members.iter().position(|member| *member == first)?;
    leaders.iter().all(|leader| *leader == first).then(|| endpoints[position].clone())
}

async fn measure(arguments: &Arguments, leader: &str) -> Result<(), Box<dyn Error>> {
    let mut connections = Vec::new();
    for _ in 0..arguments.connections.clamp(1, arguments.clients.max(1)) {
        connections.push(Client::connect([leader.to_string()], None).await?.kv_client());
    }
    let latencies_us = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let record = Rc::new(RefCell::new(Record { latencies_us, errors: 0, first_error: None }));
    let start = Instant::now() + Duration::from_secs_f64(arguments.warm);
    let stop = start + Duration::from_secs_f64(arguments.secs);
    for worker in 0..arguments.clients {
        let connection = connections[worker % connections.len()].clone();
        let seed = 0x9E37_79B9_7F4A_7C15 ^ ((worker as u64 + 1) << 20);
        let (value, keys) = (noise(arguments.value, seed), arguments.keys);
        tokio::task::spawn_local(work(connection, value, keys, seed, start, stop, record.clone()));
    }
    sleep_until(start).await;
    let before = Usage::now(&arguments.pids);
    sleep_until(stop).await;
    let used = Usage::now(&arguments.pids).since(&before);
    let record = record.borrow();
    if let Some(first) = &record.first_error {
        eprintln!("{} errors; the first: {first}", record.errors);
    }
    print_row(arguments, &record, &used);
    Ok(())
}

async fn work(
    mut connection: KvClient,
    value: Vec<u8>,
    keys: u64,
    mut random: u64,
    start: Instant,
    stop: Instant,
    record: Rc<RefCell<Record>>,
) {
    while Instant::now() < stop {
        let key = format!("k{:011}", next(&mut random) % keys.max(1));
        let sent = Instant::now();
        let result = connection.put(key, value.clone(), None).await;
        let now = Instant::now();
        let mut record = record.borrow_mut();
        match result {
            Ok(_) if sent >= start && now <= stop => {
                let us = (now - sent).as_micros().try_into().unwrap_or(u64::MAX).max(1);
                record.latencies_us.saturating_record(us);
            }
            Ok(_) => {}
            Err(error) => {
                record.errors += 1;
                record.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

fn print_row(arguments: &Arguments, record: &Record, used: &Usage) {
    let latencies = &record.latencies_us;
    let operations = latencies.len().max(1) as f64;
    let quantile = |quantile| latencies.value_at_quantile(quantile);
    let resident: Vec<String> = arguments.pids.iter().map(|pid| resident_mib(*pid).to_string()).collect();
    println!(
        "{{\"label\":\"etcd-{}\",\"op\":\"put\",\"nodes\":{},\"c\":{},\"conns\":{},\"value\":{},\"secs\":{},\
         \"ops_s\":{:.0},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{},\"errors\":{},\
         \"srv_cpu_s\":{:.2},\"srv_cpu_us_op\":{:.2},\"cli_cpu_s\":{:.2},\"foreign_cpu_s\":{:.2},\
         \"srv_rss_mib\":[{}],\"srv_written_bytes_op\":{:.0}}}",
        arguments.endpoints.len(),
        arguments.endpoints.len(),
        arguments.clients,
        arguments.connections,
        arguments.value,
        arguments.secs,
        latencies.len() as f64 / arguments.secs,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        latencies.max(),
        record.errors,
        used.servers_cpu_s,
        used.servers_cpu_s * 1e6 / operations,
        used.client_cpu_s,
        used.machine_cpu_s - used.servers_cpu_s - used.client_cpu_s,
        resident.join(","),
        used.written_bytes / operations,
    );
}

/// Letters and digits that do not compress.
fn noise(length: usize, mut random: u64) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..length).map(|_| ALPHABET[(next(&mut random) >> 32) as usize % 64]).collect()
}

/// Xorshift; `state` is not 0.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Sums since the processes or the machine started, as `/proc` reports (100 ticks a second).
struct Usage {
    servers_cpu_s: f64,
    client_cpu_s: f64,
    machine_cpu_s: f64,
    written_bytes: f64,
}

impl Usage {
    fn now(pids: &[u32]) -> Usage {
        let cpu_s = |pid: &str| {
            let stat = read(&format!("{pid}/stat"));
            let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
            fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
        };
        let machine = read("stat");
        let ticks: Vec<f64> =
            machine.split_whitespace().skip(1).take(7).filter_map(|field| field.parse().ok()).collect();
        Usage {
            servers_cpu_s: pids.iter().map(|pid| cpu_s(&pid.to_string())).sum(),
            client_cpu_s: cpu_s("self"),
            machine_cpu_s: [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / 100.0,
            written_bytes: pids.iter().map(|pid| number(&read(&format!("{pid}/io")), "write_bytes:")).sum(),
        }
    }

    fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            servers_cpu_s: self.servers_cpu_s - earlier.servers_cpu_s,
            client_cpu_s: self.client_cpu_s - earlier.client_cpu_s,
            machine_cpu_s: self.machine_cpu_s - earlier.machine_cpu_s,
            written_bytes: self.written_bytes - earlier.written_bytes,
        }
    }
}

fn resident_mib(pid: u32) -> u64 {
    (number(&read(&format!("{pid}/status")), "VmRSS:") / 1024.0).round() as u64
}

/// The number after a key at the beginning of a line; 0 if it is not there.
fn number(text: &str, key: &str) -> f64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    rest.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default()
}
