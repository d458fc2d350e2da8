//! How long functions and how wide comments are.

use super::source::{Source, blank, body, closing_brace};

/// The most lines of a function, from that of its `fn` to its closing brace.
pub const MAX_FUNCTION_LINES: usize = 76;

/// The most characters in a line of a comment; rustfmt.toml has the same for code.
pub const MAX_COMMENT_WIDTH: usize = 110;

/// Each function that is longer, in words.
pub fn long_functions(source: &Source) -> Vec<String> {
    let code = blank(&source.text);
    let mut long = Vec::new();
    for (start, word) in code.match_indices("fn ") {
        let after = &code[start + word.len()..];
        let is_word = code[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(body) = body(&code, start) else { continue };
        if is_word || name.is_empty() || code[body..].starts_with(';') {
            continue;
        }
        let end = closing_brace(&code, body);
        let lines = code[start..=end].lines().count();
        if lines > MAX_FUNCTION_LINES {
            long.push(format!("{}: {name} has {lines} lines", source.path.display()));
        }
    }
    long
}

/// Each line of a comment that is wider, in words. What cannot be broken may be: a row of a Markdown table,
/// and a line with a URL.
pub fn wide_comments(source: &Source) -> Vec<String> {
    let is_wide = |line: &&str| {
        let comment = line.trim_start();
        let words = comment.trim_start_matches(['/', '!']).trim_start();
        comment.starts_with("//")
            && line.chars().count() > MAX_COMMENT_WIDTH
            && !words.starts_with('|')
            && !words.contains("://")
    };
    let lines = source.text.lines().enumerate();
    let wide = lines.filter(|(_, line)| is_wide(line));
    wide.map(|(place, line)| format!("{}:{}: {line}", source.path.display(), place + 1)).collect()
}
