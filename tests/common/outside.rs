//! What is shared by tests that look at real processes, threads and sockets from outside. They wait for
//! conditions, never for times, and each has a loopback address of its own (127.x.y.z), so that clusters that
//! run at the same time, and whatever else the machine runs, never want the same port, even while a node is
//! down.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until there is something; panics with `what` when it does not come.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    wait_for(what, || done().then_some(()));
}

/// An address on which nobody listens at any of `ports`, and which no other test has.
pub fn own_address(ports: &[u16]) -> IpAddr {
    wait_for("a free loopback address", || {
        let [_, a, b, c] = getrandom::u32().unwrap().to_be_bytes();
        let address = Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254)).into();
        let is_free = |port: &u16| TcpListener::bind((address, *port)).is_ok();
        ports.iter().all(is_free).then_some(address)
    })
}
