//! A cluster of its own for one test: data folder, ports, address ranges and names apart from every other's.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use cluster::images::{Entry, ImageSpec, Source, write_archive};

/// Where further versions of kubectl lie beside the one on PATH, as `kubectl.1.30`.
const KUBECTL_DIRS: [&str; 3] = ["/usr/lib/google-cloud-sdk/bin", "/usr/local/bin", "/opt/kubectl"];
/// The versions that the tour must work with.
const KUBECTL_VERSIONS: [&str; 3] = ["1.27", "1.30", "1.33"];

/// Two names of one image, so that `kubectl set image` has something to change to.
const BUSYBOX: [&str; 2] = ["localhost/argosy/busybox:test", "localhost/argosy/busybox:test2"];

/// The image of the binary itself, which every node has.
pub const IMAGE: &str = "localhost/argosy/argosy:0.1.0";

pub struct Cluster {
    pub dir: PathBuf,
    /// Tells tests that run at the same time apart; below 20.
    pub number: u16,
}

impl Cluster {
    /// Starts from nothing.
    pub fn start(number: u16) -> Cluster {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "these tests start containers: run them as root (`sudo make test`)");
        let dir = PathBuf::from(format!("/var/lib/argosy-test-{number}"));
        let cluster = Cluster { dir, number };
        // What a killed test has left is in the way.
        cluster.argosy(&["down", "--purge", "--grace=0"]);
        let up = cluster.up();
        assert!(up.status.success(), "up failed: {}\n{}", text(&up), cluster.log());
        cluster
    }

    pub fn up(&self) -> Output {
        let port = |offset: u16| (20_000 + self.number * 10 + offset).to_string();
        self.argosy(&[
            "up",
            &format!("--secure-port={}", port(0)),
            &format!("--kubelet-port={}", port(1)),
            &format!("--proxy-healthz-port={}", port(2)),
            &format!("--controller-manager-port={}", port(3)),
            &format!("--scheduler-port={}", port(4)),
            &format!("--instance={}", self.instance()),
            // The disk of a machine that tests run on is as full as it is.
            "--eviction-hard=memory.available<50Mi",
            &format!("--cluster-cidr=10.{}.0.0/16", 200 + self.number),
            &format!("--service-cluster-ip-range=10.{}.0.0/16", 220 + self.number),
        ])
    }

    pub fn instance(&self) -> String {
        format!("test{}", self.number)
    }

    /// Runs the binary on this cluster's data folder.
    pub fn argosy(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
        command.args(arguments).arg("--data-dir").arg(&self.dir);
        command.output().expect("the binary runs")
    }

    /// The pid that a pid file names.
    pub fn pid(&self, process: &str) -> u32 {
        let file = self.dir.join("run").join(format!("{process}.pid"));
        let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value: serde_json::Value = serde_json::from_slice(&text).expect("a pid file is JSON");
        u32::try_from(value["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Runs kubectl; it must succeed.
    pub fn kubectl(&self, arguments: &str) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments}: {}\n{}", text(&output), self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_kubectl(&self, arguments: &str) -> Output {
        let mut command = Command::new(&kubectls()[0].1);
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments.split(' '));
        command.output().expect("kubectl runs")
    }

    /// Applies a manifest.
    pub fn apply(&self, name: &str, manifest: &str) {
        let file = self.dir.join(format!("{name}.yaml"));
        std::fs::write(&file, manifest).expect("written");
        self.kubectl(&format!("apply -f {}", file.display()));
    }

    /// Puts an image with a shell and the usual tools into the node.
    pub fn import_busybox(&self) {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
        let busybox = busybox.expect("busybox is missing: install the package busybox-static (`make setup` does)");
        let applets = Command::new(busybox).arg("--list").output().expect("busybox runs");
        let applets = String::from_utf8(applets.stdout).expect("names");
        let mut entries = vec![
            Entry::dir("tmp", 0o1777),
            Entry::file("bin/busybox", 0o755, Source::Path(busybox.into())),
            Entry::file("etc/passwd", 0o644, Source::Static(b"root:x:0:0:root:/root:/bin/sh\n")),
        ];
        let applets = applets.lines().filter(|applet| *applet != "busybox");
        entries.extend(applets.map(|applet| Entry::link(format!("bin/{applet}"), "busybox")));
        let spec = ImageSpec {
            names: BUSYBOX.map(str::to_owned).into(),
            entries,
            entrypoint: Vec::new(),
            env: vec!["PATH=/bin".into()],
            user: String::new(),
            labels: Vec::new(),
        };
        let file = self.dir.join("busybox.tar");
        write_archive(&spec, std::fs::File::create(&file).expect("created")).expect("an archive");
        let imported = self.argosy(&["image", "import", &file.to_string_lossy()]);
        assert!(text(&imported).contains(BUSYBOX[0]), "{}", text(&imported));
    }

    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("logs/argosy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- the log ends with\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.argosy(&["down", "--purge", "--grace=0"]);
    }
}

/// Output and errors.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Asks again until it holds.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        pause(Duration::from_millis(100));
    }
}

#[allow(clippy::disallowed_methods, reason = "these tests are threads of their own, without a runtime")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Every kubectl to test with: its version, and where it is. The one on PATH comes first.
pub fn kubectls() -> Vec<(String, PathBuf)> {
    let on_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.exists())
        .expect("no kubectl on PATH: see `make setup`");
    let mut found = vec![("PATH".to_owned(), on_path)];
    for version in KUBECTL_VERSIONS {
        let places = KUBECTL_DIRS.iter().map(|dir| Path::new(dir).join(format!("kubectl.{version}")));
        match places.into_iter().find(|path| path.exists()) {
            Some(path) => found.push((version.to_owned(), path)),
            None => println!("not tested with kubectl {version}: kubectl.{version} is in none of {KUBECTL_DIRS:?}"),
        }
    }
    found
}
