//! Masters that join a running cluster and go again, in the laboratory and by token, while writers write: nothing
//! acknowledged is lost, and what does not come about leaves nothing behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output},
    time::Duration,
};

use crate::{
    harness::{eventually, text},
    layout::Layout,
    record::{Record, list},
};

const BINARY: &str = env!("CARGO_BIN_EXE_argosy");
const LATEST: Duration = Duration::from_secs(30);
/// Writers that go through nginx, and come first; few, as five masters share this machine.
const BALANCED: usize = 1;

#[test]
fn masters_join_and_go_while_writers_write() {
    let layout = Layout::start_as("masters", "ha", &["--workers=1"]);
    let balanced = std::iter::repeat_n(layout.kubeconfig(None), BALANCED);
    let all: Vec<PathBuf> = balanced.chain([layout.kubeconfig(Some("master-1"))]).collect();
    let record = Record::start(&all, &all[BALANCED - 1..]);
    let writes = || {
        record.until_writing(all.len(), LATEST);
    };
    writes();

    let nginx = layout.pid("balancer", "nginx");
    layout.must(&["node", "join", "--role=master"]);
    writes();
    assert_eq!(layout.pid("balancer", "nginx"), nginx, "it reads its configuration again and keeps its connections");
    assert_eq!(layout.hosts("master"), ["master-1", "master-2", "master-3", "master-4"]);
    let status = layout.must(&["status"]);
    assert!(status.contains("master-4") && !status.contains('✗'), "{status}");
    assert_eq!(members(&layout), ["master-1", "master-2", "master-3", "master-4"]);
    let nginx = fs::read_to_string(layout.dir.join("hosts/balancer/nginx.conf")).expect("a configuration");
    assert_eq!(nginx.matches(":6443 max_fails").count(), 4, "{nginx}");
    one_that_cannot_start_leaves_nothing(&layout);
    writes();

    let machine = Machine::new(&layout);
    machine.is_told_what_is_wrong();
    machine.joins_and_comes_back();
    writes();
    machine.leaves();
    writes();

    layout.must(&["node", "remove", "master-2"]);
    writes();
    assert_eq!(members(&layout), ["master-1", "master-3", "master-4"]);
    assert!(!layout.dir.join("hosts/master-2").exists());
    layout.must(&["node", "stop", "master-3"]);
    let refused = layout.argosy(&["node", "remove", "master-4"]);
    assert!(!refused.status.success() && text(&refused).contains("master-4 must stay"), "{}", text(&refused));
    layout.must(&["node", "start", "master-3"]);
    layout.until_whole(LATEST);
    writes();
    eventually("the masters that went are no endpoints any more", LATEST, || {
        let addresses = layout.kubectl("get endpoints kubernetes -o jsonpath={.subsets[*].addresses[*].ip}");
        (addresses.split_whitespace().count() == 3).then_some(())
    });

    let recorded = record.stop();
    let masters = layout.hosts("master");
    let found: Vec<_> = masters.iter().map(|master| list(&layout.kubeconfig(Some(master)))).collect();
    recorded.check(&found);
    println!("{} acknowledged writes are there", recorded.acknowledged.len());
}

/// `argosy store member`, on the first master.
fn member(layout: &Layout, words: &[&str]) -> String {
    let folder = layout.dir.join("hosts/master-1");
    let etcd = ["--etcd-servers=https://127.0.0.1:2379", "--data-dir", &*folder.to_string_lossy()];
    let command = ["node", "exec", "master-1", "--", BINARY, "store", "member"];
    layout.must(&[&command[..], words, &etcd].concat())
}

/// Names of etcd's members that answer.
fn members(layout: &Layout) -> Vec<String> {
    let table = member(layout, &["list"]);
    let mut names: Vec<String> = (table.lines().skip(1).filter(|line| line.contains("answers")))
        .filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names.len() + 1, table.lines().count(), "{table}");
    names
}

#[test]
fn a_master_is_deployed_into_a_cluster_that_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("cluster");
    let deploy = |masters: &[u8]| {
        let mut command = Command::new(BINARY);
        command.args(["deploy", "--topology=ha", "--balancer=lb=192.0.2.10", "--out"]).arg(&out);
        command.args(masters.iter().map(|number| format!("--master=m{number}=192.0.2.1{number}")));
        command.output().expect("it runs")
    };
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let state = |master: &str| {
        let unit = read(&format!("{master}/etc/systemd/system/etcd.service"));
        let state = unit.lines().find_map(|line| line.trim().strip_prefix("--initial-cluster-state="));
        state.expect("a flag").trim_end_matches(" \\").to_owned()
    };
    let refused = deploy(&[1, 2, 3, 4]);
    assert!(text(&refused).contains("three masters or five"), "{}", text(&refused));
    assert!(deploy(&[1, 2, 3]).status.success());
    let admin = read("admin.kubeconfig");
    let several = deploy(&[1, 2, 3, 4, 5]);
    assert!(text(&several).contains("m4 and m5 are new masters"), "{}", text(&several));
    let added = text(&deploy(&[1, 2, 3, 4]));
    assert!(added.contains("argosy store member add https://192.0.2.14:2380"), "{added}");
    assert_eq!(["m1", "m3", "m4"].map(state), ["new", "new", "existing"]);
    assert_eq!(read("admin.kubeconfig"), admin, "who administers the cluster goes on with what he has");
    assert!(read("lb/var/lib/argosy/nginx.conf").contains("192.0.2.14:6443"));
    let fewer = text(&deploy(&[1, 3, 4]));
    assert!(fewer.contains("argosy store member remove https://192.0.2.12:2380"), "{fewer}");
    assert!(!read("lb/var/lib/argosy/nginx.conf").contains("192.0.2.12:6443"));
    assert_eq!(["m1", "m4"].map(state), ["new", "existing"]);
}

/// A PATH on which etcd is a program that fails.
fn broken_etcd(layout: &Layout) -> String {
    let folder = layout.dir.join("broken");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("etcd"), "#!/bin/sh\necho this one never starts >&2\nexit 1\n").expect("written");
    fs::set_permissions(folder.join("etcd"), fs::Permissions::from_mode(0o755)).expect("changed");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn one_that_cannot_start_leaves_nothing(layout: &Layout) {
    let mut join = layout.command(&["node", "join", "--role=master", "--timeout=3"]);
    let said = join.env("PATH", broken_etcd(layout)).output().expect("it runs");
    let wanted = ["master-5 has not joined, and nothing of it is left", "never starts"];
    assert!(!said.status.success() && wanted.iter().all(|part| text(&said).contains(part)), "{}", text(&said));
    assert_eq!(members(layout).len(), 4);
    assert_eq!(layout.hosts("master").len(), 4);
    assert!(!layout.dir.join("hosts/master-5").exists());
}

/// A machine that has nothing: on the network of the worker, with a folder of its own.
struct Machine<'a> {
    layout: &'a Layout,
    dir: PathBuf,
    /// Of the invitation: `server --join URL --token TOKEN --ca-cert-hash HASH --certificate-key KEY`.
    words: Vec<String>,
}

impl Machine<'_> {
    fn new(layout: &Layout) -> Machine<'_> {
        let command = layout.must(&["token", "create", "--role=master", "--print-join-command"]);
        let words: Vec<String> = command.split_whitespace().skip(1).map(str::to_owned).collect();
        assert_eq!((words.len(), &*words[0], &*words[1], &*words[7]), (9, "server", "--join", "--certificate-key"));
        Machine { layout, dir: layout.dir.join("joined"), words }
    }

    fn command(&self, host: &str, words: &[&str]) -> Command {
        let dir = self.dir.to_string_lossy();
        self.layout.command(&[&["node", "exec", host, "--", BINARY], words, &["--data-dir", &dir]].concat())
    }

    /// The invitation with one word exchanged.
    fn join_with(&self, host: &str, changed: Option<(usize, &str)>, path: Option<&str>) -> Output {
        let mut words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        changed.into_iter().for_each(|(at, word)| words[at] = word);
        let mut command = self.command(host, &[&words[..], &["--node-name=joined", "--join-timeout=3"]].concat());
        path.map(|path| command.env("PATH", path));
        command.output().expect("it runs")
    }

    fn is_told_what_is_wrong(&self) {
        let worker = self.layout.must(&["token", "create"]);
        let foreign = format!("sha256:{}", "0".repeat(64));
        let other_key = "0".repeat(64);
        let closed =
            "table inet argosy-test { chain output { type filter hook output priority 0; tcp dport 2379 reject; }; }";
        let nft = |rule: &str| {
            let mut words = vec!["node", "exec", "worker-1", "--", "nft"];
            words.extend(rule.split(' '));
            self.layout.must(&words);
        };
        let broken = broken_etcd(self.layout);
        for (host, changed, path, wanted) in [
            ("worker-1", Some((4, "abcdef.0123456789abcdef")), None, "does not accept the token abcdef"),
            ("worker-1", Some((4, worker.trim())), None, "does not invite a master"),
            ("worker-1", Some((6, &*foreign)), None, "authority is not the one that was asked for"),
            ("worker-1", Some((8, &*other_key)), None, "--certificate-key does not open"),
            ("worker-1", Some((8, "abc")), None, "64 hexadecimal digits"),
            ("worker-1", Some((2, "https://127.0.0.1:1")), None, "no answer from"),
            ("master-1", None, None, "port 2380, which etcd needs, is taken"),
            ("worker-1", None, Some(&*broken), "nothing of it is left"),
        ] {
            let refused = self.join_with(host, changed, path);
            assert!(!refused.status.success() && text(&refused).contains(wanted), "{wanted}: {}", text(&refused));
            assert!(!self.dir.exists(), "{wanted}: something is left");
        }
        nft(&format!("add {closed}"));
        let refused = self.join_with("worker-1", None, None);
        nft("delete table inet argosy-test");
        assert!(text(&refused).contains("etcd does not answer at https://"), "{}", text(&refused));
        assert!(!self.dir.exists(), "something is left");
        assert_eq!(members(self.layout).len(), 4);
        // By hand: one that is added and not started.
        let url = "https://127.0.0.9:2380";
        member(self.layout, &["add", url]);
        assert!(member(self.layout, &["list"]).contains("never started"));
        let refused = self.join_with("worker-1", None, None);
        assert!(text(&refused).contains("was never started"), "{}", text(&refused));
        member(self.layout, &["remove", url]);
        assert_eq!(members(self.layout).len(), 4);
    }

    fn joins_and_comes_back(&self) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let log = fs::File::create(self.layout.dir.join("joined.log")).expect("a log");
        let mut first = self.command("worker-1", &[&words[..], &["--node-name=joined"]].concat());
        let first = first.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it runs");
        self.until_it_serves(first, 5);
        // The invitation goes with its token.
        let id = &self.words[4][..6];
        self.layout.kubectl(&format!("-n kube-system get secret master-certs-{id}"));
        self.layout.must(&["token", "delete", id]);
        eventually("what was uploaded is gone", LATEST, || {
            let objects = format!("-n kube-system get secret,role,rolebinding master-certs-{id} --ignore-not-found");
            text(&self.layout.try_kubectl(&objects)).trim().is_empty().then_some(())
        });
        self.must(&["down"]);
        let again = self.command("worker-1", &["server"]).spawn().expect("it runs");
        self.until_it_serves(again, 5);
    }

    /// Every component runs, its API server answers, and its member of etcd does. Then the process is left alone.
    fn until_it_serves(&self, mut process: Child, members_wanted: usize) {
        eventually("the machine serves", Duration::from_secs(60), || {
            let ended = process.try_wait().expect("waited");
            let log = || fs::read_to_string(self.layout.dir.join("joined.log")).unwrap_or_default();
            assert!(ended.is_none(), "{ended:?}: {}", log());
            let status = self.command("worker-1", &["status"]).output().expect("it runs");
            status.status.success().then_some(())
        });
        assert_eq!(members(self.layout).len(), members_wanted);
        std::thread::spawn(move || process.wait());
    }

    fn must(&self, words: &[&str]) {
        let said = self.command("worker-1", words).output().expect("it runs");
        assert!(said.status.success(), "{words:?}: {}", text(&said));
    }

    fn leaves(&self) {
        self.must(&["down", "--purge"]);
        assert!(!self.dir.exists());
        assert_eq!(members(self.layout).len(), 4);
    }
}
