//! Further nodes beside the one process that is everything: pods on all of them reach each other, they come back with it,
//! and they go without a trace.

use std::{collections::BTreeSet, sync::PoisonError};

use crate::{
    harness::{Cluster, text},
    layout::{Layout, NETWORKS},
    layouts::{HELLO, ends_without_a_trace, every_pod_answers},
};

#[test]
fn nodes_join_the_one_process_and_go() {
    let cluster = Cluster::start(8);
    let layout = Layout { dir: cluster.dir.clone() };
    let claiming = NETWORKS.read().unwrap_or_else(PoisonError::into_inner);
    layout.must(&["node", "join"]);
    drop(claiming);
    layout.must(&["node", "join"]);
    layout.apply("hello", HELLO);
    every_node_reaches_every_pod(&layout);

    layout.must(&["down"]);
    let up = cluster.up();
    assert!(up.status.success() && text(&up).contains("3 nodes are Ready"), "{}", text(&up));
    every_node_reaches_every_pod(&layout);
    let status = layout.must(&["status"]);
    assert!(!status.contains('✗') && status.contains("worker-2"), "{status}");

    layout.must(&["node", "remove", "worker-1"]);
    assert!(!layout.kubectl("get nodes").contains("worker-1"));
    layout.must(&["status"]);
    ends_without_a_trace(&layout);
}

fn every_node_reaches_every_pod(layout: &Layout) {
    layout.kubectl("rollout status daemonset/hello --timeout=90s");
    let names = layout.kubectl("get pods -l app=hello -o jsonpath={.items[*].metadata.name}");
    let pods: BTreeSet<&str> = names.split_whitespace().collect();
    assert_eq!(pods.len(), 3, "a pod on every node");
    let address = layout.kubectl("get service hello -o jsonpath={.spec.clusterIP}");
    for host in layout.hosts("node") {
        every_pod_answers(layout, &host, &address, &pods);
    }
    // The machine itself is the node that is no host.
    for pod in pods {
        let place = layout.kubectl(&format!("get pod {pod} -o jsonpath={{.status.podIP}}"));
        let from = layout.kubectl(&format!("exec {pod} -- argosy hello --get http://{address}/"));
        assert!(from.contains("Hello from"), "{pod} reaches no Service: {from}");
        let url = format!("http://{place}:8080/");
        let said = layout.argosy_alone(&["hello", "--get", &url]);
        assert!(text(&said).contains(pod), "{pod} at {place}: {}", text(&said));
    }
}
