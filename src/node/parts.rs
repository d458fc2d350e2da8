//! What the builder has prepared and `wiring` puts together: plain data between the two.

use std::net::{SocketAddr, TcpListener};

use crate::application::Application;
use crate::config::Config;
use crate::logfile::{ChosenLog, Log};
use crate::store::{Recovered, Store};

use super::descriptors::Fit;
use super::items::ApplySender;
use super::peers_key::PeersKey;

/// The parts of a node whose data directory is open.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) peers_key: PeersKey,
    pub(super) application: Option<Box<dyn Application>>,
    pub(super) apply: Option<ApplySender>,
    /// Where clients connect, if there is a client port.
    pub(super) client: Option<SocketAddr>,
    /// How many clients there may be at a time.
    pub(super) clients: Fit,
    /// A socket that already listens for peers.
    pub(super) peer_listener: Option<TcpListener>,
    pub(super) store: Store,
    pub(super) recovered: Recovered,
    pub(super) log: Option<(Log, ChosenLog)>,
}
