//! A cluster's life: first start, second start, a killed control plane, a killed containerd, the end.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    harness::{Cluster, eventually, kubectls, pause, text},
    machine::{cgroups_of, traces},
};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: hello, labels: {app: hello}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: hello
    image: localhost/argosy/argosy:0.1.0
    args: [hello, --port, '8080']
    resources: {limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{port: 80, targetPort: 8080}]
";

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
    assert!(status.success());
}

/// The pid of the pod's process, as the machine sees it.
fn pod_process(container: &str) -> Option<u32> {
    let id = container.trim_start_matches("containerd://");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(id).then_some(pid)
    })
}

fn answers(url: &str) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_argosy")).args(["hello", "--get", url]).output().expect("runs");
    text(&output).contains("Hello from hello")
}

#[test]
fn from_the_first_start_to_the_last_trace() {
    let cluster = Cluster::start(1);
    assert!(cluster.kubectl("get nodes").contains(" Ready "));
    let status = cluster.argosy(&["status"]);
    assert!(status.status.success(), "{}", text(&status));

    let pid = cluster.pid("argosy");
    let again = cluster.up();
    assert!(again.status.success() && text(&again).contains("already up"), "{}", text(&again));
    assert_eq!(cluster.pid("argosy"), pid, "a second start changes nothing");
    let other = cluster.argosy(&["up", "--secure-port=20999"]);
    assert!(!other.status.success() && text(&other).contains("other settings"), "{}", text(&other));

    cluster.apply("pod", POD);
    cluster.kubectl("wait pod/hello --for=condition=Ready --timeout=60s");
    for (version, kubectl) in kubectls() {
        let run = |arguments: &str| {
            let output =
                Command::new(&kubectl).env("KUBECONFIG", cluster.kubeconfig()).args(arguments.split(' ')).output();
            text(&output.expect("kubectl runs"))
        };
        let logs = run("logs hello");
        assert!(logs.contains("answering on port 8080"), "logs with kubectl {version}: {logs}");
        let said = run("exec hello -- argosy version");
        assert!(said.contains("Kubernetes v1.36"), "exec with kubectl {version}: {said}\n{}", cluster.log());
    }
    let container = cluster.kubectl("get pod hello -o jsonpath={.status.containerStatuses[0].containerID}");
    let address = cluster.kubectl("get service hello -o jsonpath={.spec.clusterIP}");
    let uid = cluster.kubectl("get pod hello -o jsonpath={.metadata.uid}");
    let url = format!("http://{address}/");
    eventually("the Service answers", Duration::from_secs(20), || answers(&url).then_some(()));
    let process = pod_process(&container).expect("the pod's process");
    assert!(!cgroups_of(&uid).is_empty(), "the pod has cgroups");

    survives_a_killed_control_plane(&cluster, &container, process, &url);
    survives_a_killed_containerd(&cluster, &container, process);
    ends_without_a_trace(&cluster, &uid);
}

fn survives_a_killed_control_plane(cluster: &Cluster, container: &str, process: u32, url: &str) {
    kill(cluster.pid("argosy"));
    eventually("the API server is gone", Duration::from_secs(5), || {
        (!cluster.try_kubectl("get nodes --request-timeout=1s").status.success()).then_some(())
    });
    assert!(!cluster.argosy(&["status"]).status.success());
    assert_eq!(pod_process(container), Some(process), "the pod goes on without a control plane");
    assert!(answers(url), "and so does its Service");
    let up = cluster.up();
    assert!(up.status.success(), "{}\n{}", text(&up), cluster.log());
    cluster.kubectl("wait pod/hello --for=condition=Ready --timeout=30s");
    let now = cluster.kubectl("get pod hello -o jsonpath={.status.containerStatuses[0].containerID}");
    assert_eq!(now, container, "the new control plane takes over the same container");
    assert_eq!(cluster.kubectl("get pod hello -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
}

fn survives_a_killed_containerd(cluster: &Cluster, container: &str, process: u32) {
    let before = cluster.pid("containerd");
    kill(before);
    eventually("containerd is started again", Duration::from_secs(20), || {
        (cluster.pid("containerd") != before && cluster.argosy(&["image", "list"]).status.success()).then_some(())
    });
    assert_eq!(pod_process(container), Some(process), "the pod goes on without containerd");
    eventually("exec works again", Duration::from_secs(20), || {
        cluster.try_kubectl("exec hello -- argosy version").status.success().then_some(())
    });
}

fn ends_without_a_trace(cluster: &Cluster, uid: &str) {
    let down = cluster.argosy(&["down"]);
    assert!(down.status.success(), "{}", text(&down));
    assert_eq!(traces(cluster), Vec::<String>::new());
    assert_eq!(cgroups_of(uid), Vec::<String>::new());
    assert!(cluster.argosy(&["down"]).status.success(), "twice is once");

    let up = cluster.up();
    assert!(up.status.success(), "{}\n{}", text(&up), cluster.log());
    cluster.kubectl("wait pod/hello --for=condition=Ready --timeout=60s");
    assert_eq!(cluster.kubectl("get pod hello -o jsonpath={.metadata.uid}"), uid, "the data was kept");

    let purge = cluster.argosy(&["down", "--purge"]);
    assert!(purge.status.success(), "{}", text(&purge));
    assert!(!cluster.dir.exists());
    assert_eq!(traces(cluster), Vec::<String>::new());
}

/// In the foreground, for unit files; a signal ends it in order.
#[test]
fn a_server_in_the_foreground_ends_on_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = ["--secure-port=20901", "--controller-manager-port=20902", "--scheduler-port=20903"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
    command.args(["server", "--disable-agent", "--data-dir"]).arg(folder.path()).args(ports);
    let mut server = command.stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let kubeconfig = folder.path().join("admin.kubeconfig");
    let get = |what: &str| {
        let mut command = Command::new(&kubectls()[0].1);
        command.env("KUBECONFIG", &kubeconfig).args(what.split(' ')).output().expect("kubectl runs")
    };
    eventually("namespaces are there", Duration::from_secs(30), || {
        text(&get("get namespaces")).contains("kube-system").then_some(())
    });
    assert!(Path::new(&kubeconfig).exists());
    let status = Command::new("kill").arg(server.id().to_string()).status().expect("kill runs");
    assert!(status.success());
    let ended = eventually("the server ends", Duration::from_secs(15), || server.try_wait().expect("waited"));
    assert!(ended.success(), "{ended}");
    pause(Duration::from_millis(10));
    assert!(!get("get namespaces --request-timeout=1s").status.success());
}
