//! Circles between files: one imports another that, directly or by way of others, imports the first.
//!
//! A module's root file (`x.rs` or `x/mod.rs`) and each file directly in `x/` may import each other: the root
//! declares its children, and they may share what it defines. That is all they may do. A circle that goes
//! through a root and needs a third file counts like any other: if one child reaches the other by way of
//! their root, and the other imports it directly, that is a circle; so is a child that leaves the module and
//! comes back through its root.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::Imports;
use super::source::Source;

/// Each circle, as the files on the shortest way round.
pub fn circles(sources: &[Source]) -> Vec<String> {
    let imports = Imports::of(sources);
    let mut found = BTreeSet::new();
    for from in 0..imports.files.len() {
        for to in &imports.of[from] {
            if let Some(circle) = imports.way(*to, from) {
                found.insert(first_first(circle));
            }
        }
    }
    let names = |circle: &Vec<usize>| {
        circle.iter().map(|file| imports.files[*file].path.to_str().unwrap()).collect::<Vec<_>>()
    };
    let circles = found.iter().map(names);
    circles.map(|circle| circle.join(" -> ")).collect()
}

impl Imports<'_> {
    /// The shortest path of imports, both ends included; the direct one between a root and its child does not
    /// count.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let is_direct = |one, other| (one, other) == (from, to) && self.is_family(from, to);
        let mut before = BTreeMap::from([(from, from)]);
        let mut next = VecDeque::from([from]);
        while let Some(file) = next.pop_front() {
            for other in &self.of[file] {
                if !before.contains_key(other) && !is_direct(file, *other) {
                    before.insert(*other, file);
                    next.push_back(*other);
                }
            }
        }
        let mut way = vec![to];
        while *way.last()? != from {
            way.push(*before.get(way.last()?)?);
        }
        way.reverse();
        Some(way)
    }
}

/// The same circle, beginning with its first file in the order of paths.
fn first_first(mut circle: Vec<usize>) -> Vec<usize> {
    let first = (0..circle.len()).min_by_key(|place| circle[*place]).unwrap_or(0);
    circle.rotate_left(first);
    circle
}
