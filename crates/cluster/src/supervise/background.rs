//! Starts the cluster's process in the background and hears from it what it does until it is ready.
//!
//! The starter and the process talk over a socket pair that is the process's standard input: no file to poll, and when
//! either side dies the other knows at once.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{SuperviseError, log_tail};
use crate::files::{self, fail};
use crate::progress::Progress;

/// What the process tells its starter, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    Started {
        step: String,
    },
    Finished {
        step: String,
        elapsed_us: u64,
        note: String,
    },
    Failed {
        step: String,
        elapsed_us: u64,
        error: String,
    },
    /// The last event of a start that succeeded.
    Ready,
    /// The last event of one that did not.
    Fatal {
        error: String,
    },
}

/// What to run in the background.
#[derive(Clone, Debug)]
pub struct BackgroundSpec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Gets standard output and standard error, appended.
    pub log: PathBuf,
}

/// A process on its way to being ready.
pub struct Started {
    child: Child,
    events: UnixStream,
    log: PathBuf,
}

/// Starts `spec` with the socket as its standard input. The process is to call [`detach`] first.
pub fn start_background(spec: &BackgroundSpec) -> Result<Started, SuperviseError> {
    if let Some(folder) = spec.log.parent() {
        files::make_dir(folder)?;
    }
    let log =
        OpenOptions::new().create(true).append(true).mode(0o640).open(&spec.log).map_err(fail("open", &spec.log))?;
    let spawn_error = |source| SuperviseError::Spawn { program: spec.program.clone(), source };
    let (ours, theirs) = UnixStream::pair().map_err(spawn_error)?;
    let child = Command::new(&spec.program)
        .args(&spec.args)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone().map_err(spawn_error)?)
        .stderr(log)
        .spawn()
        .map_err(spawn_error)?;
    Ok(Started { child, events: ours, log: spec.log.clone() })
}

impl Started {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Passes on what the process reports until it is ready. It goes on running when this fails by time.
    pub async fn follow(mut self, progress: &dyn Progress, limit: Duration) -> Result<(), SuperviseError> {
        let log = self.log.clone();
        match tokio::time::timeout(limit, self.events_until_ready(progress)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SuperviseError::NotReady { after: limit, log }),
        }
    }

    async fn events_until_ready(&mut self, progress: &dyn Progress) -> Result<(), SuperviseError> {
        let pid = self.pid();
        let read_error = |source| SuperviseError::Process { action: "hear from", pid, source };
        let stream = self.events.try_clone().map_err(read_error)?;
        stream.set_nonblocking(true).map_err(read_error)?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(read_error)?;
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(event) = serde_json::from_str::<Event>(&line) else {
                continue;
            };
            match event {
                Event::Started { step } => progress.started(&step),
                Event::Finished { step, elapsed_us, note } => {
                    progress.finished(&step, Duration::from_micros(elapsed_us), &note);
                }
                Event::Failed { step, elapsed_us, error } => {
                    progress.failed(&step, Duration::from_micros(elapsed_us), &error);
                }
                Event::Ready => return Ok(()),
                Event::Fatal { error } => {
                    return Err(SuperviseError::Died { cause: error, log: self.log.clone() });
                }
            }
        }
        let status = self.child.wait().map(|s| s.to_string()).unwrap_or_default();
        let cause = format!("{status}; its last words: {}", log_tail(&self.log, 5));
        Err(SuperviseError::Died { cause, log: self.log.clone() })
    }
}

/// Leaves the starter's session and terminal, so that neither its end nor Ctrl-C reaches this process.
pub fn detach() -> io::Result<()> {
    match rustix::process::setsid() {
        // Whoever leads a session already, as under a service manager, has nothing to leave.
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The process's side: tells its starter about steps, until it is ready. Without a starter it tells nobody.
pub struct Reporter {
    stream: Mutex<Option<UnixStream>>,
}

impl Reporter {
    /// Speaks over standard input, which [`start_background`] made a socket.
    pub fn from_stdin() -> Reporter {
        let stream = io::stdin().as_fd().try_clone_to_owned().ok().map(UnixStream::from);
        // Anything but a socket has no peer: a terminal, a file, /dev/null.
        Reporter { stream: Mutex::new(stream.filter(|s| s.peer_addr().is_ok())) }
    }

    /// Says that the start succeeded and hangs up.
    pub fn ready(&self) {
        self.last_words(&Event::Ready);
    }

    /// Says why the start failed and hangs up.
    pub fn fatal(&self, error: &str) {
        self.last_words(&Event::Fatal { error: error.to_owned() });
    }

    fn last_words(&self, event: &Event) {
        self.send(event);
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A starter that has gone hears nothing, and need not.
        let _ = stream.map(|s| s.shutdown(std::net::Shutdown::Both));
    }

    fn send(&self, event: &Event) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        if stream.as_mut().is_some_and(|s| s.write_all(&line).is_err()) {
            *stream = None;
        }
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

impl Progress for Reporter {
    fn started(&self, step: &str) {
        self.send(&Event::Started { step: step.into() });
    }

    fn finished(&self, step: &str, elapsed: Duration, note: &str) {
        self.send(&Event::Finished { step: step.into(), elapsed_us: micros(elapsed), note: note.into() });
    }

    fn failed(&self, step: &str, elapsed: Duration, error: &str) {
        self.send(&Event::Failed { step: step.into(), elapsed_us: micros(elapsed), error: error.into() });
    }
}
