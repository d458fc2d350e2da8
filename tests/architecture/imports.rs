//! Which file imports which.
//!
//! A file imports the file of the deepest module that a path in it names, so that `super::Member` is the root
//! file of the module, and `crate::wire::frame::Frame` is `wire/frame.rs`. What is compiled for tests only
//! does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The files by their place, and which of them each imports.
pub struct Imports<'a> {
    modules: Vec<Vec<String>>,
    pub files: Vec<&'a Source>,
    pub of: Vec<BTreeSet<usize>>,
}

impl Imports<'_> {
    pub fn of(sources: &[Source]) -> Imports<'_> {
        let tests: BTreeSet<Vec<String>> = sources.iter().flat_map(test_files).collect();
        let is_code = |source: &&Source| !tests.contains(&source.module());
        let files: Vec<&Source> = sources.iter().filter(is_code).collect();
        let modules: Vec<Vec<String>> = files.iter().map(|file| file.module()).collect();
        let places: BTreeMap<&[String], usize> =
            modules.iter().enumerate().map(|(place, module)| (&module[..], place)).collect();
        let named =
            |path: &Vec<String>| (0..=path.len()).rev().find_map(|len| places.get(&path[..len]).copied());
        let of_file = |(place, file): (usize, &&Source)| {
            let imported = file.paths();
            imported.iter().filter_map(named).filter(|other| *other != place).collect()
        };
        let of = files.iter().enumerate().map(of_file).collect();
        Imports { modules, files, of }
    }

    /// All files that those of a layer import, directly or not, and the layer's own.
    pub fn reached_from(&self, layer: &str) -> Vec<&Source> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<usize> =
            (0..self.files.len()).filter(|place| self.files[*place].layer() == layer).collect();
        while let Some(file) = next.pop() {
            if reached.insert(file) {
                next.extend(&self.of[file]);
            }
        }
        reached.into_iter().map(|file| self.files[file]).collect()
    }

    /// Whether one is the root file of the module in which the other is.
    pub fn is_family(&self, one: usize, other: usize) -> bool {
        let is_root = |root: usize, child: usize| {
            self.modules[child].split_last().is_some_and(|(_, parent)| parent == self.modules[root])
        };
        is_root(one, other) || is_root(other, one)
    }
}

fn test_files(source: &Source) -> Vec<Vec<String>> {
    let module = source.module();
    source.test_modules().into_iter().map(|name| [module.clone(), vec![name]].concat()).collect()
}
