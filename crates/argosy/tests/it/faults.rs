//! What can go wrong with a cluster of three masters and three workers, one after the other, under writers and watchers:
//! nothing acknowledged is lost, nobody misses or repeats an event, pods go on.

use std::{path::PathBuf, time::Duration};

use crate::{
    contest::{Contest, violations},
    harness::{eventually, text},
    layout::Layout,
    record::{Again, Record, list},
};

/// With one member gone every writer behind nginx writes again within this time.
const AGAIN: Duration = Duration::from_secs(5);
/// A machine with two cores and all of a cluster on it is slower than that now and then.
const LATEST: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(60);

/// How long etcd's members may take to speak to each other again after a cut: TCP's retransmissions are as far apart as the cut
/// was long, and etcd gives a silent connection five seconds.
const PEERS: Duration = Duration::from_secs(8);

/// Writers that go through nginx, and come first.
const BALANCED: usize = 3;

/// On each master, in a run of a million operations: each of them waits for three disks.
const LONG_RUN_CLIENTS: usize = 12;

/// Between two operations of a client that contends for objects with others.
const CONTEST_PAUSE: Duration = Duration::from_millis(10);

#[test]
fn whatever_ends_nothing_is_lost() {
    let layout = Layout::start("ha");
    layout.kubectl(
        "create deployment hello --image=localhost/argosy/argosy:0.1.0 --replicas=3 -- argosy hello --port 8080",
    );
    layout.kubectl("rollout status deployment/hello --timeout=60s");
    let masters = layout.hosts("master");
    let own = masters.iter().map(|master| layout.kubeconfig(Some(master)));
    let all: Vec<PathBuf> = std::iter::repeat_n(layout.kubeconfig(None), BALANCED).chain(own).collect();
    let record = Record::start(&all, &all[BALANCED - 1..]);
    record.until_writing(all.len(), LATEST);
    let started = restarts(&layout);
    // For a longer run: so many operations of clients that contend, under faults all the time.
    let wanted = std::env::var("ARGOSY_OPERATIONS").map_or(0, |text| text.parse().expect("a number of operations"));
    let (clients, pause) = if wanted == 0 { (2, CONTEST_PAUSE) } else { (LONG_RUN_CLIENTS, Duration::ZERO) };
    let contestants = vec![&all[BALANCED..]; clients].concat();
    let mut contest = Contest::start(&contestants, pause);

    let mut slowest = Vec::new();
    let mut survive = |what: String, fault: &dyn Fn()| {
        fault();
        let Again { first, all } = record.until_writing(BALANCED, LATEST);
        println!("{what}: the API answers writes after {first:?}, every writer writes again after {all:?}");
        slowest.push((all, what));
    };
    for process in ["etcd", "kube-apiserver"] {
        for master in &masters {
            survive(format!("{process} of {master} killed"), &|| layout.kill(master, process));
            layout.until_whole(WHOLE);
        }
    }
    survive("nginx killed".into(), &|| layout.kill("balancer", "nginx"));
    layout.until_whole(WHOLE);
    for master in &masters {
        survive(format!("{master} cut off"), &|| drop(layout.must(&["node", "cut", master])));
        layout.must(&["node", "heal", master]);
        layout.until_whole(WHOLE);
        // A second fault before the members have found each other again would be one of two members.
        crate::harness::pause(PEERS);
    }
    survive(format!("{} switched off", masters[0]), &|| drop(layout.must(&["node", "stop", &masters[0]])));
    layout.must(&["node", "start", &masters[0]]);
    layout.until_whole(WHOLE);

    for master in masters.iter().cycle().take_while(|_| contest.operations() < wanted) {
        println!("{} operations of {wanted}", contest.operations());
        for process in ["etcd", "kube-apiserver"] {
            layout.kill(master, process);
            layout.until_whole(WHOLE);
        }
        layout.must(&["node", "cut", master]);
        crate::harness::pause(AGAIN);
        layout.must(&["node", "heal", master]);
        layout.until_whole(WHOLE);
    }
    if wanted > 0 {
        in_one_order(contest);
        contest = Contest::start(&contestants, pause);
    }
    a_full_disk(&layout, &record, &masters[1]);
    let failed = rolls(&layout, &record, &masters);
    workers_go_on(&layout);
    another_leads(&layout);
    assert_eq!(restarts(&layout), started, "no pod was restarted");
    a_dead_worker_is_replaced(&layout);
    without_a_majority(&layout, &record, &masters);
    everything_at_once(&layout, &record, all.len());

    in_one_order(contest);
    let recorded = record.stop();
    let found: Vec<_> = all.iter().map(list).collect();
    recorded.check(&found);
    let watched: Vec<usize> = recorded.watched.iter().map(Vec::len).collect();
    println!("{} acknowledged writes, {watched:?} events", recorded.acknowledged.len());
    assert!(failed.is_empty(), "requests failed twice while one master after the other started anew: {failed:#?}");
    let late: Vec<_> = slowest.iter().filter(|(took, _)| *took > AGAIN).collect();
    assert!(late.is_empty(), "a writer took more than {AGAIN:?} to write again: {late:?}");
}

fn in_one_order(contest: Contest) {
    let told = contest.stop();
    let against: Vec<String> = violations(&told);
    assert!(against.is_empty(), "{} of {} operations have no order: {:#?}", against.len(), told.len(), &against[..1]);
    println!("{} operations in one order", told.len());
}

/// How often each container was started again.
fn restarts(layout: &Layout) -> String {
    layout.kubectl("get pods -l app=hello -o jsonpath={range.items[*]}{.metadata.name}={.status.containerStatuses[0].restartCount};{end}")
}

/// Room that a small disk has beside what is put on it: for two files of etcd's log and some of its data.
const SPARE_BYTES: u64 = 300 << 20;

/// etcd's folder of one master as a disk of its own, small enough to be filled.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> SmallDisk {
        let kept = folder.with_extension("kept");
        std::fs::rename(&folder, &kept).expect("moved");
        std::fs::create_dir(&folder).expect("made");
        let held = kubelet::stats::disk_usage(&kept).expect("a folder");
        let options = format!("mode=0700,size={}", held.bytes + SPARE_BYTES);
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &folder.to_string_lossy()]);
        run("cp", &["-a", &format!("{}/.", kept.display()), &folder.to_string_lossy()]);
        SmallDisk(folder)
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("created");
        let block = vec![0; 1 << 16];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still has files open there lets go of it later.
        run("umount", &["--lazy", &self.0.to_string_lossy()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().expect("it runs");
    assert!(status.success(), "{program} {arguments:?}");
}

fn a_full_disk(layout: &Layout, record: &Record, master: &str) {
    layout.must(&["node", "stop", master]);
    let disk = SmallDisk::mount(layout.dir.join("hosts").join(master).join("etcd"));
    layout.must(&["node", "start", master]);
    layout.until_whole(WHOLE);
    disk.fill();
    // etcd writes into room that it has set aside, and notices when that ends: with the next file of its log at the latest.
    layout.kill(master, "etcd");
    for _ in 0..3 {
        let took = record.until_writing(BALANCED, LATEST);
        println!("{master} with a full disk: every writer writes after {:?}", took.all);
        crate::harness::pause(Duration::from_secs(1));
    }
    disk.free();
    layout.until_whole(WHOLE);
    layout.must(&["node", "stop", master]);
    let folder = disk.0.clone();
    let back = folder.with_extension("kept");
    std::fs::remove_dir_all(&back).expect("removed");
    run("cp", &["-a", &folder.to_string_lossy(), &back.to_string_lossy()]);
    drop(disk);
    std::fs::remove_dir(&folder).expect("empty again");
    std::fs::rename(&back, &folder).expect("moved back");
    layout.must(&["node", "start", master]);
    layout.until_whole(WHOLE);
}

/// One master after the other ends in order and comes back, as with a new binary: whoever tries once more notices nothing.
/// Told are the requests for which that was not so.
fn rolls(layout: &Layout, record: &Record, masters: &[String]) -> Vec<String> {
    let before = record.failed_twice(BALANCED).len();
    for master in masters {
        let begin = std::time::Instant::now();
        layout.must(&["node", "restart", master]);
        println!("{master} restarted in order in {:?}", begin.elapsed());
        layout.until_whole(WHOLE);
    }
    record.failed_twice(BALANCED).split_off(before)
}

fn workers_go_on(layout: &Layout) {
    for process in ["kubelet", "containerd", "kube-proxy", "network"] {
        layout.kill("worker-1", process);
        layout.until_whole(WHOLE);
    }
    layout.must(&["node", "cut", "worker-2"]);
    crate::harness::pause(Duration::from_secs(3));
    layout.must(&["node", "heal", "worker-2"]);
    layout.until_whole(WHOLE);
}

/// The host on whose line a component leads.
fn leader(layout: &Layout, component: &str) -> Option<String> {
    let status = text(&layout.argosy(&["status"]));
    let line = status.lines().find(|line| line.contains(&format!("{component} ✓ leads")))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn another_leads(layout: &Layout) {
    for component in ["kube-controller-manager", "kube-scheduler"] {
        let former = eventually("somebody leads", WHOLE, || leader(layout, component));
        // The host's supervisor would start it again, and it would lead again as soon as its own lease has ended.
        layout.must(&["node", "stop", &former]);
        let now = eventually("another leads", WHOLE, || leader(layout, component).filter(|now| *now != former));
        println!("{component}: {now} leads instead of {former}");
        layout.must(&["node", "start", &former]);
        layout.until_whole(WHOLE);
    }
    layout.kubectl(
        "create deployment later --image=localhost/argosy/argosy:0.1.0 --replicas=2 -- argosy hello --port 8080",
    );
    layout.kubectl("rollout status deployment/later --timeout=60s");
    layout.kubectl("delete deployment later");
}

/// A pod on each worker, which tolerates for a second that its node is not there.
const MOVING: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: moving}
spec:
  replicas: 3
  selector: {matchLabels: {app: moving}}
  template:
    metadata: {labels: {app: moving}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: moving}}
      containers:
      - {name: moving, image: 'localhost/argosy/argosy:0.1.0', args: [hello, --port, '8080']}
";

/// Where the pods are that are Ready.
fn places_of_moving(layout: &Layout) -> Vec<String> {
    let text = layout.kubectl("get pods -l app=moving -o json");
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let is_ready = |pod: &&serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        ready.any(|condition| condition["status"] == "True") && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let pods = list["items"].as_array().expect("pods").iter().filter(is_ready);
    pods.map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()).collect()
}

fn a_dead_worker_is_replaced(layout: &Layout) {
    const DEAD: &str = "worker-3";
    layout.apply("moving", MOVING);
    layout.kubectl("rollout status deployment/moving --timeout=60s");
    assert!(places_of_moving(layout).iter().any(|place| place == DEAD), "no pod is where it is about to die");
    layout.must(&["node", "stop", DEAD]);
    let begin = std::time::Instant::now();
    // Nobody hears from a kubelet for 50 s before its node counts as gone.
    eventually("its pods run elsewhere", Duration::from_secs(120), || {
        let places = places_of_moving(layout);
        (places.len() == 3 && places.iter().all(|place| place != DEAD)).then_some(())
    });
    println!("{DEAD} switched off: its pods run elsewhere after {:?}", begin.elapsed());
    layout.must(&["node", "start", DEAD]);
    layout.until_whole(WHOLE);
    layout.kubectl("delete deployment moving");
}

fn without_a_majority(layout: &Layout, record: &Record, masters: &[String]) {
    for master in &masters[..2] {
        layout.must(&["node", "cut", master]);
    }
    let refused = eventually("writes are refused", LATEST, || {
        let output = layout.try_kubectl("create configmap refused --request-timeout=20s");
        (!output.status.success()).then(|| text(&output))
    });
    println!("without a majority: {}", refused.trim());
    assert!(!refused.contains("panic") && !refused.trim().is_empty());
    for master in &masters[..2] {
        layout.must(&["node", "heal", master]);
    }
    layout.until_whole(WHOLE);
    record.until_writing(BALANCED, LATEST);
}

fn everything_at_once(layout: &Layout, record: &Record, writers: usize) {
    let topology = layout.topology();
    for host in topology["hosts"].as_array().expect("hosts") {
        let name = host["name"].as_str().expect("a name");
        let run = layout.dir.join("hosts").join(name).join("run");
        let files = std::fs::read_dir(run).expect("pid files").flatten().map(|entry| entry.path());
        let mut names: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|end| end == "pid"))
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .filter(|name| name != "nginx-master")
            .collect();
        // The supervisor first: it would start the others again.
        names.sort_by_key(|name| name != "argosy");
        names.iter().for_each(|process| layout.kill(name, process));
    }
    layout.must(&["up"]);
    layout.until_whole(WHOLE);
    record.until_writing(writers, LATEST);
    let nginx = std::fs::read_to_string(layout.dir.join("hosts/balancer/logs/nginx.log")).expect("nginx's log");
    assert!(!nginx.contains("Address already in use"), "workers of the killed nginx were left: {nginx}");
}
