//! The part of the table that is there without any Service: hooks, the maps that dispatch, masquerading (upstream
//! `setupNFTables` in `pkg/proxy/nftables/proxier.go`).

use std::sync::Arc;

use crate::{Chain, Cidr, Family, RulesConfig, Ruleset, SetSpec};

pub const REJECT: &str = "reject-chain";

/// A condition, and the chain to jump to under it.
type Jump = (&'static str, &'static str);

/// Base chains: name, hook, and the chains they jump to, each with a condition. Priorities are numbers because nft knows
/// `dstnat` and `srcnat` by name only in some hooks.
const BASE: [(&str, &str, &[Jump]); 8] = [
    (
        "filter-prerouting-pre-dnat",
        "type filter hook prerouting priority -110; policy accept;",
        &[("ct state new", "firewall-check")],
    ),
    (
        "filter-output-pre-dnat",
        "type filter hook output priority -110; policy accept;",
        &[("ct state new", "firewall-check")],
    ),
    (
        "filter-input",
        "type filter hook input priority 0; policy accept;",
        &[("ct state new", "nodeport-endpoints-check"), ("ct state new", "service-endpoints-check")],
    ),
    (
        "filter-forward",
        "type filter hook forward priority 0; policy accept;",
        &[("ct state new", "service-endpoints-check"), ("ct state new", "cluster-ips-check")],
    ),
    (
        "filter-output",
        "type filter hook output priority 0; policy accept;",
        &[("ct state new", "service-endpoints-check"), ("ct state new", "cluster-ips-check")],
    ),
    ("nat-prerouting", "type nat hook prerouting priority -100; policy accept;", &[("", "services")]),
    ("nat-output", "type nat hook output priority -100; policy accept;", &[("", "services")]),
    ("nat-postrouting", "type nat hook postrouting priority 100; policy accept;", &[("", "masquerading")]),
];

/// `mark` set so that the packet is masqueraded on its way out.
pub fn masquerade(config: &RulesConfig) -> String {
    format!("mark set mark or {}", mark(config))
}

fn mark(config: &RulesConfig) -> String {
    format!("{:#010x}", 1u32.checked_shl(config.masquerade_bit.into()).unwrap_or(1 << 14))
}

/// The ranges as an nft set: `{ 10.244.0.0/16, 10.245.0.0/16 }`. A range inside another is left out: nft refuses overlaps,
/// and with them the whole transaction.
pub fn ranges(ranges: &[Cidr]) -> String {
    let mut outer: Vec<&Cidr> = Vec::new();
    let mut by_size: Vec<&Cidr> = ranges.iter().collect();
    by_size.sort_by_key(|range| (range.prefix(), **range));
    for range in by_size {
        if !outer.iter().any(|other| other.contains(range.address())) {
            outer.push(range);
        }
    }
    let ranges: Vec<String> = outer.into_iter().map(Cidr::to_string).collect();
    format!("{{ {} }}", ranges.join(", "))
}

/// The table without a Service.
pub fn base(config: &RulesConfig) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let address = config.family.nft_type();
    let mut set = |name: &str, is_map: bool, body: String| {
        ruleset.sets.insert(name.into(), Arc::new(SetSpec { is_map, body }));
    };
    set("cluster-ips", false, format!("type {address};"));
    set("hairpin-connections", false, format!("type {address} . {address} . inet_proto . inet_service;"));
    for map in ["firewall-ips", "no-endpoint-services", "service-ips"] {
        set(map, true, format!("type {address} . inet_proto . inet_service : verdict;"));
    }
    for map in ["no-endpoint-nodeports", "service-nodeports"] {
        set(map, true, "type inet_proto . inet_service : verdict;".to_owned());
    }
    for (name, hook, jumps) in BASE {
        let jump = |(condition, chain): &Jump| format!("{condition} jump {chain}").trim_start().to_owned();
        let rules = jumps.iter().map(jump).collect();
        ruleset.chains.insert(name.into(), Arc::new(Chain { hook: Some(hook), rules }));
    }
    for (name, rules) in inner_chains(config) {
        ruleset.chains.insert(name.into(), Arc::new(Chain { hook: None, rules }));
    }
    ruleset
}

fn inner_chains(config: &RulesConfig) -> [(&'static str, Vec<String>); 7] {
    let ip = config.family;
    let mark = mark(config);
    let local = local_destination(config);
    let mut unknown = vec![
        format!("{ip} daddr @cluster-ips meta l4proto tcp reject with tcp reset"),
        format!("{ip} daddr @cluster-ips reject"),
    ];
    let service_cidrs: Vec<Cidr> = config.service_cidrs.iter().filter(|cidr| cidr.is_of(ip)).copied().collect();
    if !service_cidrs.is_empty() {
        unknown.push(format!("{ip} daddr {} drop", ranges(&service_cidrs)));
    }
    [
        ("services", services(config, &local)),
        (
            "masquerading",
            vec![
                format!("mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random"),
                format!(
                    "ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"
                ),
            ],
        ),
        ("cluster-ips-check", unknown),
        ("service-endpoints-check", vec![format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services")]),
        ("nodeport-endpoints-check", vec![format!("{local} meta l4proto . th dport vmap @no-endpoint-nodeports")]),
        ("firewall-check", vec![format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips")]),
        // A TCP client learns of the refusal from a reset also where ICMP is filtered.
        (REJECT, vec!["meta l4proto tcp reject with tcp reset".to_owned(), "reject".to_owned()]),
    ]
}

fn services(config: &RulesConfig, local: &str) -> Vec<String> {
    let ip = config.family;
    let mut rules = Vec::new();
    let from_outside = match (config.masquerade_all, from_pods(config, "!=")) {
        (true, _) => Some(String::new()),
        (false, condition) => condition.map(|condition| condition + " "),
    };
    rules.extend(from_outside.map(|condition| format!("{ip} daddr @cluster-ips {condition}{}", masquerade(config))));
    rules.push(format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"));
    rules.push(format!("fib daddr type local {local} meta l4proto . th dport vmap @service-nodeports"));
    rules
}

/// The condition that a packet's source is (`==`) or is not (`!=`) a pod; `None` where the pods' addresses are unknown.
pub fn from_pods(config: &RulesConfig, relation: &str) -> Option<String> {
    let pods: Vec<Cidr> = config.cluster_cidrs.iter().filter(|cidr| cidr.is_of(config.family)).copied().collect();
    (!pods.is_empty()).then(|| format!("{} saddr {relation} {}", config.family, ranges(&pods)))
}

/// The condition that a destination is one on which NodePorts answer, given that it is local.
fn local_destination(config: &RulesConfig) -> String {
    let ip = config.family;
    let only: Vec<Cidr> = config.node_port_addresses.iter().filter(|cidr| cidr.is_of(ip)).copied().collect();
    let not_loopback = match ip {
        Family::Ipv4 => "ip daddr != 127.0.0.0/8",
        Family::Ipv6 => "ip6 daddr != ::1",
    };
    if only.is_empty() { not_loopback.to_owned() } else { format!("{not_loopback} {ip} daddr {}", ranges(&only)) }
}
