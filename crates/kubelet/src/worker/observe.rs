//! What the runtime says, as records.

use std::{io::Read, path::Path};

use jiff::Timestamp;
use k8s_cri::v1::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};

use crate::{
    config::names,
    plan::{ContainerRecord, Exit, SandboxRecord, State},
};

/// Upstream's limits of a termination message: the file, and the tail of the log where that stands in.
const MAX_MESSAGE_BYTES: u64 = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;

fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanos.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub fn sandbox_record(status: &PodSandboxStatus) -> SandboxRecord {
    let network = status.network.as_ref();
    let ips = network.map(|network| {
        let more = network.additional_ips.iter().map(|ip| ip.ip.clone());
        std::iter::once(network.ip.clone()).chain(more).filter(|ip| !ip.is_empty()).collect()
    });
    SandboxRecord {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        stopped: false,
        ready: status.state == PodSandboxState::SandboxReady as i32,
        ips: ips.unwrap_or_default(),
        created_at: time(status.created_at),
    }
}

/// `sandbox`: the id of its sandbox, which a container's status does not say. Reads the termination message of a
/// container that has ended.
pub fn container_record(status: &ContainerStatus, sandbox: Option<&str>) -> ContainerRecord {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let attempt = annotation(names::RESTART_COUNT).parse().ok();
    let state = match ContainerState::try_from(status.state) {
        Ok(ContainerState::ContainerCreated) => State::Created,
        Ok(ContainerState::ContainerRunning) => State::Running { started_at: time(status.started_at) },
        Ok(ContainerState::ContainerExited) => State::Exited(exit(status)),
        _ => State::Unknown,
    };
    ContainerRecord {
        id: status.id.clone(),
        name: status.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default(),
        attempt: attempt.or(status.metadata.as_ref().map(|metadata| metadata.attempt)).unwrap_or(0),
        sandbox: sandbox.unwrap_or_default().to_owned(),
        state,
        hash: annotation(names::CONTAINER_HASH).to_owned(),
        image: status.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
        image_ref: status.image_ref.clone(),
        log_path: status.log_path.clone(),
        created_at: time(status.created_at),
    }
}

fn exit(status: &ContainerStatus) -> Exit {
    let reason = match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    // A container that never started has no start; upstream shows the epoch then.
    Exit {
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        code: status.exit_code,
        reason: reason.to_owned(),
        message: message(status),
    }
}

/// The container's own last words, after the runtime's.
fn message(status: &ContainerStatus) -> String {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = annotation(names::TERMINATION_PATH);
    let mount = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    let mut text = mount.map(|mount| head(Path::new(&mount.host_path))).unwrap_or_default();
    let to_logs = annotation(names::TERMINATION_POLICY) == "FallbackToLogsOnError";
    if text.is_empty() && to_logs && status.exit_code != 0 {
        text = tail(Path::new(&status.log_path));
    }
    match (status.message.as_str(), text) {
        ("", text) => text,
        (message, text) if text.is_empty() => message.to_owned(),
        (message, text) => format!("{message}: {text}"),
    }
}

fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_MESSAGE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error reading termination log: {error}"),
    }
}

/// The messages of the last lines of a log.
fn tail(path: &Path) -> String {
    let Ok(log) = std::fs::read(path) else { return String::new() };
    last_messages(&String::from_utf8_lossy(&log[log.len().saturating_sub(64 << 10)..]))
}

/// Of a log in CRI format (`TIME STREAM TAG TEXT`). A line with the tag P goes on in the next, or was never ended.
fn last_messages(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(MAX_LOG_LINES).collect();
    let mut text = String::new();
    for line in lines.iter().rev() {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (Some(tag), Some(message)) = (parts.next(), parts.next()) else { continue };
        text.push_str(message);
        if tag.split(':').next() != Some("P") {
            text.push('\n');
        }
    }
    if let Some(mut from) = text.len().checked_sub(MAX_LOG_BYTES) {
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_line_has_no_end() {
        let line = |tag: &str, text: &str| format!("2026-01-01T00:00:00.0Z stdout {tag} {text}\n");
        assert_eq!(last_messages(&line("P", "DONE")), "DONE");
        assert_eq!(last_messages(&(line("P", "a") + &line("F", "b") + &line("F", ""))), "ab\n\n");
        assert_eq!(last_messages("cut off"), "");
    }
}
