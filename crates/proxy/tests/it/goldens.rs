//! What Services become, as text.

use proxy::{RulesConfig, Ruleset, Stale, Table, diff, plan};
use serde_json::{Value, json};

use crate::objects::{config, ready, service_json, slice_json, state};

/// The ruleset without what every table has.
fn own(services: &[Value], slices: &[Value]) -> String {
    let mut rules = plan(&state(services, slices), &config());
    let base = plan(&state(&[], &[]), &config());
    for name in base.sets.keys() {
        rules.sets.remove(name);
    }
    for name in base.chains.keys() {
        rules.chains.remove(name);
    }
    rules.to_string()
}

fn http(more: Value) -> Value {
    service_json("web", "10.96.0.20", json!([{"name": "http", "port": 80, "nodePort": 30080}]), more)
}

fn slice(endpoints: Value) -> Value {
    slice_json("web", json!([{"name": "http", "port": 8080, "protocol": "TCP"}]), endpoints)
}

fn two() -> Value {
    slice(json!([ready("10.244.1.5", "n1"), ready("10.244.2.5", "n2")]))
}

#[test]
fn the_table_without_services() {
    let mut restricted = config();
    restricted.service_cidrs = vec!["10.96.0.0/12".parse().unwrap()];
    restricted.node_port_addresses = vec!["192.168.0.0/16".parse().unwrap(), "192.168.1.0/24".parse().unwrap()];
    insta::assert_snapshot!("table", plan(&state(&[], &[]), &restricted));
    let plain = plan(&state(&[], &[]), &RulesConfig::default());
    assert!(!plain.chains["services"].rules.iter().any(|rule| rule.contains("mark")), "pods are unknown");
}

#[test]
fn services_become_rules() {
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    let balancer = json!({"type": "LoadBalancer", "status": {"loadBalancer": {"ingress": [
        {"ip": "192.0.2.7"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}]}}, "loadBalancerSourceRanges": ["198.51.100.0/24"]});
    let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let remote = slice(json!([ready("10.244.2.5", "n2")]));
    let cases = [
        ("node_port", http(json!({"type": "NodePort"})), two()),
        ("no_endpoints", http(json!({"type": "NodePort", "externalIPs": ["192.0.2.1"]})), slice(json!([]))),
        ("external_local", http(local.clone()), two()),
        ("external_local_elsewhere", http(local), remote.clone()),
        ("internal_local_elsewhere", http(json!({"internalTrafficPolicy": "Local"})), remote),
        ("load_balancer", http(balancer), two()),
        ("affinity", http(sticky), two()),
    ];
    for (name, service, slice) in cases {
        insta::assert_snapshot!(name, own(&[service], &[slice]));
    }
}

/// Which endpoints' addresses the ClusterIP leads to.
#[test]
fn endpoints_are_chosen() {
    let with = |address: &str, node: &str, conditions: Value, hints: Value| json!({"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints});
    let zone = |name: &str| json!({"forZones": [{"name": name}]});
    let node = |name: &str| json!({"forNodes": [{"name": name}], "forZones": [{"name": "z1"}]});
    let ready = json!({"ready": true});
    let draining = json!({"ready": false, "serving": true, "terminating": true});
    let gone = json!({"ready": false, "serving": false, "terminating": true});
    let none = json!({});
    let cases = [
        ("unset means ready", vec![with("10.244.0.1", "n1", none.clone(), none.clone())], vec!["10.244.0.1"]),
        (
            "ready before draining",
            vec![
                with("10.244.0.1", "n1", ready.clone(), none.clone()),
                with("10.244.0.2", "n1", draining.clone(), none.clone()),
            ],
            vec!["10.244.0.1"],
        ),
        (
            "draining where nothing is ready",
            vec![
                with("10.244.0.1", "n1", gone.clone(), none.clone()),
                with("10.244.0.2", "n1", draining, none.clone()),
            ],
            vec!["10.244.0.2"],
        ),
        ("none", vec![with("10.244.0.1", "n1", gone, none.clone())], vec![]),
        (
            "own zone",
            vec![
                with("10.244.0.1", "n1", ready.clone(), zone("z1")),
                with("10.244.0.2", "n2", ready.clone(), zone("z2")),
            ],
            vec!["10.244.0.1"],
        ),
        (
            "hints of another zone only",
            vec![
                with("10.244.0.1", "n1", ready.clone(), zone("z3")),
                with("10.244.0.2", "n2", ready.clone(), zone("z2")),
            ],
            vec!["10.244.0.1", "10.244.0.2"],
        ),
        (
            "one without hint",
            vec![with("10.244.0.1", "n1", ready.clone(), zone("z1")), with("10.244.0.2", "n2", ready.clone(), none)],
            vec!["10.244.0.1", "10.244.0.2"],
        ),
        (
            "own node",
            vec![with("10.244.0.1", "n1", ready.clone(), node("n1")), with("10.244.0.2", "n2", ready, node("n2"))],
            vec!["10.244.0.1"],
        ),
    ];
    for (what, endpoints, expected) in cases {
        let rules = plan(&state(&[http(json!({}))], &[slice(endpoints.into())]), &config());
        let chain = rules.chains.get("service-ns/web/tcp/http");
        let rule = chain.map(|chain| chain.rules.concat()).unwrap_or_default();
        let found: Vec<&str> = rule.split([' ', '{', ':']).filter(|word| word.starts_with("10.244.")).collect();
        assert_eq!(found, expected, "{what}: {rule}");
    }
}

#[test]
fn what_is_none_of_ours_has_no_rules() {
    let mut foreign = http(json!({}));
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
    let hostile = service_json("web", "10.96.0.20", json!([{"name": "x; flush ruleset", "port": 80}]), json!({}));
    for service in [
        foreign,
        hostile,
        http(json!({"type": "ExternalName"})),
        service_json("web", "None", json!([{"name": "http", "port": 80}]), json!({})),
        service_json("web", "fd00::1", json!([{"name": "http", "port": 80}]), json!({})),
        service_json("web", "10.96.0.20", json!([{"name": "http", "port": 70000}]), json!({})),
    ] {
        assert_eq!(own(&[service], &[two()]), "");
    }
}

#[test]
fn a_transaction_as_nft_reads_it() {
    let before = plan(&state(&[http(json!({}))], &[two()]), &config());
    let web = slice(json!([]));
    let after = plan(&state(&[http(json!({}))], &[web]), &config());
    let table = Table { name: "kube-proxy-b".into(), ..Table::default() };
    let (first, committed) = diff(&before, &after, Stale::Keep);
    let (second, left) = diff(&committed, &after, Stale::Delete);
    insta::assert_snapshot!("transaction", format!("{}---\n{}", first.text(&table), second.text(&table)));
    assert_eq!(left, after);
    assert!(diff(&left, &after, Stale::Delete).0.is_empty());
    assert_ne!(before, Ruleset::default());
}
