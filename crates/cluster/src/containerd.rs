//! A containerd of the cluster's own: its configuration, its process, the pod network it calls CNI for, and the way to
//! take all of it off the machine again.
//!
//! The process does not die with the one that started it: pods go on when the control plane ends, and the next start
//! finds containerd by its pid file and takes it over.

mod cleanup;
mod config;
mod cri;
pub mod network;

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

pub use cleanup::{CleanupError, CleanupPlan, CleanupStep, Observed, take_down};
pub use config::config_toml;
pub use cri::{Cri, CriError, ImageInfo};

use crate::files::{self, FileError, fail};
use crate::layout::Layout;
use crate::machine::{self, CheckError};
use crate::supervise::{self, Process, SuperviseError, log_tail};

/// The name of its pid file and log.
pub const NAME: &str = "containerd";

/// How long containerd may take from its start to its first answer; on an idle machine it takes 0.1 s.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end: it waits for nothing, shims live on.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What failed about containerd.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Process(#[from] SuperviseError),
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("containerd ended at its start; its log {} closes with: {tail}", log.display())]
    Ended { log: PathBuf, tail: String },
    #[error("containerd did not answer within {} s; its log is {}", READY_LIMIT.as_secs(), log.display())]
    NotReady {
        log: PathBuf,
        #[source]
        source: CriError,
    },
}

/// A containerd that answers.
#[derive(Debug)]
pub struct Containerd {
    pub process: Process,
    pub cri: Cri,
    /// Such as `1.6.20~ds1`.
    pub version: String,
    /// It ran already when it was asked for.
    pub adopted: bool,
}

/// Brings containerd up with this configuration: takes over the one that runs, unless its configuration differs; then it
/// is stopped and started again, which pods do not notice.
pub async fn start(layout: &Layout, sandbox_image: &str) -> Result<Containerd, ContainerdError> {
    let plugins = machine::cni_plugin_dir()?;
    files::make_dir(&layout.containerd_dir())?;
    files::make_dir(&layout.cni_conf_dir())?;
    files::make_dir(&layout.log_dir())?;
    let text = config_toml(layout, &plugins, sandbox_image);
    let changed = files::write_if_changed(&layout.containerd_config(), text.as_bytes(), 0o644)?;
    let pid_file = layout.pid_file(NAME);
    if let Some(process) = supervise::read_pid_file(&pid_file)? {
        if !changed && let Ok((cri, version)) = answer(layout).await {
            return Ok(Containerd { process, cri, version, adopted: true });
        }
        supervise::stop(&process, STOP_GRACE).await?;
    }
    forget_earlier_boot(layout)?;
    let process = spawn(layout)?;
    supervise::write_pid_file(&pid_file, &process)?;
    let (cri, version) = wait_ready(layout, &process).await?;
    Ok(Containerd { process, cri, version, adopted: false })
}

impl Containerd {
    /// Returns when the process has ended, for whatever reason; the caller starts it again.
    pub async fn ended(&self) -> Result<(), SuperviseError> {
        self.process.ended().await
    }
}

/// Stops containerd and leaves its pods running. Returns whether it ran.
pub async fn stop(layout: &Layout) -> Result<bool, SuperviseError> {
    supervise::stop_by_pid_file(&layout.pid_file(NAME), STOP_GRACE).await
}

/// What containerd keeps about running containers means nothing after the machine was started anew: elsewhere it lies in
/// `/run`, which is empty then.
fn forget_earlier_boot(layout: &Layout) -> Result<(), FileError> {
    let mark = layout.containerd_dir().join("boot-id");
    let boot = supervise::boot_id();
    if files::read_optional(&mark)?.as_deref() == Some(boot.as_bytes()) {
        return Ok(());
    }
    if cleanup::mounts_below(&cleanup::mountinfo(), &layout.containerd_state()).is_empty() {
        files::remove(&layout.containerd_state())?;
        files::remove(&layout.runc_root())?;
        files::remove(&layout.cni_ipam_dir())?;
    }
    files::write_atomic(&mark, boot.as_bytes(), 0o644)
}

fn spawn(layout: &Layout) -> Result<Process, ContainerdError> {
    let program = machine::find_program("containerd")
        .ok_or(CheckError::MissingProgram { program: "containerd", package: "containerd" })?;
    let log_path = layout.log_file(NAME);
    let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(fail("open", &log_path))?;
    let error = |source| ContainerdError::Spawn { program: program.clone(), source };
    let child = tokio::process::Command::new(&program)
        .arg("--config")
        .arg(layout.containerd_config())
        .arg("--log-level=warn")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(error)?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(error)?;
    // The runtime reaps the child after this handle is gone.
    let process = child.id().and_then(Process::of_pid);
    process.ok_or_else(|| ContainerdError::Ended { tail: log_tail(&log_path, 5), log: log_path })
}

async fn answer(layout: &Layout) -> Result<(Cri, String), CriError> {
    let cri = Cri::connect(&layout.containerd_socket()).await?;
    let (_, version) = cri.version().await?;
    Ok((cri, version))
}

/// Asks until containerd answers: after 5 ms first, then ever less often, at least every 100 ms.
async fn wait_ready(layout: &Layout, process: &Process) -> Result<(Cri, String), ContainerdError> {
    let log = layout.log_file(NAME);
    let deadline = tokio::time::Instant::now() + READY_LIMIT;
    let mut pause = Duration::from_millis(5);
    loop {
        if process.wait_exit(pause).await? {
            return Err(ContainerdError::Ended { tail: log_tail(&log, 5), log });
        }
        match answer(layout).await {
            Ok(ready) => return Ok(ready),
            Err(source) if tokio::time::Instant::now() >= deadline => {
                return Err(ContainerdError::NotReady { log, source });
            }
            Err(_) => pause = (pause * 3 / 2).min(Duration::from_millis(100)),
        }
    }
}
