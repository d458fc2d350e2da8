//! What is in a configuration file.

use std::path::Path;

use crate::config::{Config, ConfigError, MAX_CLUSTER_BYTES, MAX_PEERS};

/// A configuration is valid, or refused with the line and the column of what is wrong.
pub fn config(data: &[u8]) {
    // A file that is not UTF-8 is refused when it is read.
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("fuzz.toml")) {
        Ok(config) => check_valid(text, &config),
        Err(error) => check_error(text, &error),
    }
}

fn check_valid(text: &str, config: &Config) {
    let Config { timing, limits, .. } = config;
    assert!((1..=MAX_CLUSTER_BYTES).contains(&config.cluster.len()), "{config:?}");
    assert!((1..=MAX_PEERS).contains(&config.peers.len()), "{config:?}");
    assert!(config.node > 0 && config.peers.contains_key(&config.node), "{config:?}");
    assert!(timing.heartbeat_ms > 0 && 2 * timing.heartbeat_ms < timing.election_ms, "{timing:?}");
    assert!(limits.value_bytes > 0 && limits.window_entries > 0 && limits.clients > 0, "{limits:?}");
    let commented = format!("{text}\n# the end\n");
    let again = Config::parse(&commented, Path::new("fuzz.toml"));
    assert_eq!(again.ok().as_ref(), Some(config), "a comment changes the configuration");
}

fn check_error(text: &str, error: &ConfigError) {
    let ConfigError::Invalid { line, column, what, .. } = error else {
        panic!("no file was read, and yet: {error}");
    };
    // What is missing at the end may be reported with the place after the last line.
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(line), "line {line} of {lines}: {error}");
    let longest = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
    assert!((1..=longest + 1).contains(column), "column {column} of {longest} in line {line}: {error}");
    assert!(what.len() > 3 && what.len() < 4096 + text.len(), "{error}");
    assert!(error.to_string().starts_with(&format!("fuzz.toml:{line}:{column}: ")), "{error}");
}
