//! Cells of services, endpoints and ingresses.

use jiff::Timestamp;

use crate::table::cells::{at, first_few, host_port, items, labels, selector, text_or};
use crate::value::Value;

type Cell = Value;

/// Addresses, ports or hosts that are shown before the others are only counted.
const SHOWN: usize = 3;

fn texts(object: &Value, path: &[&str]) -> Vec<String> {
    items(object, path).iter().map(|item| text_or(Some(item), "")).collect()
}

pub fn cluster_ip(service: &Value, _now: Timestamp) -> Cell {
    let first = texts(service, &["spec", "clusterIPs"]).into_iter().next();
    first.unwrap_or_else(|| text_or(at(service, "spec.clusterIP"), "<none>")).into()
}

/// The addresses of a load balancer, sorted: IPs, or host names where there is no IP.
fn balancer(object: &Value) -> Vec<String> {
    let mut addresses: Vec<String> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|entry| text_or(entry.get("ip"), entry.str_at(&["hostname"])))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub fn external_ip(service: &Value, _now: Timestamp) -> Cell {
    let mut addresses = match service.str_at(&["spec", "type"]) {
        "ExternalName" => return service.str_at(&["spec", "externalName"]).into(),
        "LoadBalancer" => balancer(service),
        "ClusterIP" | "NodePort" => Vec::new(),
        _ => return "<unknown>".into(),
    };
    addresses.extend(texts(service, &["spec", "externalIPs"]));
    match (addresses.is_empty(), service.str_at(&["spec", "type"])) {
        (true, "LoadBalancer") => "<pending>".into(),
        (true, _) => "<none>".into(),
        (false, _) => addresses.join(",").into(),
    }
}

pub fn service_ports(service: &Value, _now: Timestamp) -> Cell {
    let port = |port: &Value| {
        let node = port.get("nodePort").and_then(Value::as_i64).filter(|port| *port > 0);
        let node = node.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}{node}/{}", text_or(port.get("port"), "0"), port.str_at(&["protocol"]))
    };
    let ports: Vec<String> = items(service, &["spec", "ports"]).iter().map(port).collect();
    if ports.is_empty() { "<none>".into() } else { ports.join(",").into() }
}

pub fn endpoints(object: &Value, _now: Timestamp) -> Cell {
    let subsets = items(object, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut addresses = Vec::new();
    for subset in subsets {
        let ips = || items(subset, &["addresses"]).iter().map(|address| address.str_at(&["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            addresses.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = port.get("port").and_then(Value::as_i64).unwrap_or_default();
            addresses.extend(ips().map(|ip| host_port(ip, port)));
        }
    }
    first_few(addresses, SHOWN, ",", "").into()
}

pub fn slice_ports(slice: &Value, _now: Timestamp) -> Cell {
    let port = |port: &Value| text_or(port.get("port"), &text_or(port.get("name"), "*"));
    first_few(items(slice, &["ports"]).iter().map(port).collect(), SHOWN, ",", "<unset>").into()
}

pub fn slice_endpoints(slice: &Value, _now: Timestamp) -> Cell {
    let endpoints = items(slice, &["endpoints"]).iter();
    first_few(endpoints.flat_map(|endpoint| texts(endpoint, &["addresses"])).collect(), SHOWN, ",", "<unset>").into()
}

pub fn ingress_hosts(ingress: &Value, _now: Timestamp) -> Cell {
    let rules = items(ingress, &["spec", "rules"]);
    let mut hosts = Vec::new();
    let mut has_more = false;
    for rule in rules {
        has_more |= hosts.len() == SHOWN;
        let host = rule.str_at(&["host"]);
        if !has_more && !host.is_empty() {
            hosts.push(host);
        }
    }
    match (hosts.is_empty(), has_more) {
        (true, _) => "*".into(),
        (false, true) => format!("{} + {} more...", hosts.join(","), rules.len() - SHOWN).into(),
        (false, false) => hosts.join(",").into(),
    }
}

pub fn ingress_address(ingress: &Value, _now: Timestamp) -> Cell {
    balancer(ingress).join(",").into()
}

pub fn ingress_ports(ingress: &Value, _now: Timestamp) -> Cell {
    if items(ingress, &["spec", "tls"]).is_empty() { "80".into() } else { "80, 443".into() }
}

pub fn ingress_class_parameters(class: &Value, _now: Timestamp) -> Cell {
    let Some(parameters) = at(class, "spec.parameters") else { return "<none>".into() };
    let group = at(parameters, "apiGroup").and_then(Value::as_str);
    let group = group.map_or_else(String::new, |group| format!(".{group}"));
    format!("{}{group}/{}", parameters.str_at(&["kind"]), parameters.str_at(&["name"])).into()
}

/// A policy without a selector is for all pods.
pub fn policy_pods(policy: &Value, _now: Timestamp) -> Cell {
    at(policy, "spec.podSelector").map_or_else(|| labels(None), |pods| selector(Some(pods))).into()
}

pub fn parent_ref(address: &Value, _now: Timestamp) -> Cell {
    let Some(parent) = at(address, "spec.parentRef") else { return "<none>".into() };
    let resource = crate::status::qualified(parent.str_at(&["group"]), parent.str_at(&["resource"])).to_lowercase();
    let namespace = match parent.str_at(&["namespace"]) {
        "" => String::new(),
        namespace => format!("/{namespace}"),
    };
    format!("{resource}{namespace}/{}", parent.str_at(&["name"])).into()
}
