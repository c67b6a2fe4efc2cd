//! The rotated parts of a container's log, `PATH.TIME` or, compressed, `PATH.TIME.gz`: what lies before the live file.
//!
//! Upstream's kubelet reads the live file alone, so that `kubectl logs` loses the past with every rotation; here the past
//! is read as long as it is kept.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 64 << 10;

/// Where reading begins: the parts to read, oldest first, and how many lines of the first one to leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub parts: Vec<PathBuf>,
    pub skip_lines: u64,
}

/// The rotated parts beside `log`, oldest first; each part once, compressed or not. Pure.
pub(super) fn order(log: &Path, beside: &[String]) -> Vec<PathBuf> {
    let name = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let prefix = format!("{name}.");
    let dir = log.parent().unwrap_or(Path::new("/"));
    let mut times: Vec<&str> = beside
        .iter()
        .filter_map(|other| other.strip_prefix(&prefix))
        .filter(|time| !time.ends_with(".tmp"))
        .map(|time| time.strip_suffix(".gz").unwrap_or(time))
        .collect();
    // Names carry the time, so their order is their age.
    times.sort_unstable();
    times.dedup();
    times.into_iter().map(|time| dir.join(format!("{prefix}{time}"))).collect()
}

/// Which of the parts hold the `missing` lines before the live file (`None`: all), given how many lines each part has.
fn choose(mut parts: Vec<PathBuf>, missing: Option<u64>, lines: impl Fn(&Path) -> u64) -> History {
    let Some(mut missing) = missing else { return History { parts, skip_lines: 0 } };
    for at in (0..parts.len()).rev() {
        if missing == 0 {
            return History { parts: parts.split_off(at + 1), skip_lines: 0 };
        }
        let have = lines(&parts[at]);
        if have >= missing {
            return History { parts: parts.split_off(at), skip_lines: have - missing };
        }
        missing -= have;
    }
    History { parts, skip_lines: 0 }
}

/// Blocking. `live`: the inode that is read as the live file, whatever its name is by now. `since`: parts that ended before
/// it hold nothing that is asked for.
pub(super) fn find(log: &Path, live: u64, since: Option<Timestamp>, missing: Option<u64>) -> History {
    let entries = fs::read_dir(log.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
    let beside: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut parts = order(log, &beside);
    parts.retain(|part| {
        let Ok(metadata) = fs::metadata(part).or_else(|_| fs::metadata(compressed(part))) else { return false };
        let last = Timestamp::from_second(metadata.mtime() + 1).unwrap_or(Timestamp::MAX);
        metadata.ino() != live && since.is_none_or(|since| last >= since)
    });
    choose(parts, missing, count_lines)
}

fn compressed(part: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", part.display()))
}

/// A part, compressed or not: rotation may compress it at any moment.
fn open(part: &Path) -> io::Result<Box<dyn Read>> {
    match File::open(part) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Box::new(MultiGzDecoder::new(File::open(compressed(part))?)))
        }
        Err(error) => Err(error),
    }
}

/// A part that is gone, or damaged from some point on, has the lines before that.
fn count_lines(part: &Path) -> u64 {
    let mut lines = 0;
    let Ok(mut reader) = open(part) else { return 0 };
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    lines
}

/// The content of a part in chunks. A part that was deleted meanwhile is empty: it is too old to be kept.
pub(super) fn read(part: PathBuf) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut reader = match open(&part) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let chunk = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
                Err(error) => Err(error),
            };
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| Path::new("/l").join(name)).collect()
    }

    #[test]
    fn parts_are_read_oldest_first_and_once() {
        let beside = ["0.log.20260103-000000", "0.log", "0.log.20260101-000000.gz", "10.log.20260101-000000"]
            .into_iter()
            .chain(["0.log.20260102-000000.gz", "0.log.20260102-000000", "0.log.20260102-000000.tmp"]);
        let beside: Vec<String> = beside.map(str::to_owned).collect();
        let expect = ["0.log.20260101-000000", "0.log.20260102-000000", "0.log.20260103-000000"];
        assert_eq!(order(Path::new("/l/0.log"), &beside), paths(&expect));
    }

    #[test]
    fn tails_reach_into_parts_as_far_as_they_need() {
        // Ten lines each.
        for (missing, parts, skip) in [
            (None, vec!["a", "b", "c"], 0),
            (Some(0), vec![], 0),
            (Some(3), vec!["c"], 7),
            (Some(10), vec!["c"], 0),
            (Some(11), vec!["b", "c"], 9),
            (Some(30), vec!["a", "b", "c"], 0),
            (Some(99), vec!["a", "b", "c"], 0),
        ] {
            let history = choose(paths(&["a", "b", "c"]), missing, |_| 10);
            assert_eq!(history, History { parts: paths(&parts), skip_lines: skip }, "{missing:?}");
        }
    }
}
