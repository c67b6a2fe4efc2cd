//! Keeps container logs small (upstream `pkg/kubelet/logs/container_log_manager.go`): a log over `containerLogMaxSize` is
//! renamed and the runtime reopens it; older ones are compressed, and at most `containerLogMaxFiles` are kept.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use crate::cri::{Runtime, RuntimeError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    pub max_bytes: u64,
    /// The live one counts too; at least 2.
    pub max_files: usize,
}

impl Default for RotationPolicy {
    fn default() -> Self {
        RotationPolicy { max_bytes: 10 << 20, max_files: 5 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotateOp {
    Remove(PathBuf),
    /// To the same path with `.gz`; the original goes.
    Compress(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// The runtime makes the log anew at its path.
    Reopen,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("failed to {operation} log {path:?}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to reopen log of container {container}: {source}")]
    Reopen { container: String, source: RuntimeError },
    #[error("log rotation was interrupted")]
    Interrupted,
}

/// What to do about the log at `log`, `None` bytes where it is missing. `beside` are the names in its directory. Pure.
pub fn plan(
    log: &Path,
    bytes: Option<u64>,
    beside: &BTreeSet<String>,
    policy: &RotationPolicy,
    now: Timestamp,
) -> Vec<RotateOp> {
    let Some(bytes) = bytes else {
        return vec![RotateOp::Reopen];
    };
    if bytes < policy.max_bytes {
        return Vec::new();
    }
    let name = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dir = log.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{name}.");
    let mut ops = Vec::new();
    let mut rotated = Vec::new();
    for other in beside.iter().filter(|other| other.starts_with(&prefix)) {
        // Left over from a compression that was cut short, or done already.
        if other.ends_with(".tmp") || beside.contains(&format!("{other}.gz")) {
            ops.push(RotateOp::Remove(dir.join(other)));
        } else {
            rotated.push(other);
        }
    }
    // Names carry the time, so their order is their age. Room for the live log and the one about to be renamed.
    let keep = policy.max_files.saturating_sub(2);
    let excess = rotated.len().saturating_sub(keep);
    ops.extend(rotated[..excess].iter().map(|other| RotateOp::Remove(dir.join(other))));
    let kept = rotated[excess..].iter().filter(|other| !other.ends_with(".gz"));
    ops.extend(kept.map(|other| RotateOp::Compress(dir.join(other))));
    let to = dir.join(format!("{name}.{}", now.strftime("%Y%m%d-%H%M%S")));
    ops.push(RotateOp::Rename { from: log.to_owned(), to });
    ops.push(RotateOp::Reopen);
    ops
}

/// Looks at one running container's log and rotates it where it is due. Answers whether it did.
pub async fn rotate(
    runtime: &dyn Runtime,
    container: &str,
    log: &Path,
    policy: &RotationPolicy,
    now: Timestamp,
) -> Result<bool, RotateError> {
    let (path, policy) = (log.to_owned(), *policy);
    let prepare = move || -> Result<(bool, Option<(PathBuf, PathBuf)>), RotateError> {
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(RotateError::Io { operation: "stat", path, source });
            }
        };
        let entries = fs::read_dir(path.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten();
        let beside = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let ops = plan(&path, bytes, &beside, &policy, now);
        let mut renamed = None;
        for op in &ops {
            carry_out(op)?;
            if let RotateOp::Rename { from, to } = op {
                renamed = Some((from.clone(), to.clone()));
            }
        }
        Ok((ops.contains(&RotateOp::Reopen), renamed))
    };
    let (reopen, renamed) = tokio::task::spawn_blocking(prepare).await.map_err(|_| RotateError::Interrupted)??;
    if !reopen {
        return Ok(false);
    }
    if let Err(source) = runtime.reopen_container_log(container).await {
        // The runtime still writes the old file: give it its name back, so that readers find it.
        if let Some((from, to)) = renamed {
            fs::rename(&to, &from).map_err(|source| RotateError::Io { operation: "restore", path: from, source })?;
        }
        return Err(RotateError::Reopen { container: container.to_owned(), source });
    }
    Ok(true)
}

fn carry_out(op: &RotateOp) -> Result<(), RotateError> {
    let failed = |operation: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| RotateError::Io { operation, path, source }
    };
    match op {
        RotateOp::Remove(path) => fs::remove_file(path).map_err(failed("remove", path)),
        RotateOp::Compress(path) => compress(path).map_err(failed("compress", path)),
        RotateOp::Rename { from, to } => fs::rename(from, to).map_err(failed("rename", from)),
        RotateOp::Reopen => Ok(()),
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let suffixed = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let (unfinished, done) = (suffixed(".tmp"), suffixed(".gz"));
    let mut encoder = GzEncoder::new(fs::File::create(&unfinished)?, Compression::default());
    io::copy(&mut fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&unfinished, &done)?;
    fs::remove_file(path)
}

impl fmt::Display for RotateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RotateOp::Remove(path) => write!(f, "remove {}", path.display()),
            RotateOp::Compress(path) => write!(f, "compress {}", path.display()),
            RotateOp::Rename { from, to } => {
                write!(f, "rename {} {}", from.display(), to.display())
            }
            RotateOp::Reopen => f.write_str("reopen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let now: Timestamp = "2026-11-22T10:00:05Z".parse().expect("time");
        let policy = RotationPolicy { max_bytes: 100, max_files: 4 };
        let rename = "rename /l/0.log /l/0.log.20261122-100005";
        for (name, bytes, beside, expect) in [
            ("missing", None, vec![], vec!["reopen"]),
            ("small", Some(99), vec!["0.log", "0.log.20260101-000000"], vec![]),
            ("first", Some(100), vec!["0.log", "1.log"], vec![rename, "reopen"]),
            (
                "third",
                Some(100),
                vec!["0.log", "0.log.20260101-000000.gz", "0.log.20260102-000000"],
                vec!["compress /l/0.log.20260102-000000", rename, "reopen"],
            ),
            (
                "full, with leftovers",
                Some(200),
                vec![
                    "0.log",
                    "0.log.20260101-000000.gz",
                    "0.log.20260102-000000.gz",
                    "0.log.20260103-000000",
                    "0.log.20260103-000000.tmp",
                    "0.log.20260102-000000",
                ],
                vec![
                    "remove /l/0.log.20260102-000000",
                    "remove /l/0.log.20260103-000000.tmp",
                    "remove /l/0.log.20260101-000000.gz",
                    "compress /l/0.log.20260103-000000",
                    rename,
                    "reopen",
                ],
            ),
        ] {
            let beside = beside.into_iter().map(String::from).collect();
            let ops = plan(Path::new("/l/0.log"), bytes, &beside, &policy, now);
            assert_eq!(ops.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{name}");
        }
    }
}
