//! Processes in the background, pid files, the lock and stopping.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use cluster::progress::Progress;
use cluster::supervise::{
    BackgroundSpec, Lock, LockError, Process, SuperviseError, read_pid_file, start_background, stop, stop_by_pid_file,
    stop_group_by_pid_file, write_pid_file,
};

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn started(&self, step: &str) {
        self.0.lock().expect("no panic").push(format!("started {step}"));
    }

    fn finished(&self, step: &str, elapsed: Duration, note: &str) {
        self.0.lock().expect("no panic").push(format!("finished {step} {} {note}", elapsed.as_micros()));
    }

    fn failed(&self, step: &str, _: Duration, error: &str) {
        self.0.lock().expect("no panic").push(format!("failed {step} {error}"));
    }
}

fn shell(script: &str, folder: &std::path::Path) -> BackgroundSpec {
    let args = ["-c", script].map(OsString::from).to_vec();
    BackgroundSpec { program: "/bin/sh".into(), args, log: folder.join("logs/argosy.log") }
}

/// A script that runs in a process group of its own, and the line that it has written.
fn started(script: &str) -> (Child, String) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).process_group(0).stdout(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    (child, line)
}

#[tokio::test]
async fn a_background_start_is_followed_until_it_is_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"echo '{"event":"started","step":"one"}' >&0; echo to the log
        echo '{"event":"finished","step":"one","elapsedUs":7,"note":"new"}' >&0; echo '{"event":"ready"}' >&0; exec sleep 60"#;
    let started = start_background(&shell(script, folder.path())).expect("started");
    let process = Process::of_pid(started.pid()).expect("it runs");
    let heard = Heard::default();
    started.follow(&heard, Duration::from_secs(10)).await.expect("ready");
    assert_eq!(*heard.0.lock().expect("no panic"), ["started one", "finished one 7 new"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("logs/argosy.log")).expect("a log"), "to the log\n");
    assert!(process.is_alive(), "it goes on when its starter has heard enough");
    stop(&process, Duration::from_secs(5)).await.expect("stopped");
    assert!(!process.is_alive());
}

#[tokio::test]
async fn a_start_that_dies_or_hangs_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("echo broken config; exit 3", "broken config"),
        (r#"echo '{"event":"fatal","error":"no disk"}' >&0; exec sleep 60"#, "no disk"),
    ];
    for (script, wanted) in cases {
        let started = start_background(&shell(script, folder.path())).expect("started");
        let process = Process::of_pid(started.pid());
        match started.follow(&Heard::default(), Duration::from_secs(10)).await {
            Err(SuperviseError::Died { cause, .. }) => assert!(cause.contains(wanted), "{cause}"),
            other => panic!("{script}: {other:?}"),
        }
        if let Some(process) = process {
            stop(&process, Duration::from_secs(5)).await.expect("stopped");
        }
    }
    let started = start_background(&shell("exec sleep 60", folder.path())).expect("started");
    let process = Process::of_pid(started.pid()).expect("it runs");
    let hung = started.follow(&Heard::default(), Duration::from_millis(50)).await;
    assert!(matches!(hung, Err(SuperviseError::NotReady { .. })), "{hung:?}");
    stop(&process, Duration::from_secs(5)).await.expect("stopped");
}

#[tokio::test]
async fn a_process_that_ignores_the_request_is_killed() {
    let (mut child, _) = started("trap '' TERM; echo up; while :; do sleep 0.05; done");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/x.pid");
    let process = Process::of_pid(child.id()).expect("it runs");
    write_pid_file(&path, &process).expect("written");
    assert_eq!(read_pid_file(&path).expect("read"), Some(process.clone()));
    assert!(stop_by_pid_file(&path, Duration::from_millis(100)).await.expect("stopped"));
    assert!(!process.is_alive());
    assert_eq!(child.wait().expect("reaped").code(), None, "ended by a signal");
    assert!(!stop_by_pid_file(&path, Duration::from_millis(100)).await.expect("nothing to stop"));
}

#[tokio::test]
async fn what_a_killed_process_leaves_of_its_group_is_ended() {
    let (mut leader, line) = started("sleep 60 & echo $!; wait");
    let left = Process::of_pid(line.trim().parse().expect("a number")).expect("it runs");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/x.pid");
    write_pid_file(&path, &Process::of_pid(leader.id()).expect("it runs")).expect("written");
    leader.kill().expect("killed");
    leader.wait().expect("reaped");
    assert_eq!(read_pid_file(&path).expect("read"), None);
    assert!(left.is_alive());
    stop_group_by_pid_file(&path, Duration::from_secs(5)).await.expect("stopped");
    assert!(!left.is_alive());
    assert!(!path.exists());
}

#[test]
fn a_pid_file_of_an_earlier_process_names_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.pid");
    let current = Process::current().expect("this process");
    let text = serde_json::to_string(&current).expect("JSON");
    let earlier = text.replace("\"startTicks\":", "\"startTicks\":1");
    assert_ne!(earlier, text);
    for content in [earlier.as_str(), "", "12345", "{}"] {
        std::fs::write(&path, content).expect("written");
        assert_eq!(read_pid_file(&path).expect("read"), None, "{content}");
    }
}

#[test]
fn the_lock_has_one_holder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/lock");
    let held = Lock::take(&path).expect("free");
    assert!(matches!(Lock::take(&path), Err(LockError::Held { .. })));
    drop(held);
    Lock::take(&path).expect("free again");
}
