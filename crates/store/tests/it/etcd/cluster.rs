//! Real etcd processes: one or three members on 127.0.0.1, with TLS, that can be killed, stopped and started again.

use std::{
    collections::HashMap,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};
use store::{
    Store,
    etcd::{Etcd, EtcdOptions, Identity, Timeouts, TlsFiles},
    suite::Engine,
};
use tempfile::TempDir;

use super::admin::Admin;

/// A certificate authority, and what it has issued, as PEM files.
pub struct Pki {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Pki {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.crt"), certificate.pem()).unwrap();
        let pki = Pki { directory, issuer: Issuer::new(params, key) };
        pki.issue("server");
        pki.issue("client");
        pki
    }

    pub fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn files(&self) -> TlsFiles {
        let identity = Identity { certificate: self.path("client.crt"), key: self.path("client.key") };
        TlsFiles { ca: self.path("ca.crt"), identity: Some(identity) }
    }
}

struct Member {
    arguments: Vec<String>,
    directory: PathBuf,
    url: String,
    admin: String,
    child: Option<Child>,
}

pub struct Cluster {
    members: Mutex<Vec<Member>>,
    pub size: usize,
    pub pki: Arc<Pki>,
    directory: TempDir,
}

impl Cluster {
    pub fn single() -> Cluster {
        Cluster::start_with(1, &[])
    }

    pub fn three() -> Cluster {
        Cluster::start_with(3, &[])
    }

    pub fn start_with(size: usize, extra: &[&str]) -> Cluster {
        let pki = Arc::new(Pki::new());
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<_> = (0..3 * size).map(|_| free_port()).collect();
        let peers: Vec<_> = (0..size).map(|n| format!("m{n}=http://127.0.0.1:{}", ports[3 * n + 2])).collect();
        let members = (0..size)
            .map(|n| member(&pki, directory.path(), n, &ports[3 * n..3 * n + 3], &peers.join(","), extra))
            .collect();
        let cluster = Cluster { members: Mutex::new(members), size, pki, directory };
        (0..size).for_each(|n| cluster.start(n));
        cluster
    }

    pub fn start(&self, n: usize) {
        let member = &mut self.members.lock()[n];
        let log = File::options().create(true).append(true).open(member.directory.join("log")).unwrap();
        let child = Command::new("/usr/bin/etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd of Debian's package etcd-server");
        member.child = Some(child);
    }

    /// As `kill -9`; answers when it is gone.
    pub fn kill(&self, n: usize) {
        if let Some(mut child) = self.members.lock()[n].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The member keeps its connections and answers nothing, as one whose network is cut.
    pub fn freeze(&self, n: usize) {
        self.signal(n, Signal::STOP);
    }

    pub fn thaw(&self, n: usize) {
        self.signal(n, Signal::CONT);
    }

    fn signal(&self, n: usize, signal: Signal) {
        let members = self.members.lock();
        kill_process(Pid::from_child(members[n].child.as_ref().unwrap()), signal).unwrap();
    }

    pub fn urls(&self) -> Vec<String> {
        self.members.lock().iter().map(|member| member.url.clone()).collect()
    }

    /// Talks to a member past the engine, without TLS.
    pub async fn admin(&self, n: usize) -> Admin {
        let address = self.members.lock()[n].admin.clone();
        Admin::connect(&address).await
    }

    /// The member that leads.
    pub async fn leader(&self) -> usize {
        let found = async {
            loop {
                for n in 0..self.size {
                    let status = self.admin(n).await.status().await;
                    if status.leader != 0 && status.leader == status.header.unwrap_or_default().member_id {
                        return n;
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("all members answer and one leads")
    }

    pub fn options(&self) -> EtcdOptions {
        EtcdOptions {
            tls: Some(self.pki.files()),
            // A machine that is busy with other tests is slow; those that are about time have their own.
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                read: Duration::from_secs(10),
                request: Duration::from_secs(10),
                patience: Duration::from_secs(20),
                ..Timeouts::default()
            },
            compaction_interval: Duration::ZERO,
            ..EtcdOptions::new(self.urls())
        }
    }

    pub async fn connect(&self) -> Arc<Etcd> {
        Arc::new(Etcd::connect(self.options()).await.unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.size {
            self.kill(n);
        }
        if std::thread::panicking() {
            for member in self.members.lock().iter() {
                let log = std::fs::read_to_string(member.directory.join("log")).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(10).collect();
                eprintln!("the last of {}, newest first:\n{}", member.url, last.join("\n"));
            }
            eprintln!("it was in {}", self.directory.path().display());
        }
    }
}

/// A port below those that the kernel gives to connections: a member that is started again must find its own still free.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that run at the same time begin at different places.
        let at = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (at % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn member(pki: &Pki, directory: &Path, n: usize, ports: &[u16], peers: &str, extra: &[&str]) -> Member {
    let directory = directory.join(format!("m{n}"));
    std::fs::create_dir(&directory).unwrap();
    let url = format!("https://127.0.0.1:{}", ports[0]);
    let admin = format!("http://127.0.0.1:{}", ports[1]);
    let peer = format!("http://127.0.0.1:{}", ports[2]);
    let file = |name: &str| pki.path(name).display().to_string();
    let mut arguments: Vec<String> = [
        ("--name", format!("m{n}")),
        ("--data-dir", directory.join("data").display().to_string()),
        ("--listen-client-urls", format!("{url},{admin}")),
        ("--advertise-client-urls", url.clone()),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", peers.to_owned()),
        ("--trusted-ca-file", file("ca.crt")),
        ("--cert-file", file("server.crt")),
        ("--key-file", file("server.key")),
        ("--heartbeat-interval", "50".to_owned()),
        ("--election-timeout", "500".to_owned()),
        // Above what a value may have, so that the suite's largest fit.
        ("--max-request-bytes", "2097152".to_owned()),
        ("--logger", "zap".to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect();
    arguments.push("--client-cert-auth".to_owned());
    arguments.extend(extra.iter().map(|&argument| argument.to_owned()));
    Member { arguments, directory, url, admin, child: None }
}

/// A prefix of a cluster as the suite's engine, on a clock that tests set: leases whose time is up on it are revoked.
pub struct EtcdEngine {
    pub cluster: Arc<Cluster>,
    prefix: String,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    now: Duration,
    /// When a lease was granted.
    granted: HashMap<i64, Duration>,
}

impl EtcdEngine {
    pub fn single() -> EtcdEngine {
        EtcdEngine::on(Arc::new(Cluster::single()), "/registry")
    }

    pub fn on(cluster: Arc<Cluster>, prefix: &str) -> EtcdEngine {
        EtcdEngine { cluster, prefix: prefix.to_owned(), clock: Mutex::default() }
    }
}

#[async_trait]
impl Engine for EtcdEngine {
    async fn open(&self) -> Arc<dyn Store> {
        let options = EtcdOptions { prefix: self.prefix.clone(), replaces: String::new(), ..self.cluster.options() };
        Arc::new(Etcd::connect(options).await.unwrap())
    }

    async fn advance(&self, _store: &Arc<dyn Store>, by: Duration) {
        let admin = self.cluster.admin(0).await;
        let leases = admin.leases().await;
        let due = {
            let mut clock = self.clock.lock();
            let before = clock.now;
            clock.now += by;
            let now = clock.now;
            let mut due: Vec<_> = leases
                .into_iter()
                .map(|(id, ttl)| (*clock.granted.entry(id).or_insert(before) + ttl, id))
                .filter(|(at, _)| *at <= now)
                .collect();
            due.sort();
            due
        };
        for (_, id) in due {
            admin.revoke(id).await;
        }
    }
}
