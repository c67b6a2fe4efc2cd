//! A process by pid, start time and boot: three values that never come back together.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::SuperviseError;

pub use rustix::process::Signal;

/// One run of one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub pid: u32,
    /// In clock ticks since the machine started.
    start_ticks: u64,
    boot_id: String,
}

impl Process {
    /// The process that has this pid now; `None` where there is none, or only what is left of one until its parent asks.
    pub fn of_pid(pid: u32) -> Option<Process> {
        Process::of_stat(pid, &read_stat(pid)?, &boot_id())
    }

    fn of_stat(pid: u32, stat: &str, boot_id: &str) -> Option<Process> {
        let (state, start_ticks) = (field(stat, 3)?, field(stat, 22)?.parse().ok()?);
        (!matches!(state, "Z" | "X")).then(|| Process { pid, start_ticks, boot_id: boot_id.to_owned() })
    }

    /// This very process.
    pub fn current() -> Option<Process> {
        Process::of_pid(std::process::id())
    }

    pub fn is_alive(&self) -> bool {
        Process::of_pid(self.pid).as_ref() == Some(self)
    }

    /// A descriptor of this process; `None` when it has ended. The check comes after the opening: a descriptor stays
    /// with its process even when the pid is given away.
    fn open(&self) -> Result<Option<OwnedFd>, SuperviseError> {
        let raw = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = raw else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(self.is_alive().then_some(fd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(e) => Err(self.failed("open", e.into())),
        }
    }

    /// Sends a signal; that the process has ended is success.
    pub fn signal(&self, signal: Signal) -> Result<(), SuperviseError> {
        let Some(fd) = self.open()? else {
            return Ok(());
        };
        match pidfd_send_signal(&fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(self.failed("signal", e.into())),
        }
    }

    /// Waits until the process has ended, at most `limit`. Returns whether it has.
    pub async fn wait_exit(&self, limit: Duration) -> Result<bool, SuperviseError> {
        let Some(fd) = self.open()? else {
            return Ok(true);
        };
        // SAFETY: the descriptor is owned by what is registered, open for as long as it and never exchanged.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        let watched = watched.map_err(|e| self.failed("wait for", e.into()))?;
        match tokio::time::timeout(limit, watched.readable()).await {
            Ok(ready) => ready.map(|_| true).map_err(|e| self.failed("wait for", e)),
            Err(_) => Ok(false),
        }
    }

    /// Waits until the process has ended, for as long as it takes.
    pub async fn ended(&self) -> Result<(), SuperviseError> {
        while !self.wait_exit(Duration::from_secs(3600)).await? {}
        Ok(())
    }

    /// The group of processes that this one leads, or has led until it ended: while any of them is there, the kernel gives
    /// the number to nobody else.
    pub fn group(&self) -> Vec<Process> {
        let number_is_anothers = Process::of_pid(self.pid).is_some_and(|now| now != *self);
        if number_is_anothers || self.boot_id != boot_id() {
            return Vec::new();
        }
        let group = self.pid.to_string();
        let is_of_group = |(process, stat): &(Process, String)| {
            field(stat, 5) == Some(&*group) && process.start_ticks >= self.start_ticks
        };
        running().filter(is_of_group).map(|(process, _)| process).collect()
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SuperviseError {
        SuperviseError::Process { action, pid: self.pid, source }
    }
}

fn read_stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// A field of `/proc/PID/stat` by its number in proc(5), from 3 on. The command's name, which is field 2, may hold blanks
/// and brackets; what follows its last bracket may not.
fn field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)
}

/// Changes with every start of the machine.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// All processes that run now, each with its `/proc/PID/stat`.
fn running() -> impl Iterator<Item = (Process, String)> {
    let boot_id = boot_id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(move |pid| {
        let stat = read_stat(pid)?;
        Some((Process::of_stat(pid, &stat, &boot_id)?, stat))
    })
}

/// All processes, each with its parent's pid and its command line's arguments.
pub(crate) fn table() -> Vec<(Process, u32, Vec<String>)> {
    let row = |(process, stat): (Process, String)| {
        let parent = field(&stat, 4)?.parse().ok()?;
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let arguments = line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        Some((process, parent, arguments))
    };
    running().filter_map(row).collect()
}

/// The processes whose program is called `program` and that have `argument` among their arguments.
pub fn processes_with_argument(program: &str, argument: &str) -> Vec<Process> {
    let named = |first: &str| first.rsplit('/').next() == Some(program);
    table()
        .into_iter()
        .filter(|(_, _, args)| args.first().is_some_and(|a| named(a)) && args.iter().any(|a| a == argument))
        .map(|(process, ..)| process)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let stat = "42 (a) b (c) S 1 42 43 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!([3, 4, 5, 22].map(|number| field(stat, number)), ["S", "1", "42", "98765"].map(Some));
        assert_eq!(field("42 (a) S 1", 22), None);
        assert_eq!(field("", 3), None);
    }

    #[test]
    fn another_start_time_or_boot_is_another_process() {
        let current = Process::current().expect("this process");
        assert!(current.is_alive());
        assert!(!Process { start_ticks: current.start_ticks + 1, ..current.clone() }.is_alive());
        assert!(!Process { boot_id: "another".into(), ..current }.is_alive());
    }
}
