//! What the server publishes of its API, held against what Kubernetes 1.36 publishes. Upstream's side is a digest of facts
//! under `upstream/`; every difference stands in `upstream/differences.txt` with its reason, and that list may only shrink.

mod digest;

use std::collections::{BTreeMap, BTreeSet};

use api::{ResourceTable, discovery, openapi};
use serde_json::Value;

use digest::Digest;

/// Differences that as many entries share are counted, not listed.
const LISTED_MAX: usize = 6;

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Everything there is, whatever is served by default.
fn published() -> (Value, BTreeMap<String, Value>) {
    let table = ResourceTable::builtin();
    let third = openapi::v3_keys(table).into_iter().map(|key| {
        let document = openapi::v3(table, &key).expect("a document for each key");
        (format!("openapi/v3/{key}"), parse(&document))
    });
    (parse(&openapi::v2(table)), third.collect())
}

/// Differences as lines: `-` what upstream has and this server does not, `+` the other way round, `~` a text that is another.
fn differences(upstream: &Digest, ours: &Digest) -> BTreeSet<String> {
    let mut words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut lines = BTreeSet::new();
    let is_known = |digest: &Digest, entry: &str| {
        entry.split_once(' ').is_none_or(|(parent, _)| !digest.contains_key(parent)) || digest.contains_key(entry)
    };
    let entries: BTreeSet<&String> = upstream.keys().chain(ours.keys()).collect();
    for entry in entries {
        match (upstream.get(entry), ours.get(entry)) {
            // Below one that is missing itself, nothing more is said.
            (Some(_), None) if is_known(ours, entry) && entry.contains(' ') => {}
            (None, Some(_)) if is_known(upstream, entry) && entry.contains(' ') => {}
            (Some(_), None) => drop(lines.insert(format!("-{entry}"))),
            (None, Some(_)) => drop(lines.insert(format!("+{entry}"))),
            (Some(theirs), Some(own)) => {
                let is_text = |word: &&String| word.starts_with("t=");
                let has_other_text =
                    theirs != own && theirs.iter().any(|w| is_text(&w)) && own.iter().any(|w| is_text(&w));
                for (sign, word) in
                    theirs.difference(own).map(|word| ('-', word)).chain(own.difference(theirs).map(|word| ('+', word)))
                {
                    let change = match (is_text(&word), has_other_text) {
                        (true, true) => "~text".to_owned(),
                        (true, false) => format!("{sign}text"),
                        _ => format!("{sign}{word}"),
                    };
                    let places = words.entry(change).or_default();
                    if places.last() != Some(&entry.as_str()) {
                        places.push(entry);
                    }
                }
            }
            (None, None) => {}
        }
    }
    for (change, entries) in words {
        if entries.len() > LISTED_MAX {
            lines.insert(format!("{change} in {} entries", entries.len()));
        } else {
            lines.extend(entries.into_iter().map(|entry| format!("{change} in {entry}")));
        }
    }
    lines
}

/// Upstream's operations: `PATH METHOD`, beside the paths.
pub fn operations() -> Digest {
    digest::read(include_str!("upstream/operations.txt"))
}

/// The lines `WHAT | WHY` of the list of differences that are below the heading `[name]`.
pub fn allowed(name: &str) -> BTreeSet<String> {
    let list = include_str!("upstream/differences.txt");
    let heading = format!("[{name}]");
    let lines = list.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with('['));
    let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let what = |line: &str| match line.split_once(" | ") {
        Some((what, why)) if !why.trim().is_empty() => what.to_owned(),
        _ => panic!("{line:?} gives no reason"),
    };
    entries.map(what).collect()
}

#[track_caller]
pub fn assert_listed(found: &BTreeSet<String>, allowed: &BTreeSet<String>) {
    let lines = |of: &BTreeSet<String>, but: &BTreeSet<String>| -> String {
        of.difference(but).map(|line| format!("  {line}\n")).collect()
    };
    let (new, gone) = (lines(found, allowed), lines(allowed, found));
    assert!(new.is_empty() && gone.is_empty(), "not listed:\n{new}listed, but gone (take it off):\n{gone}");
}

#[track_caller]
fn check(name: &str, upstream: &str, ours: &Digest) {
    let found = differences(&digest::read(upstream), ours);
    assert_listed(&found, &allowed(name));
}

/// What documents of both versions say.
fn of_both(read: impl Fn(&[Value]) -> Digest) -> Digest {
    let (second, third) = published();
    let third: Vec<Value> = third.into_values().collect();
    digest::merge(("v2", read(&[second])), ("v3", read(&third)))
}

#[test]
fn openapi_operations_are_upstreams() {
    check("operations", include_str!("upstream/operations.txt"), &of_both(digest::operations));
}

#[test]
fn openapi_types_are_upstreams() {
    check("definitions", include_str!("upstream/definitions.txt"), &of_both(digest::definitions));
}

#[test]
fn openapi_documents_are_divided_as_upstreams() {
    let (second, third) = published();
    let documents: Vec<(String, Value)> = third.into_iter().chain([("openapi/v2".to_owned(), second)]).collect();
    check("documents", include_str!("upstream/documents.txt"), &digest::envelope(&documents));
}

#[test]
fn discovery_is_upstreams() {
    let table = ResourceTable::builtin();
    let mut documents = vec![
        ("/api".to_owned(), discovery::core_versions(table, "10.10.10.10:8050")),
        ("/apis".to_owned(), discovery::groups(table)),
    ];
    for group in &table.groups {
        let base = if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
        documents.extend(discovery::group(table, &group.name).map(|document| (base.clone(), document)));
        for version in &group.versions {
            let document = discovery::resources(table, &group.name, &version.name).expect("a version");
            documents.push((format!("{base}/{}", version.name), document));
        }
    }
    let classic: Vec<(String, Value)> =
        documents.into_iter().map(|(path, document)| (path, parse(&document.to_json()))).collect();
    let aggregated = digest::aggregated(&parse(&discovery::aggregated(table, false).to_json()));
    let ours = digest::merge(("classic", digest::classic(&classic)), ("aggregated", aggregated));
    check("discovery", include_str!("upstream/discovery.txt"), &ours);
}

#[test]
fn differences_are_found_and_shared_ones_counted() {
    let upstream = digest::read("$list query:a query:b\n/x\n get $list id=getX t=1\n put id=putX\n/y z\n");
    let ours = digest::read("/x\n get query:a id=getX t=2\n post id=postX\n/z z\n");
    let found: Vec<String> = differences(&upstream, &ours).into_iter().collect();
    assert_eq!(found, ["+/x post", "+/z", "-/x put", "-/y", "-query:b in /x get", "~text in /x get"]);
    let many: Digest = (0..9).map(|n| (format!("/{n}"), ["a".to_owned()].into())).collect();
    let none: Digest = (0..9).map(|n| (format!("/{n}"), BTreeSet::new())).collect();
    assert_eq!(differences(&many, &none).into_iter().collect::<Vec<_>>(), ["-a in 9 entries"]);
}
