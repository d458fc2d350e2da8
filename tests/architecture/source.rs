//! The files of this repository as the rules read them: their code without comments and strings, the module
//! that each one is, and the paths that it names.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file under `src/`, with its path from there.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// A part of `code` that is a module of its own.
struct Inline {
    range: Range<usize>,
    name: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: PathBuf::from(path), text: text.into() }
    }

    /// The name of its layer, or `lib`.
    pub fn layer(&self) -> &str {
        let first = self.path.components().next().unwrap().as_os_str();
        Path::new(first).file_stem().unwrap().to_str().unwrap()
    }

    /// The path of its module from the crate's root; empty for `lib.rs`.
    pub fn module(&self) -> Vec<String> {
        let words = self.path.with_extension("");
        let mut words: Vec<String> =
            words.iter().map(|word| word.to_str().expect("a path in UTF-8").into()).collect();
        if words.last().is_some_and(|last| last == "mod" || last == "lib") {
            words.pop();
        }
        words
    }

    /// Its code without comments, strings and tests, each replaced by spaces: lines and places stay the same.
    pub fn code(&self) -> String {
        without_tests(&blank(&self.text))
    }

    /// The names of the modules that are compiled for tests only and are files of their own.
    pub fn test_modules(&self) -> Vec<String> {
        let code = blank(&self.text);
        let items = test_items(&code).into_iter().map(|item| &code[item]);
        let declared = items.filter_map(|item| item.trim_end().strip_suffix(';')?.split_once("mod "));
        declared.map(|(_, name)| name.trim().to_owned()).collect()
    }

    /// Every path in its code that begins in this crate, from the crate's root: `crate::x::Y` and
    /// `super::Y`, one for each name in braces, and `child::Y` for a child that it declares.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let code = self.code();
        let inline = inline_modules(&code);
        let own = self.module();
        let module_at = |place: usize| {
            let around = inline.iter().filter(|module| module.range.contains(&place));
            let names = around.map(|module| module.name.clone());
            own.iter().cloned().chain(names).collect::<Vec<_>>()
        };
        let mut paths = Vec::new();
        let starts = ["crate", "spaxos", "self", "super"].map(str::to_owned);
        for start in starts.into_iter().chain(declared_children(&code)) {
            for (place, _) in code.match_indices(&format!("{start}::")) {
                let is_start = !code[..place].ends_with(|before: char| is_word(before) || before == ':');
                if is_start {
                    let module = module_at(place);
                    let ends = expand(&code[place..]);
                    paths.extend(ends.into_iter().map(|path| absolute(&module, path)));
                }
            }
        }
        paths
    }

    /// The paths in its code that begin with one of these, which are of other packages.
    pub fn outside_paths(&self, begins: &[&str]) -> Vec<String> {
        let code = self.code();
        let children = declared_children(&code);
        let packages = begins.iter().map(|begin| begin.split("::").next().unwrap_or(begin));
        let packages: BTreeSet<&str> =
            packages.filter(|name| !children.iter().any(|it| it == name)).collect();
        let mut paths = Vec::new();
        for package in packages {
            for (place, _) in code.match_indices(&format!("{package}::")) {
                if !code[..place].ends_with(|before: char| is_word(before) || before == ':') {
                    paths.extend(expand(&code[place..]).into_iter().map(|path| path.join("::")));
                }
            }
        }
        let is_within = |path: &str, begin: &str| {
            path.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        paths.retain(|path| begins.iter().any(|begin| is_within(path, begin)));
        paths
    }
}

/// `crate::…`, `super::…`, `self::…` or `child::…`, named in a module, from the crate's root.
fn absolute(module: &[String], path: Vec<String>) -> Vec<String> {
    let mut whole = module.to_vec();
    for word in path {
        match word.as_str() {
            "crate" | "spaxos" => whole.clear(),
            "self" => {}
            "super" => drop(whole.pop()),
            _ => whole.push(word),
        }
    }
    whole
}

/// `x::{a, b::c}` at the start of a text: the paths `x::a` and `x::b::c`.
fn expand(text: &str) -> Vec<Vec<String>> {
    let word: String = text.chars().take_while(|c| is_word(*c)).collect();
    let rest = &text[word.len()..];
    let ends = match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with('{') => group(rest).iter().flat_map(|part| expand(part)).collect(),
        Some(rest) if rest.starts_with(is_word) => expand(rest),
        _ => vec![Vec::new()],
    };
    ends.into_iter().map(|end| [vec![word.clone()], end].concat()).collect()
}

/// The parts of a group in braces, at the start of a text.
fn group(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 1);
    for (place, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            parts.push(text[start..place].trim());
            start = place + 1;
        }
        if depth == 0 {
            break;
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The names in `mod x;`.
fn declared_children(code: &str) -> Vec<String> {
    let after = code.match_indices("mod ").map(|(place, word)| &code[place + word.len()..]);
    let name = |text: &str| -> String { text.chars().take_while(|c| is_word(*c)).collect() };
    after
        .map(|text| (name(text), text))
        .filter(|(name, text)| text[name.len()..].starts_with(';'))
        .map(|(name, _)| name)
        .collect()
}

/// The modules in braces, the outer before the inner.
fn inline_modules(code: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    for (place, word) in code.match_indices("mod ") {
        if code[..place].ends_with(is_word) {
            continue;
        }
        let after = &code[place + word.len()..];
        let name: String = after.chars().take_while(|c| is_word(*c)).collect();
        let brace = place + word.len() + name.len() + 1;
        if after[name.len()..].starts_with(" {") {
            found.push(Inline { range: brace..closing_brace(code, brace), name });
        }
    }
    found
}

fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    for item in test_items(&code) {
        let spaces: String = code[item.clone()].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(item, &spaces);
    }
    code
}

/// What follows each `#[cfg(test)]`: to the `;` or the closing brace of the item.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let end = |start: usize| {
        let first = start + "#[cfg(test)]".len();
        let place = body(code, first).expect("an item follows an attribute");
        if code[place..].starts_with(';') { place + 1 } else { closing_brace(code, place) + 1 }
    };
    code.match_indices("#[cfg(test)]").map(|(start, _)| start..end(start)).collect()
}

/// Where the body of the item that begins at `start` opens, or the `;` of an item without one.
pub fn body(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0;
    let found = code[start..].char_indices().find(|(_, character)| {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(character, '{' | ';')
    });
    found.map(|(place, _)| start + place)
}

/// The place of the brace that closes the one at `open`.
pub fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (place, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return open + place,
            '}' => depth -= 1,
            _ => {}
        }
    }
    panic!("a brace is not closed:\n{}", code[open..].lines().next().unwrap_or_default());
}

/// The text with each character of a comment, a string or a character literal replaced by a space.
pub fn blank(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut place = 0;
    while place < characters.len() {
        let rest = &characters[place..];
        let skipped = skipped(rest, code.ends_with(is_word));
        if skipped == 0 {
            code.push(rest[0]);
            place += 1;
        } else {
            code.extend(rest[..skipped].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            place += skipped;
        }
    }
    code
}

/// How many characters at the start are a comment or a literal.
fn skipped(rest: &[char], in_word: bool) -> usize {
    let starts = |text: &str| text.chars().enumerate().all(|(place, c)| rest.get(place) == Some(&c));
    let until = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        (from..rest.len())
            .find(|place| rest[*place..].starts_with(&end))
            .map_or(rest.len(), |at| at + end.len())
    };
    if starts("//") {
        return rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
    }
    if starts("/*") {
        return until(2, "*/");
    }
    if !in_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let from = rest.iter().position(|c| *c == 'r').unwrap() + 1;
        let hashes = rest[from..].iter().take_while(|c| **c == '#').count();
        if rest.get(from + hashes) == Some(&'"') {
            return until(from + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    match rest {
        ['"', ..] => {
            let mut place = 1;
            while place < rest.len() && rest[place] != '"' {
                place += if rest[place] == '\\' { 2 } else { 1 };
            }
            (place + 1).min(rest.len())
        }
        ['\'', '\\', _, ..] => until(3, "'"),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// All files under `src/`. Those of the package in `src/core` are seen as the module `consensus`, which is
/// what the rest imports them as.
pub fn sources() -> Vec<Source> {
    let mut sources = files_under("src");
    assert!(sources.len() > 10, "the sources are found");
    for source in &mut sources {
        if let Ok(inner) = source.path.strip_prefix("core") {
            let inner = if inner == Path::new("lib.rs") { Path::new("mod.rs") } else { inner };
            source.path = Path::new("consensus").join(inner);
            source.text = source.text.replace("crate::", "crate::consensus::");
        }
    }
    sources
}

/// All Rust files under a folder of the repository, with their path from there.
pub fn files_under(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let mut folders = vec![base.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push(Source { path: path.strip_prefix(&base).unwrap().to_owned(), text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
