//! The values of options of `spaxos sim`. Each error says what to give instead.

use std::ops::Range;
use std::time::Duration;

use crate::sim::{Class, FaultId, Faults};

/// The longest `--for`.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest run has no more faults of a class than this, since each takes a step.
const MAX_NUMBER: u64 = 10_000_000;

/// What goes wrong; `None`: a mix drawn from the seed.
#[derive(Clone, Debug)]
pub struct Wrong(pub Option<Faults>);

/// Faults of a class with consecutive numbers, such as `crash.3` or `crash.3-7`.
#[derive(Clone, Copy, Debug)]
pub struct Without {
    class: Class,
    first: u64,
    last: u64,
}

impl Without {
    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = FaultId> + use<> {
        let class = self.class;
        (self.first..=self.last).map(move |number| FaultId { class, number })
    }
}

/// `A..B`, without B.
pub fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    let example = "give the first seed and the one after the last, such as 0..1000";
    match parsed {
        None => Err(example.to_owned()),
        Some(Range { start, end }) if start >= end => Err(format!("there are no seeds in it: {example}")),
        Some(Range { end, .. }) if end > 1 << 63 => Err("seeds are below 2^63".to_owned()),
        Some(seeds) => Ok(seeds),
    }
}

/// `60s`, `10m`, `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    });
    parsed
        .filter(|duration| (Duration::from_secs(1)..=MAX_DURATION).contains(duration))
        .ok_or_else(|| "give seconds, minutes or hours, such as 60s, 10m or 2h; at most 720h".to_owned())
}

/// `mixed`, `none`, `field=number,…`, or a file.
pub fn faults(text: &str) -> Result<Wrong, String> {
    match text {
        "mixed" => Ok(Wrong(None)),
        "none" => Ok(Wrong(Some(Faults::none()))),
        _ if text.contains('=') => {
            let known = Faults::names();
            let unknown = text.split(',').map(|pair| pair.split('=').next().unwrap_or_default().trim());
            match unknown.into_iter().find(|name| !known.iter().any(|known| known == name)) {
                Some(name) => Err(format!("{name:?} is not a field; the fields are {}", known.join(", "))),
                None => Faults::parse(&text.replace(',', "\n")).map(|faults| Wrong(Some(faults))),
            }
        }
        path => {
            let hint = "give mixed, none, field=number,… or a file of such lines";
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read it as a file: {error}; {hint}"))?;
            Faults::parse(&text).map(|faults| Wrong(Some(faults)))
        }
    }
}

/// `crash.3` or `crash.3-7`.
pub fn without(text: &str) -> Result<Without, String> {
    let parse = |(class, numbers): (&str, &str)| {
        let class = Class::ALL.into_iter().find(|it| it.name() == class)?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Without { class, first: first.parse().ok()?, last: last.parse().ok()? })
    };
    let is_possible = |it: &Without| 1 <= it.first && it.first <= it.last && it.last <= MAX_NUMBER;
    text.split_once('.').and_then(parse).filter(is_possible).ok_or_else(|| {
        let classes: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
        format!(
            "name faults by class and number (1 to {MAX_NUMBER}), such as crash.3 or crash.3-7; the classes are {}",
            classes.join(", ")
        )
    })
}
