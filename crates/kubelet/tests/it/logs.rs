//! Container logs: selection, following over a rotation, and rotation itself.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt;
use jiff::Timestamp;
use kubelet::server::{
    logs::{
        LogOptions, LogSource,
        rotate::{RotationPolicy, rotate},
        stream,
    },
    uri::Query,
};
use net::Body;

use crate::stub_runtime::StubRuntime;

fn line(second: u32, stream: &str, tag: &str, text: &str) -> String {
    format!("2026-01-02T03:04:{second:02}.5Z {stream} {tag} {text}\n")
}

fn sample() -> String {
    [
        line(1, "stdout", "F", "one"),
        line(2, "stderr", "F", "two"),
        line(3, "stdout", "P", "thr"),
        line(3, "stdout", "F", "ee"),
        "not a log line\n".to_owned(),
        line(4, "stdout", "F", "four"),
    ]
    .concat()
}

fn options(query: &str) -> LogOptions {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
    LogOptions::from_query(&Query::parse(query), now).expect("options")
}

fn source(path: &Path, running: &Arc<AtomicBool>) -> LogSource {
    let running = running.clone();
    LogSource { path: path.to_owned(), running: Arc::new(move || running.load(Ordering::SeqCst)) }
}

async fn all(path: &Path, query: &str) -> String {
    let stopped = Arc::new(AtomicBool::new(false));
    let body = stream(source(path, &stopped), options(query)).await.expect("log");
    let bytes = body.collect().await.expect("body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn selects_what_was_asked_for() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("0.log");
    fs::write(&path, sample()).expect("log");
    for (query, expect) in [
        ("", "one\ntwo\nthree\nfour\n"),
        ("stream=Stderr", "two\n"),
        ("tailLines=1", "four\n"),
        ("tailLines=0", ""),
        ("tailLines=100", "one\ntwo\nthree\nfour\n"),
        ("limitBytes=6", "one\ntw"),
        ("sinceTime=2026-01-02T03:04:03Z", "three\nfour\n"),
        ("sinceSeconds=1", "four\n"),
        (
            "timestamps=true&sinceSeconds=2",
            "2026-01-02T03:04:03.500000000Z three\n2026-01-02T03:04:04.500000000Z four\n",
        ),
        ("follow=true&tailLines=1", "four\n"),
    ] {
        assert_eq!(all(&path, query).await, expect, "{query}");
    }
    // A last line that is still being written is shown as far as it is there.
    fs::write(&path, format!("{}2026-01-02T03:04:09Z stdout F unfin", line(1, "stdout", "F", "one"))).expect("log");
    assert_eq!(all(&path, "").await, "one\nunfin");
    let missing = dir.path().join("none");
    let gone = stream(source(&missing, &Arc::default()), options("")).await.expect_err("no such log");
    assert!(gone.to_string().starts_with("failed to open log file"), "{gone}");
}

#[tokio::test]
async fn long_tails_reach_over_blocks() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("0.log");
    let text: String = (0..2000).map(|number| line(number % 60, "stdout", "F", &format!("{number:05}"))).collect();
    fs::write(&path, text).expect("log");
    let tail = all(&path, "tailLines=1500").await;
    assert_eq!((tail.lines().count(), tail.lines().next(), tail.lines().last()), (1500, Some("00500"), Some("01999")));
}

async fn next(body: &mut Body) -> String {
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("something within 10 s");
    let data = frame.expect("a frame").expect("no error").into_data().expect("data");
    String::from_utf8(data.to_vec()).expect("text")
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("open");
    file.write_all(text.as_bytes()).expect("write");
}

#[tokio::test]
async fn follows_over_a_rotation_to_the_end_of_the_container() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("0.log");
    let running = Arc::new(AtomicBool::new(true));
    append(&path, &line(1, "stdout", "F", "before"));
    let mut body = stream(source(&path, &running), options("follow=true")).await.expect("log");
    assert_eq!(next(&mut body).await, "before\n");
    append(&path, &line(2, "stdout", "F", "written later"));
    assert_eq!(next(&mut body).await, "written later\n");
    // A line in two writes comes out once, whole.
    append(&path, "2026-01-02T03:04:03Z stdout F in tw");
    tokio::time::sleep(Duration::from_millis(50)).await;
    append(&path, "o parts\n");
    assert_eq!(next(&mut body).await, "in two parts\n");
    // As the rotation does it: renamed, still written for a moment, then made anew.
    let old = dir.path().join("0.log.20260102-030405");
    fs::rename(&path, &old).expect("rename");
    append(&old, &line(4, "stdout", "F", "last of the old"));
    append(&path, &line(5, "stdout", "F", "first of the new"));
    let mut seen = next(&mut body).await;
    if !seen.contains("new") {
        seen += &next(&mut body).await;
    }
    assert_eq!(seen, "last of the old\nfirst of the new\n");
    append(&path, &line(6, "stdout", "F", "goodbye"));
    running.store(false, Ordering::SeqCst);
    let rest = tokio::time::timeout(Duration::from_secs(10), body.collect()).await.expect("ends").expect("body");
    assert_eq!(rest.to_bytes(), "goodbye\n");
}

#[tokio::test]
async fn rotation_keeps_so_many_files_and_loses_no_line() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("0.log");
    let runtime = StubRuntime { logs: [("id".to_owned(), path.clone())].into(), ..StubRuntime::default() };
    let policy = RotationPolicy { max_bytes: 10, max_files: 3 };
    let now = |second: i64| Timestamp::from_second(1_767_323_045 + second).expect("time");
    for second in 0..4 {
        fs::write(&path, format!("content {second}, long enough")).expect("log");
        assert!(rotate(&runtime, "id", &path, &policy, now(second)).await.expect("rotation"));
    }
    let small = rotate(&runtime, "id", &path, &policy, now(9)).await.expect("small log");
    assert!(!small, "an empty log is left alone");
    let names = |dir: &Path| -> BTreeSet<String> {
        fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").file_name().into_string().expect("name")).collect()
    };
    let expect = ["0.log", "0.log.20260102-030407.gz", "0.log.20260102-030408"];
    assert_eq!(names(dir.path()), expect.map(String::from).into());
    assert_eq!(fs::read_to_string(dir.path().join(expect[2])).expect("newest"), "content 3, long enough");
    let mut text = String::new();
    let compressed = fs::File::open(dir.path().join(expect[1])).expect("compressed");
    flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, "content 2, long enough");

    // The runtime refuses: the file gets its name back.
    fs::write(&path, "content of a container that is gone").expect("log");
    rotate(&runtime, "other", &path, &policy, now(20)).await.expect_err("no such container");
    assert_eq!(fs::read_to_string(PathBuf::from(&path)).expect("log"), "content of a container that is gone");
}

#[tokio::test]
async fn what_was_rotated_is_still_read() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("0.log");
    let runtime = StubRuntime { logs: [("id".to_owned(), path.clone())].into(), ..StubRuntime::default() };
    let policy = RotationPolicy { max_bytes: 10, max_files: 5 };
    for part in 0..3 {
        let lines: String = (0..10).map(|at| line(part, "stdout", "F", &format!("{part}-{at}"))).collect();
        append(&path, &lines);
        let now = Timestamp::from_second(1_767_323_045 + i64::from(part)).expect("time");
        rotate(&runtime, "id", &path, &policy, now).await.expect("rotation");
    }
    append(&path, &line(9, "stdout", "F", "9-0"));
    assert!(dir.path().join("0.log.20260102-030406.gz").exists(), "older parts are compressed");

    let everything = all(&path, "").await;
    assert_eq!(everything.lines().count(), 31);
    assert!(everything.starts_with("0-0\n0-1\n") && everything.ends_with("2-9\n9-0\n"), "{everything}");
    assert_eq!(all(&path, "tailLines=2").await, "2-9\n9-0\n");
    let tail = all(&path, "tailLines=12").await;
    assert!(tail.starts_with("1-9\n2-0\n") && tail.lines().count() == 12, "{tail}");
    assert_eq!(all(&path, "sinceTime=2026-01-02T03:04:09Z").await, "9-0\n");

    let running = Arc::new(AtomicBool::new(true));
    let mut body = stream(source(&path, &running), options("follow=true&tailLines=11")).await.expect("log");
    let mut seen = String::new();
    while seen.lines().count() < 11 {
        seen += &next(&mut body).await;
    }
    assert!(seen.starts_with("2-0\n") && seen.ends_with("9-0\n"), "{seen}");
    append(&path, &line(10, "stdout", "F", "live"));
    assert_eq!(next(&mut body).await, "live\n");
}
