//! A control plane without a node, as a process that can be killed: `argosy server --disable-agent`.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use client::Client;
use http::Method;

/// One process on one data folder, which outlives it.
pub struct ControlPlane {
    pub folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
}

impl ControlPlane {
    /// `number` tells tests that run at the same time apart; below 20.
    pub fn new(number: u16) -> ControlPlane {
        let folder = tempfile::tempdir().expect("a folder");
        ControlPlane { folder, port: 21_000 + number * 10, process: None }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("started").id()
    }

    pub fn client(&self) -> Client {
        let kubeconfig = client::kubeconfig::load(self.kubeconfig()).expect("the administrator's kubeconfig");
        Client::from_kubeconfig(&kubeconfig, "argosy-test").expect("a client")
    }

    pub fn spawn(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
        command.args(["server", "--disable-agent", "--data-dir"]).arg(self.folder.path());
        for (offset, flag) in ["--secure-port", "--controller-manager-port", "--scheduler-port"].iter().enumerate() {
            command.arg(format!("{flag}={}", usize::from(self.port) + offset));
        }
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary runs"));
    }

    /// Starts the process and waits until it is ready to be written to.
    pub async fn start(&mut self) -> Client {
        self.spawn();
        let begin = Instant::now();
        loop {
            if self.kubeconfig().exists() {
                let client = self.client();
                if client.raw(Method::GET, "/readyz", None, bytes::Bytes::new()).await.is_ok() {
                    return client;
                }
            }
            let ended = self.process.as_mut().expect("started").try_wait().expect("waited");
            assert!(ended.is_none(), "the server ended: {ended:?}\n{}", self.words());
            assert!(begin.elapsed() < Duration::from_secs(60), "not ready\n{}", self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL: no last words, no last write.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killed");
            process.wait().expect("waited");
        }
    }

    /// Waits until the process has ended by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("started");
        tokio::task::spawn_blocking(move || process.wait()).await.expect("waited").expect("waited")
    }

    /// The end of the log.
    pub fn words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("test.log")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The service account controller makes `default` a moment after the start.
pub async fn until_default_account(client: &Client) {
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    for _ in 0..1000 {
        if client.raw(Method::GET, path, None, bytes::Bytes::new()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no default service account");
}
