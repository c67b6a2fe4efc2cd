//! Module documentation, lengths of files and functions, banned words: kept by ratchets that only go down.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// What may be longer, with its length: `FILE LINES` or `FILE FUNCTION LINES`. An entry may only shrink and go.
const ALLOWED: &str = include_str!("tidy.allow");

/// Not in production code: each with its reason.
const BANNED: [(&str, &str); 5] = [
    ("todo!(", "finish it or return a typed error"),
    ("unimplemented!(", "return a typed error"),
    ("dbg!(", "use tracing"),
    ("println!(\"DEBUG", "use tracing"),
    ("FIXME", "mend it or write it into docs/"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// All Rust sources of the workspace, with their path in the repository.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let short = path.strip_prefix(&root).expect("in the repository").to_string_lossy().into_owned();
                found.push((short, text));
            }
        }
    }
    found.sort();
    found
}

fn is_production(path: &str) -> bool {
    path.contains("/src/")
}

/// The part of a file before its unit tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn every_file_says_what_it_is_for() {
    let bare: Vec<String> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(bare.is_empty(), "these files do not open with a `//!` line: {bare:#?}");
}

#[test]
fn nothing_banned_is_written() {
    let mut found = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| is_production(path)) {
        for (word, instead) in BANNED {
            if text.contains(word) {
                found.push(format!("{path}: {word} ({instead})"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_test_is_ignored() {
    let marker = concat!("#[", "ignore");
    let ignored: Vec<String> =
        sources().into_iter().filter(|(_, text)| text.contains(marker)).map(|(path, _)| path).collect();
    assert!(ignored.is_empty(), "tests are run or not there: {ignored:#?}");
}

/// Everything that is too long, by its entry in the allow-list.
fn too_long() -> BTreeMap<String, usize> {
    let mut long = BTreeMap::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| is_production(path)) {
        let text = production(&text);
        let lines = text.lines().count();
        if lines > FILE_LINES {
            long.insert(path.clone(), lines);
        }
        for (name, lines) in functions(text) {
            if lines > FUNCTION_LINES {
                long.insert(format!("{path} {name}"), lines);
            }
        }
    }
    long
}

/// Functions with their lengths, by the indentation that rustfmt gives them.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(at) = trimmed.find("fn ") else { continue };
        let before = &trimmed[..at];
        let is_function = before.split_whitespace().all(|word| {
            matches!(word, "pub" | "async" | "const" | "unsafe") || word.starts_with("pub(") || word.ends_with(')')
        });
        if !is_function || trimmed.starts_with("//") {
            continue;
        }
        let indentation = line.len() - trimmed.len();
        let end = lines[start..].iter().position(|line| line.len() == indentation + 1 && line.ends_with('}'));
        let opens = lines[start..].iter().position(|line| line.ends_with('{') || line.ends_with(';'));
        let (Some(end), Some(opens)) = (end, opens) else { continue };
        if lines[start + opens].ends_with(';') || opens > end {
            continue;
        }
        let name: String = trimmed[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push((name, end + 1));
    }
    found
}

#[test]
fn files_and_functions_stay_short() {
    let allowed: BTreeMap<String, usize> = ALLOWED
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (entry, lines) = line.rsplit_once(' ').expect("an entry and a number");
            (entry.to_owned(), lines.parse().expect("a number"))
        })
        .collect();
    let long = too_long();
    let grown: Vec<String> = long
        .iter()
        .filter(|(entry, lines)| allowed.get(*entry).is_none_or(|allowed| *lines > allowed))
        .map(|(entry, lines)| format!("{entry} {lines}"))
        .collect();
    assert!(
        grown.is_empty(),
        "longer than {FILE_LINES} lines a file, {FUNCTION_LINES} a function, or than tidy.allow has it; cut it:\n{}",
        grown.join("\n")
    );
    let stale: Vec<String> = allowed
        .iter()
        .filter(|(entry, allowed)| long.get(*entry).is_none_or(|lines| lines < allowed))
        .map(|(entry, allowed)| format!("{entry} {allowed}"))
        .collect();
    assert!(stale.is_empty(), "shorter than tidy.allow has it; lower or remove the entry:\n{}", stale.join("\n"));
}

#[test]
fn a_long_function_is_seen() {
    let body = "        step();\n".repeat(80);
    let text =
        format!("impl X {{\n    pub(crate) async fn long(&self) {{\n{body}    }}\n\n    fn short() {{\n    }}\n}}\n");
    assert_eq!(functions(&text), [("long".to_owned(), 82), ("short".to_owned(), 2)]);
}
