//! The atomic writer: upstream's layout, updates, removals, and what it refuses.

use std::fs;

use jiff::Timestamp;
use volumes::{
    atomic::{PayloadError, Written, validate, write},
    payload::{File, Payload},
};

use crate::support::{access, names, read};

fn payload(files: &[(&str, &str)]) -> Payload {
    files.iter().map(|(path, data)| ((*path).to_owned(), File::new(*data, 0o640))).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("time")
}

#[test]
fn writes_upstreams_layout_and_swaps_it() {
    let dir = tempfile::tempdir().expect("directory");
    let (first, second) = (time("2026-11-22T22:05:11.5Z"), time("2026-11-22T22:05:12Z"));
    let written = write(dir.path(), &payload(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]), None, first);
    assert_eq!(written.expect("first write"), Written::Changed);
    let stamp = "..2026_11_22_22_05_11.500000000";
    assert_eq!(names(dir.path()), [stamp, "..data", "a", "d"]);
    let link = |name: &str| fs::read_link(dir.path().join(name)).expect("link").display().to_string();
    assert_eq!([link("..data"), link("a"), link("d")], [stamp, "..data/a", "..data/d"]);
    assert_eq!(access(dir.path().join("a")), "640 0:0");

    let same = write(dir.path(), &payload(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]), None, second);
    assert_eq!(same.expect("same content"), Written::Same);
    assert_eq!(link("..data"), stamp, "an unchanged volume keeps its directory");

    // A reader that opened the old directory keeps a consistent view until it opens again.
    let old = fs::File::open(dir.path().join("a")).expect("open");
    let changed = write(dir.path(), &payload(&[("a", "new"), ("h", "4")]), None, second);
    assert_eq!(changed.expect("update"), Written::Changed);
    assert_eq!(names(dir.path()), ["..2026_11_22_22_05_12.000000000", "..data", "a", "h"]);
    assert_eq!(std::io::read_to_string(old).expect("old content"), "1");
    assert_eq!([read(dir.path().join("a")), read(dir.path().join("h"))], ["new", "4"]);
}

#[test]
fn repairs_links_lost_in_a_crash_and_ignores_a_leftover_one() {
    let dir = tempfile::tempdir().expect("directory");
    let content = payload(&[("a", "1")]);
    write(dir.path(), &content, None, time("2026-01-01T00:00:00Z")).expect("write");
    fs::remove_file(dir.path().join("a")).expect("remove");
    std::os::unix::fs::symlink("nowhere", dir.path().join("..data_tmp")).expect("leftover");
    assert_eq!(write(dir.path(), &content, None, time("2026-01-01T00:00:01Z")).expect("repair"), Written::Same);
    assert_eq!(read(dir.path().join("a")), "1");
    let changed = write(dir.path(), &payload(&[("a", "2")]), None, time("2026-01-01T00:00:00Z"));
    assert_eq!(changed.expect("same second"), Written::Changed);
    assert_eq!(names(dir.path()), ["..2026_01_01_00_00_00.000000001", "..data", "a"]);
}

#[test]
fn refuses_paths_that_lead_out_or_hide() {
    let long = "x".repeat(256);
    let longer = "x/".repeat(2049);
    for (path, expect) in [
        ("", PayloadError::Empty),
        (".", PayloadError::Empty),
        ("/etc/passwd", PayloadError::Absolute("/etc/passwd".into())),
        ("a/../../b", PayloadError::Parent("a/../../b".into())),
        ("..data", PayloadError::Dots("..data".into())),
        ("..2026/x", PayloadError::Dots("..2026/x".into())),
        (&long, PayloadError::LongName),
        (&longer, PayloadError::Long),
    ] {
        assert_eq!(validate(&payload(&[(path, "")])).err(), Some(expect), "{path:?}");
    }
    for path in [".hidden", "a..b", "a/..b"] {
        assert!(validate(&payload(&[(path, "")])).is_ok(), "{path:?}");
    }
}
