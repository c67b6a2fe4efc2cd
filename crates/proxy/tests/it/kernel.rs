//! The proxy on the real kernel: a node, two pods and an outside client, each a network namespace, with real traffic.
//! Needs root and the programs ip, nft and conntrack.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use proxy::{Proxy, ProxyConfig};
use serde_json::{Value, json};
use testkit::Api;
use tokio_util::sync::CancellationToken;

use crate::objects::{config, ready, service_json, slice_json};

/// Answers `POD-NAME CLIENT-ADDRESS` over TCP and UDP.
const ECHO: &str = r#"
import socket, sys, threading
name, port = sys.argv[1], int(sys.argv[2])
tcp = socket.create_server(("0.0.0.0", port))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", port))
def datagrams():
    while True:
        data, peer = udp.recvfrom(100)
        udp.sendto(f"{name} {peer[0]}".encode(), peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    connection, peer = tcp.accept()
    connection.sendall(f"{name} {peer[0]}".encode())
    connection.close()
"#;

/// Prints an answer, or the name of the error.
const ASK: &str = r#"
import socket, sys
kind, address, port, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
try:
    if kind == "tcp":
        c = socket.create_connection((address, port), timeout=2)
        c.settimeout(2)
        print(c.recv(100).decode())
    else:
        c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        c.settimeout(2)
        c.bind(("0.0.0.0", source))
        c.connect((address, port))
        c.send(b"x")
        print(c.recv(100).decode())
except Exception as e:
    print(type(e).__name__)
"#;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn ip(line: &str) {
    run("ip", &line.split_whitespace().collect::<Vec<_>>());
}

/// Namespaces and processes that go when the test ends, however it ends.
struct Machines {
    prefix: String,
    names: Vec<&'static str>,
    servers: Vec<std::process::Child>,
    dir: PathBuf,
}

impl Machines {
    /// `node` routes between `client` (192.0.2.2), `pod1` (10.244.1.2), `pod2` (10.244.2.2) and an uplink.
    fn new(test: &str) -> Machines {
        let prefix = format!("kp{}{test}", std::process::id() % 10_000);
        let dir = std::env::temp_dir().join(&prefix);
        fs::create_dir_all(&dir).unwrap();
        let mut machines = Machines { prefix, names: Vec::new(), servers: Vec::new(), dir };
        machines.add("node");
        for (name, net) in [("client", "192.0.2"), ("uplink", "198.18.0"), ("pod1", "10.244.1"), ("pod2", "10.244.2")] {
            machines.add(name);
            let (node, other) = (machines.net("node"), machines.net(name));
            ip(&format!("-n {node} link add {name} type veth peer name eth0 netns {other}"));
            ip(&format!("-n {node} addr add {net}.1/24 dev {name}"));
            ip(&format!("-n {node} link set {name} up"));
            ip(&format!("-n {other} addr add {net}.2/24 dev eth0"));
            ip(&format!("-n {other} link set eth0 up"));
            ip(&format!("-n {other} route add default via {net}.1"));
        }
        // Service addresses are on no link: without a default route nothing is sent to them.
        ip(&format!("-n {} route add default via 198.18.0.2", machines.net("node")));
        machines.exec("node", &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        machines
    }

    fn add(&mut self, name: &'static str) {
        ip(&format!("netns add {}{name}", self.prefix));
        self.names.push(name);
        ip(&format!("-n {} link set lo up", self.net(name)));
    }

    fn net(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn exec(&self, name: &str, command: &[&str]) -> String {
        let net = self.net(name);
        run("ip", &[&["netns", "exec", net.as_str()], command].concat())
    }

    fn serve(&mut self, name: &'static str, port: u16) {
        let net = self.net(name);
        let mut child = Command::new("ip")
            .args(["netns", "exec", &net, "python3", "-c", ECHO, name, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
        self.servers.push(child);
    }

    fn ask(&self, from: &str, kind: &str, address: &str, port: u16) -> String {
        self.ask_from(from, kind, address, port, 0)
    }

    fn ask_from(&self, from: &str, kind: &str, address: &str, port: u16, source: u16) -> String {
        self.exec(from, &["python3", "-c", ASK, kind, address, &port.to_string(), &source.to_string()])
    }

    /// A program that runs another one in the node's network.
    fn in_node(&self, program: &str) -> String {
        let path = self.dir.join(program);
        let script = format!("#!/bin/sh\nexec nsenter --net=/run/netns/{} {program} \"$@\"\n", self.net("node"));
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn config(&self, table: &str) -> ProxyConfig {
        ProxyConfig {
            node_name: "n1".into(),
            table: table.into(),
            rules: config(),
            healthz_bind_address: None,
            nft: self.in_node("nft"),
            conntrack: self.in_node("conntrack"),
            ..ProxyConfig::default()
        }
    }

    fn table(&self, name: &str) -> String {
        let net = self.net("node");
        let output = Command::new("ip").args(["netns", "exec", &net, "nft", "list", "table", "ip", name]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    async fn until_table(&self, name: &str, what: &str, there: bool) {
        until(&format!("{what:?} in the table: {there}"), || self.table(name).contains(what) == there).await;
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", &self.net(name)]).status();
        }
        let _ = fs::remove_dir_all(Path::new(&self.dir));
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ports() -> Value {
    json!([{"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30080},
        {"name": "u", "port": 80, "protocol": "UDP", "nodePort": 30080}])
}

fn web(more: Value) -> Value {
    service_json("web", "10.96.0.20", ports(), more)
}

fn slice(addresses: &[&str]) -> Value {
    let ports = json!([{"name": "t", "port": 8080, "protocol": "TCP"}, {"name": "u", "port": 8080, "protocol": "UDP"}]);
    slice_json("web", ports, addresses.iter().map(|address| ready(address, "n1")).collect())
}

fn start(config: ProxyConfig, api: &Api) -> CancellationToken {
    let cancel = CancellationToken::new();
    tokio::spawn(Proxy::run(config, api.client(), cancel.clone()));
    cancel
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_reaches_endpoints() {
    let mut machines = Machines::new("a");
    machines.serve("pod1", 8080);
    machines.serve("pod2", 8080);
    let api = Api::default();
    api.put("nodes", json!({"metadata": {"name": "n1", "uid": "n1"}}));
    api.put("services", web(json!({"type": "NodePort"})));
    api.put("endpointslices", slice(&["10.244.1.2"]));
    let cancel = start(machines.config("kube-proxy"), &api);
    machines.until_table("kube-proxy", "10.244.1.2", true).await;
    for kind in ["tcp", "udp"] {
        // From outside the cluster: masqueraded. From a pod: its own address. From the node: the node's.
        assert_eq!(machines.ask("client", kind, "10.96.0.20", 80), "pod1 10.244.1.1");
        assert_eq!(machines.ask("client", kind, "192.0.2.1", 30080), "pod1 10.244.1.1");
        assert_eq!(machines.ask("client", kind, "10.244.2.1", 30080), "pod1 10.244.1.1", "every local address");
        assert_eq!(machines.ask("pod2", kind, "10.96.0.20", 80), "pod1 10.244.2.2");
        assert!(machines.ask("node", kind, "10.96.0.20", 80).starts_with("pod1 "));
        // To itself and back: by way of the node's address.
        assert_eq!(machines.ask("pod1", kind, "10.96.0.20", 80), "pod1 10.244.1.1", "hairpin");
    }
    // A UDP flow that goes on while its endpoint moves.
    assert!(machines.ask_from("pod2", "udp", "10.96.0.20", 80, 4444).starts_with("pod1"));
    api.put("endpointslices", slice(&["10.244.2.2"]));
    machines.until_table("kube-proxy", "10.244.1.2", false).await;
    let moved = || machines.ask_from("client", "udp", "10.96.0.20", 80, 4444).starts_with("pod2");
    until("the flow to follow", moved).await;
    until("the pod's flow to follow", || machines.ask_from("pod2", "udp", "10.96.0.20", 80, 4444).starts_with("pod2"))
        .await;
    // Without endpoints the client is told at once.
    api.put("endpointslices", slice(&[]));
    machines.until_table("kube-proxy", "10.244.2.2", false).await;
    for kind in ["tcp", "udp"] {
        for (address, port) in [("10.96.0.20", 80), ("192.0.2.1", 30080)] {
            assert_eq!(machines.ask("client", kind, address, port), "ConnectionRefusedError", "{kind} {address}");
        }
    }
    assert_eq!(machines.ask("node", "tcp", "10.96.0.20", 80), "ConnectionRefusedError");
    assert_eq!(machines.ask("client", "tcp", "10.96.0.20", 81), "ConnectionRefusedError", "no such port");
    // What is deleted is gone, after a while also its chains.
    api.delete("services", "web");
    machines.until_table("kube-proxy", "10.96.0.20", false).await;
    machines.until_table("kube-proxy", "ns/web", false).await;
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_stay_with_their_endpoint() {
    let mut machines = Machines::new("b");
    machines.serve("pod1", 8080);
    machines.serve("pod2", 8080);
    let api = Api::default();
    let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100}}});
    api.put("services", web(sticky));
    api.put("endpointslices", slice(&["10.244.1.2", "10.244.2.2"]));
    let cancel = start(machines.config("kube-proxy"), &api);
    machines.until_table("kube-proxy", "10.244.2.2", true).await;
    let first = machines.ask("client", "tcp", "10.96.0.20", 80);
    assert!(first.starts_with("pod"), "{first}");
    for _ in 0..8 {
        assert_eq!(machines.ask("client", "tcp", "10.96.0.20", 80), first);
    }
    // Without affinity both endpoints get some of 20 connections, all but surely.
    api.put("services", web(json!({})));
    machines.until_table("kube-proxy", "affinity", false).await;
    let all: std::collections::BTreeSet<String> =
        (0..20).map(|_| machines.ask("client", "tcp", "10.96.0.20", 80)).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn local_policy_keeps_the_source_and_source_ranges_keep_out() {
    let mut machines = Machines::new("c");
    machines.serve("pod1", 8080);
    let api = Api::default();
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["198.51.100.0/24", "198.51.100.0/25"], "externalIPs": ["203.0.113.1"],
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}]}}});
    api.put("services", web(local));
    api.put("endpointslices", slice(&["10.244.1.2"]));
    let cancel = start(machines.config("kube-proxy"), &api);
    machines.until_table("kube-proxy", "10.244.1.2", true).await;
    assert_eq!(machines.ask("client", "tcp", "192.0.2.1", 30080), "pod1 192.0.2.2");
    assert_eq!(machines.ask("client", "tcp", "203.0.113.1", 80), "pod1 192.0.2.2");
    assert_eq!(machines.ask("client", "tcp", "203.0.113.2", 80), "TimeoutError", "not in the source ranges");
    ip(&format!("-n {} addr add 198.51.100.7/32 dev eth0", machines.net("client")));
    ip(&format!("-n {} route add 198.51.100.7/32 via 192.0.2.2 dev client", machines.net("node")));
    ip(&format!("-n {} route add 203.0.113.2/32 via 192.0.2.1 src 198.51.100.7", machines.net("client")));
    assert_eq!(machines.ask("client", "tcp", "203.0.113.2", 80), "pod1 198.51.100.7");
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_share_a_kernel_and_a_damaged_table_is_rewritten() {
    let mut machines = Machines::new("d");
    machines.serve("pod1", 8080);
    let (api, other) = (Api::default(), Api::default());
    api.put("services", web(json!({})));
    api.put("endpointslices", slice(&["10.244.1.2"]));
    other.put("services", service_json("web", "10.97.0.20", json!([{"name": "t", "port": 80}]), json!({})));
    other.put("endpointslices", slice(&["10.244.1.2"]));
    let first = start(machines.config("kube-proxy"), &api);
    let second = start(machines.config("kube-proxy-b"), &other);
    machines.until_table("kube-proxy", "10.244.1.2", true).await;
    machines.until_table("kube-proxy-b", "10.244.1.2", true).await;
    assert_eq!(machines.ask("client", "tcp", "10.96.0.20", 80), "pod1 10.244.1.1");
    assert_eq!(machines.ask("client", "tcp", "10.97.0.20", 80), "pod1 10.244.1.1");
    // The rules outlive the proxy, and go when asked to; the other cluster's stay.
    second.cancel();
    assert_eq!(machines.ask("client", "tcp", "10.97.0.20", 80), "pod1 10.244.1.1");
    let nft = proxy::NftCli::new(&machines.in_node("nft"));
    let table = machines.config("kube-proxy-b").table();
    proxy::cleanup(&table, &nft).await.unwrap();
    proxy::cleanup(&table, &nft).await.expect("that there is none is success");
    assert_eq!(machines.table("kube-proxy-b"), "");
    // Somebody takes our table away: the next change fails, and then everything is written again.
    machines.exec("node", &["nft", "delete", "table", "ip", "kube-proxy"]);
    api.put("endpointslices", slice(&["10.244.1.2", "10.244.2.2"]));
    machines.until_table("kube-proxy", "10.244.2.2", true).await;
    api.put("endpointslices", slice(&["10.244.1.2"]));
    machines.until_table("kube-proxy", "10.244.2.2", false).await;
    assert_eq!(machines.ask("client", "tcp", "10.96.0.20", 80), "pod1 10.244.1.1");
    first.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_among_many_services_is_written_soon() {
    let machines = Machines::new("e");
    let api = Api::default();
    for number in 0..1000 {
        let address = format!("10.96.{}.{}", 10 + number / 250, number % 250);
        let ports = json!([{"name": "t", "port": 80}]);
        api.put("services", service_json(&format!("s{number}"), &address, ports.clone(), json!({})));
        let ports = json!([{"name": "t", "port": 8080, "protocol": "TCP"}]);
        api.put("endpointslices", slice_json(&format!("s{number}"), ports, json!([ready("10.244.1.2", "n1")])));
    }
    let cancel = start(machines.config("kube-proxy"), &api);
    machines.until_table("kube-proxy", "s999", true).await;
    let ports = json!([{"name": "t", "port": 8080, "protocol": "TCP"}]);
    let started = Instant::now();
    api.put("endpointslices", slice_json("s500", ports, json!([ready("10.244.1.9", "n1")])));
    let chain = || machines.exec("node", &["nft", "list", "chain", "ip", "kube-proxy", "service-ns/s500/tcp/t"]);
    while !chain().contains("10.244.1.9") {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    println!("one endpoint among 1,000 services in the kernel after {:?}", started.elapsed());
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told() {
    let machines = Machines::new("f");
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (healthz, check) = (free(), free().port());
    let api = Api::default();
    api.put("nodes", json!({"metadata": {"name": "n1", "uid": "n1"}}));
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": check});
    api.put("services", web(local));
    api.put("endpointslices", slice(&["10.244.1.2", "10.244.1.3"]));
    let cancel = start(ProxyConfig { healthz_bind_address: Some(healthz), ..machines.config("kube-proxy") }, &api);
    let get = |address: String| {
        let output = Command::new("curl").args(["-s", "-w", " %{http_code}", &address]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let check = format!("http://127.0.0.1:{check}/");
    until("the Service's health", || get(check.clone()).ends_with(" 200")).await;
    let answer = get(check.clone());
    assert!(answer.contains(r#""localEndpoints":2"#) && answer.contains(r#""name":"web""#), "{answer}");
    until("the proxy's health", || get(format!("http://{healthz}/healthz")).ends_with(" 200")).await;
    assert!(get(format!("http://{healthz}/metrics")).ends_with(" 404"), "nothing but health");
    api.put("endpointslices", slice(&[]));
    until("no endpoint", || get(check.clone()).ends_with(" 503")).await;
    let taint = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    api.put("nodes", json!({"metadata": {"name": "n1", "uid": "n1"}, "spec": {"taints": taint}}));
    until("a node to be removed", || get(format!("http://{healthz}/healthz")).ends_with(" 503")).await;
    assert!(get(format!("http://{healthz}/livez")).ends_with(" 200"));
    api.delete("services", "web");
    until("the port to close", || get(check.clone()).ends_with("000")).await;
    cancel.cancel();
}
