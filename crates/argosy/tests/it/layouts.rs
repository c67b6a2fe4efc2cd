//! Each of the four layouts: up from one command, pods on every node that every node reaches through a Service, and down
//! without a trace.

use std::{collections::BTreeSet, fs, process::Command, sync::PoisonError, time::Duration};

use crate::{
    harness::{eventually, text},
    layout::{Layout, NETWORKS},
};

/// One pod on every node, and a Service in front of all.
pub const HELLO: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: localhost/argosy/argosy:0.1.0
        args: [hello, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
";

#[test]
fn single() {
    from_up_to_down("single", 1, 1);
}

#[test]
fn single_schedulable() {
    from_up_to_down("single-schedulable", 1, 2);
}

#[test]
fn ha() {
    from_up_to_down("ha", 3, 3);
}

#[test]
fn ha_schedulable() {
    from_up_to_down("ha-schedulable", 3, 6);
}

fn from_up_to_down(shape: &str, masters: usize, nodes: usize) {
    let layout = Layout::start(shape);
    assert_eq!((layout.hosts("master").len(), layout.hosts("node").len()), (masters, nodes));
    let status = layout.must(&["status"]);
    assert!(!status.contains('✗') && status.contains(shape), "{status}");
    // Again changes nothing.
    let before: Vec<u32> = layout.hosts("master").iter().map(|host| layout.pid(host, "kube-apiserver")).collect();
    layout.must(&["up", "--topology", shape]);
    let after: Vec<u32> = layout.hosts("master").iter().map(|host| layout.pid(host, "kube-apiserver")).collect();
    assert_eq!(before, after);
    let other = layout.argosy(&["up", "--topology", if shape == "ha" { "single" } else { "ha" }]);
    assert!(!other.status.success() && text(&other).contains("--purge"), "{}", text(&other));

    layout.apply("hello", HELLO);
    layout.kubectl("rollout status daemonset/hello --timeout=90s");
    let names = layout.kubectl("get pods -l app=hello -o jsonpath={.items[*].metadata.name}");
    let pods: BTreeSet<&str> = names.split_whitespace().collect();
    assert_eq!(pods.len(), nodes, "a pod on every node");
    let address = layout.kubectl("get service hello -o jsonpath={.spec.clusterIP}");
    for host in layout.hosts("node") {
        every_pod_answers(&layout, &host, &address, &pods);
    }
    let node = &layout.hosts("node")[0];
    let pod = layout.kubectl(&format!(
        "get pods -l app=hello --field-selector=spec.nodeName={node} -o jsonpath={{.items[0].metadata.name}}"
    ));
    eventually("the Service has a name", Duration::from_secs(30), || {
        let by_name = format!("exec {pod} -- argosy hello --get http://hello.default.svc.cluster.local/");
        text(&layout.try_kubectl(&by_name)).contains("Hello from").then_some(())
    });
    assert!(layout.kubectl(&format!("logs {pod}")).contains("answering on port"));
    if masters == 1 {
        let refused = layout.argosy(&["node", "join", "--role=master"]);
        assert!(!refused.status.success() && text(&refused).contains("has one master"), "{}", text(&refused));
    }
    if shape == "single" {
        a_machine_joins_by_token(&layout);
    }
    ends_without_a_trace(&layout);
}

/// On the network of the master, which is no node here.
fn a_machine_joins_by_token(layout: &Layout) {
    let dir = layout.dir.join("joined");
    let (dir, binary) = (dir.to_string_lossy(), env!("CARGO_BIN_EXE_argosy"));
    let command = layout.must(&["token", "create", "--print-join-command"]);
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let wrong = words
        .iter()
        .map(|word| if word.contains('.') && !word.contains(':') { "abcdef.0123456789abcdef" } else { word });
    let run = |words: Vec<&str>| {
        let own = ["--data-dir", &dir, "--hostname-override=joined", "--cgroup-root=/argosy-test-joined"];
        let eviction = "--eviction-hard=memory.available<50Mi";
        let command = [&["node", "exec", "master-1", "--", binary], &words[..], &own, &[eviction]].concat();
        layout.command(&command)
    };
    let refused = run(wrong.collect()).output().expect("it runs");
    assert!(!refused.status.success() && text(&refused).contains("token"), "{}", text(&refused));
    assert!(!layout.dir.join("joined").exists(), "nothing half-done is left behind");

    let log = fs::File::create(layout.dir.join("joined.log")).expect("a log");
    let mut agent = run(words).stderr(log).spawn().expect("it runs");
    eventually("the machine joins", Duration::from_secs(60), || {
        let ended = agent.try_wait().expect("waited");
        assert!(ended.is_none(), "{}", fs::read_to_string(layout.dir.join("joined.log")).expect("a log"));
        layout.try_kubectl("wait node/joined --for=condition=Ready --timeout=1s").status.success().then_some(())
    });
    layout.kubectl("rollout status daemonset/hello --timeout=60s");
    // Through the certificate that the cluster gave it to serve with.
    eventually("its pod can be asked", Duration::from_secs(30), || {
        let pods = "get pods -l app=hello --field-selector=spec.nodeName=joined -o jsonpath={.items[0].metadata.name}";
        let pod = layout.kubectl(pods);
        text(&layout.try_kubectl(&format!("logs {pod}"))).contains("answering on port").then_some(())
    });
    layout.must(&["node", "exec", "master-1", "--", binary, "down", "--purge", "--data-dir", &dir]);
    assert!(agent.wait().expect("waited").success());
}

/// From a node, through the Service, until each of its pods has answered.
pub fn every_pod_answers(layout: &Layout, host: &str, address: &str, pods: &BTreeSet<&str>) {
    let url = format!("http://{address}/");
    let binary = env!("CARGO_BIN_EXE_argosy");
    let mut missing = pods.clone();
    eventually(&format!("every pod answers {host}"), Duration::from_secs(30), || {
        let said = text(&layout.argosy(&["node", "exec", host, "--", binary, "hello", "--get", &url]));
        missing.retain(|pod| !said.contains(pod));
        missing.is_empty().then_some(())
    });
}

pub fn ends_without_a_trace(layout: &Layout) {
    let (dir, prefix) = (layout.dir.to_string_lossy().into_owned(), layout.prefix());
    let _no_other_begins = NETWORKS.write().unwrap_or_else(PoisonError::into_inner);
    layout.must(&["down", "--purge"]);
    assert!(!layout.dir.exists());
    let of_run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let places = [
        fs::read_to_string("/proc/self/mountinfo").expect("mounts"),
        of_run("ip", &["netns"]),
        of_run("ip", &["-brief", "link"]),
        of_run("nft", &["list", "tables"]),
        of_run("ls", &["/sys/fs/cgroup/", "/sys/fs/cgroup/memory"]),
        of_run("ps", &["-eo", "pid,args"]),
    ];
    let (below, bridge) = (format!("{dir}/"), prefix.trim_end_matches('-'));
    let ours = |line: &&str| {
        let has = |wanted: &str| line.split_whitespace().any(|word| word == wanted);
        line.contains(&below) || has(&dir) || line.contains(&prefix) || has(bridge)
    };
    let left: Vec<&str> = places.iter().flat_map(|text| text.lines()).filter(ours).collect();
    assert_eq!(left, Vec::<&str>::new());
}
