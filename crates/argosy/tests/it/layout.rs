//! A cluster of several hosts for one test: its own data folder, and a network that `argosy up` finds free.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{eventually, kubectls, text};

/// Held for reading while a cluster finds a network, and for writing from the end of one until nothing of it was seen to
/// be left: a network that is free again is the next one's.
pub static NETWORKS: RwLock<()> = RwLock::new(());

pub struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub fn start(shape: &str) -> Layout {
        Layout::start_as(shape, shape, &[])
    }

    /// In a folder of its own, as tests of one layout may run at the same time.
    pub fn start_as(name: &str, shape: &str, more: &[&str]) -> Layout {
        assert!(rustix::process::geteuid().is_root(), "these tests make networks: run them as root (`sudo make test`)");
        let layout = Layout { dir: PathBuf::from(format!("/var/lib/argosy-test-{name}")) };
        layout.argosy(&["down", "--purge", "--grace=0"]);
        // The disk of a machine that tests run on is as full as it is.
        let eviction = "--eviction-hard=memory.available<50Mi";
        let claiming = NETWORKS.read().unwrap_or_else(PoisonError::into_inner);
        let up = layout.argosy(&[&["up", "--topology", shape, "--timeout=120", eviction], more].concat());
        drop(claiming);
        assert!(up.status.success(), "up failed: {}\n{}", text(&up), layout.logs());
        layout
    }

    pub fn argosy(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// The binary, which need not know of this cluster.
    pub fn argosy_alone(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_argosy")).args(arguments).output().expect("the binary runs")
    }

    /// The binary on this cluster's data folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
        // Behind the command: what follows `--` is not ours.
        let (own, rest) =
            arguments.split_at(arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len()));
        command.args(own).arg("--data-dir").arg(&self.dir).args(rest);
        command
    }

    /// Succeeds, or shows what was said.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.argosy(arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output), self.logs());
        text(&output)
    }

    pub fn topology(&self) -> Value {
        let text = fs::read(self.dir.join("topology.json")).expect("a topology");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Names of the hosts that are something: `master`, `node`, `balancer`.
    pub fn hosts(&self, role: &str) -> Vec<String> {
        let topology = self.topology();
        let hosts = topology["hosts"].as_array().expect("hosts").iter();
        let of_role = hosts.filter(|host| host[role] == true);
        of_role.map(|host| host["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What belongs to this cluster and to no other in names of interfaces and namespaces.
    pub fn prefix(&self) -> String {
        let network = self.topology()["network"].as_str().expect("a network").to_owned();
        format!("argosy-{}-", network.split('.').nth(2).expect("four parts"))
    }

    pub fn pid(&self, host: &str, process: &str) -> u32 {
        let file = self.dir.join("hosts").join(host).join("run").join(format!("{process}.pid"));
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value: Value = serde_json::from_slice(&text).expect("a pid file is JSON");
        u32::try_from(value["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    /// SIGKILL: no last words.
    pub fn kill(&self, host: &str, process: &str) {
        let status = Command::new("kill").args(["-KILL", &self.pid(host, process).to_string()]).status();
        assert!(status.expect("kill runs").success(), "{process} of {host}");
    }

    /// Of the cluster's address, or of one master.
    pub fn kubeconfig(&self, master: Option<&str>) -> PathBuf {
        let folder = master.map_or(self.dir.clone(), |master| self.dir.join("hosts").join(master));
        folder.join("admin.kubeconfig")
    }

    pub fn try_kubectl(&self, arguments: &str) -> Output {
        let mut command = Command::new(&kubectls()[0].1);
        command.env("KUBECONFIG", self.kubeconfig(None)).args(arguments.split(' ')).output().expect("kubectl runs")
    }

    pub fn kubectl(&self, arguments: &str) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments}: {}\n{}", text(&output), self.logs());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn apply(&self, name: &str, manifest: &str) {
        let file = self.dir.join(format!("{name}.yaml"));
        fs::write(&file, manifest).expect("written");
        self.kubectl(&format!("apply -f {}", file.display()));
    }

    /// Everything runs again.
    pub fn until_whole(&self, limit: Duration) {
        eventually("everything runs", limit, || self.argosy(&["status"]).status.success().then_some(()));
    }

    /// The end of every log.
    pub fn logs(&self) -> String {
        let mut out = String::new();
        for host in fs::read_dir(self.dir.join("hosts")).into_iter().flatten().flatten() {
            for log in fs::read_dir(host.path().join("logs")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(5)..].join("\n");
                out += &format!("--- {}\n{end}\n", log.path().display());
            }
        }
        out
    }

    /// What every host has said, for whoever wants to know why a test failed.
    fn keep_logs(&self) {
        let kept = std::env::temp_dir().join(format!("argosy-test-logs-{}", std::process::id()));
        for host in fs::read_dir(self.dir.join("hosts")).into_iter().flatten().flatten() {
            let into = kept.join(host.file_name());
            let copied = fs::create_dir_all(&into)
                .and_then(|()| Command::new("cp").arg("-r").arg(host.path().join("logs")).arg(&into).status());
            if let Err(error) = copied {
                eprintln!("the logs of {} are not kept: {error}", host.path().display());
            }
        }
        eprintln!("the logs of its hosts are in {}", kept.display());
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        self.argosy(&["down", "--purge", "--grace=0"]);
    }
}
