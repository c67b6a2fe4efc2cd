//! Processes that outlive their starter: background start, pid files that a reused pid cannot fool, the data folder's
//! lock, ordered stop.

mod background;
mod lock;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use background::{BackgroundSpec, Event, Reporter, Started, detach, start_background};
pub use lock::{Lock, LockError};
pub use process::{Process, Signal, processes_with_argument};
pub(crate) use process::{boot_id, table};

use crate::files::{self, FileError};
use crate::layout::Layout;

/// The pid file's name of the process that runs the cluster.
pub const SUPERVISOR: &str = "argosy";

/// What failed about a process.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action} process {pid}")]
    Process {
        action: &'static str,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} still runs {seconds} s after it was killed; the kernel holds it, see /proc/{pid}/stack", seconds = after.as_secs())]
    Unkillable { pid: u32, after: Duration },
    #[error("the cluster's process ended before it was ready: {cause}; the whole log is {}", log.display())]
    Died { cause: String, log: PathBuf },
    #[error("the cluster was not ready within {} s; it goes on trying, its log is {}", after.as_secs(), log.display())]
    NotReady { after: Duration, log: PathBuf },
}

/// Writes which process runs under a name.
pub fn write_pid_file(path: &Path, process: &Process) -> Result<(), SuperviseError> {
    if let Some(folder) = path.parent() {
        files::make_dir(folder)?;
    }
    let text = serde_json::to_vec(process).unwrap_or_default();
    Ok(files::write_atomic(path, &text, 0o644)?)
}

/// The process that a pid file names, if it is that very process and runs. A file that cannot be understood names none.
pub fn read_pid_file(path: &Path) -> Result<Option<Process>, SuperviseError> {
    Ok(recorded(path)?.filter(Process::is_alive))
}

/// The process that a pid file names, whether it runs or not.
fn recorded(path: &Path) -> Result<Option<Process>, SuperviseError> {
    let bytes = files::read_optional(path)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Asks a process to end, waits for `grace`, kills it, and waits until it is gone. That it is gone already is success.
pub async fn stop(process: &Process, grace: Duration) -> Result<(), SuperviseError> {
    /// How long the kernel may take to end a killed process.
    const KILL_WAIT: Duration = Duration::from_secs(10);
    process.signal(Signal::TERM)?;
    if process.wait_exit(grace).await? {
        return Ok(());
    }
    process.signal(Signal::KILL)?;
    if process.wait_exit(KILL_WAIT).await? {
        return Ok(());
    }
    Err(SuperviseError::Unkillable { pid: process.pid, after: KILL_WAIT })
}

/// Stops the process that a pid file names and removes the file. Returns whether one ran.
pub async fn stop_by_pid_file(path: &Path, grace: Duration) -> Result<bool, SuperviseError> {
    let process = read_pid_file(path)?;
    if let Some(process) = &process {
        stop(process, grace).await?;
    }
    files::remove(path)?;
    Ok(process.is_some())
}

/// Stops a process and then, without grace, what it has started in its group and left behind, such as the workers of an
/// nginx that was killed: they hold its port.
pub async fn stop_group(leader: &Process, grace: Duration) -> Result<(), SuperviseError> {
    stop(leader, grace).await?;
    for process in leader.group() {
        stop(&process, Duration::ZERO).await?;
    }
    Ok(())
}

/// Stops what runs of the group whose leader a pid file names, even where the leader has ended, and removes the file.
pub async fn stop_group_by_pid_file(path: &Path, grace: Duration) -> Result<(), SuperviseError> {
    if let Some(leader) = recorded(path)? {
        stop_group(&leader, grace).await?;
    }
    Ok(files::remove(path)?)
}

/// Which processes of a cluster run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub supervisor: Option<Process>,
    pub containerd: Option<Process>,
}

/// Reads the pid files below the data folder.
pub fn status(layout: &Layout) -> Result<Status, SuperviseError> {
    Ok(Status {
        supervisor: read_pid_file(&layout.pid_file(SUPERVISOR))?,
        containerd: read_pid_file(&layout.pid_file(crate::containerd::NAME))?,
    })
}

/// The last lines of a log, at most `lines` of them and 64 KiB.
pub fn log_tail(path: &Path, lines: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    const BYTES_MAX: u64 = 64 << 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
