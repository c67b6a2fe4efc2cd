//! Services (`pkg/apis/core/validation`: validateService, ValidateServiceUpdate).

use std::collections::HashSet;

use api::{Value, names};

use super::{at::At, common};

fn is_headless(spec: &At) -> bool {
    spec.get("clusterIP").text() == "None"
}

fn is_external(spec: &At) -> bool {
    spec.get("type").text() == "ExternalName"
}

const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn check(at: &At) {
    let spec = at.get("spec");
    let kind = spec.get("type").text();
    if !is_external(&spec) {
        // Addresses are given before all else is looked at.
        let before = spec.errors();
        addresses(&spec);
        if spec.errors() == before {
            families(&spec);
        }
        if spec.errors() != before {
            return;
        }
    }
    let ports = spec.get("ports");
    if ports.is_empty() && !is_headless(&spec) && !is_external(&spec) {
        ports.required("");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(&spec) => {
            let place = spec.get("clusterIPs");
            place.index(0).invalid_value("None", format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => external_name(&spec),
        _ => {}
    }
    each_port(&ports, kind);
    common::labels(&spec.get("selector"));
    affinity(&spec);
    for ip in spec.get("externalIPs").items() {
        let before = ip.errors();
        common::ip(&ip);
        if ip.errors() == before {
            common::endpoint_ip(&ip);
        }
    }
    spec.get("type").need_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    load_balancer(at, &spec);
    traffic(&spec);
}

fn external_name(spec: &At) {
    for name in ["clusterIPs", "ipFamilies"].into_iter().filter(|name| !spec.get(name).is_empty()) {
        spec.get(name).forbidden("may not be set for ExternalName services");
    }
    spec.get("ipFamilyPolicy").forbid("may not be set for ExternalName services");
    let name = spec.get("externalName");
    match name.text().strip_suffix('.').unwrap_or(name.text()) {
        "" => name.required(""),
        text => name.problems(text, names::dns1123_subdomain),
    }
}

fn each_port(ports: &At, kind: &str) {
    for port in ports.items() {
        let name = port.get("name");
        if ports.len() > 1 {
            name.need();
        }
        name.named_if_set(names::dns1123_label);
        port.get("port").port();
        port.get("protocol").need_one_of(&["SCTP", "TCP", "UDP"]);
        common::port_or_name(&port.get("targetPort"));
        if port.get("appProtocol").is_set() {
            port.get("appProtocol").named(names::qualified_name);
        }
    }
    ports.unique("name");
    let number = |port: &At<'_, '_>, name: &str| port.get(name).int().unwrap_or(0);
    let mut node_ports: HashSet<(&str, i64)> = HashSet::new();
    let mut own: HashSet<(&str, i64)> = HashSet::new();
    for port in ports.items() {
        let protocol = port.value().str_at(&["protocol"]);
        let node = (protocol, number(&port, "nodePort"));
        if node.1 != 0 {
            if kind == "ClusterIP" {
                port.get("nodePort").forbidden("may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert(node) {
                port.get("nodePort").duplicate();
            }
        }
        let pair = (protocol, number(&port, "port"));
        if !own.insert(pair) {
            // As upstream's Go type prints.
            let mut shown = Value::object();
            shown.set(&["Name"], "");
            shown.set(&["Protocol"], protocol);
            shown.set(&["AppProtocol"], Value::Null);
            shown.set(&["Port"], pair.1);
            shown.set(&["TargetPort"], 0);
            shown.set(&["NodePort"], 0);
            port.duplicate_value(shown);
        }
    }
}

const AFFINITY_SECONDS_MAX: i64 = 86_400;

fn affinity(spec: &At) {
    let (kind, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    kind.need_one_of(&["ClientIP", "None"]);
    if kind.text() == "None" {
        config.forbid("must not be set when session affinity is None");
    }
    if kind.text() == "ClientIP" {
        let detail = "when session affinity type is ClientIP";
        let client = config.get("clientIP");
        let timeout = client.get("timeoutSeconds");
        if let Some(missing) = [&config, &client, &timeout].into_iter().find(|place| !place.is_set()) {
            missing.required(detail);
        } else if timeout.int().is_some_and(|seconds| !(1..=AFFINITY_SECONDS_MAX).contains(&seconds)) {
            timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
        }
    }
}

/// `ValidateServiceClusterIPsRelatedFields`.
fn addresses(spec: &At) {
    let (one, all, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    if one.is_empty() {
        if !all.is_empty() {
            all.invalid("must be empty when `clusterIP` is not specified");
        }
    } else if !all.is_empty() && all.index(0).text() != one.text() {
        all.invalid("first value must match `clusterIP`");
    }
    families.items().for_each(|family| family.one_of(&["IPv4", "IPv6"]));
    families.all_unique("");
    spec.get("ipFamilyPolicy").one_of_if_set(&["PreferDualStack", "RequireDualStack", "SingleStack"]);
    let before = all.errors();
    for (index, ip) in all.items().enumerate() {
        if index == 0 && ip.text() == "None" {
            if all.len() > 1 {
                all.invalid("'None' must be the first and only value");
            }
        } else {
            common::ip(&ip);
        }
    }
    let valid = all.errors() == before;
    if all.len() > 2 {
        return all.invalid("may only hold up to 2 values");
    }
    if !valid || is_headless(spec) {
        return;
    }
    if !common::is_dual_stack(all.texts()) {
        all.invalid("may specify no more than one IP for each IP family");
    }
    for (index, (ip, family)) in all.items().zip(families.texts()).enumerate() {
        if ip.text().contains(':') != (family == "IPv6") {
            ip.invalid(format!("expected an {family} value as indicated by `ipFamilies[{index}]`"));
        }
    }
}

/// What of `initIPFamilyFields` refuses a Service, on a cluster whose Services have IPv4 addresses alone.
fn families(spec: &At) {
    let (all, families, policy) = (spec.get("clusterIPs"), spec.get("ipFamilies"), spec.get("ipFamilyPolicy"));
    let before = spec.errors();
    if policy.text() == "SingleStack" {
        for (list, what) in [(&all, "cluster IPs"), (&families, "IP families")] {
            if list.len() == 2 {
                let rest = format!("when multiple {what} are specified");
                policy.invalid(format!("must be 'RequireDualStack' or 'PreferDualStack' {rest}"));
            }
        }
    }
    if spec.errors() != before || (is_headless(spec) && spec.get("selector").is_empty()) {
        return;
    }
    if policy.text() == "RequireDualStack" {
        policy.invalid("this cluster is not configured for dual-stack services");
    }
    for family in families.items().filter(|family| family.text() != "IPv4") {
        family.invalid("not configured on this cluster");
    }
}

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn load_balancer(at: &At, spec: &At) {
    let is_balanced = spec.get("type").text() == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges");
    let place = spec.get("LoadBalancerSourceRanges");
    let place = place.holding(&ranges);
    let metadata = at.get("metadata");
    let annotations = metadata.get("annotations");
    let annotation = annotations.key(RANGES);
    if !ranges.is_empty() {
        if !is_balanced {
            place.forbidden(ONLY_LOAD_BALANCER);
        }
        for range in place.items() {
            common::cidr_text(&range, range.text().trim());
        }
    } else if annotation.is_set() && !is_balanced {
        annotation.forbidden(ONLY_LOAD_BALANCER);
    } else if !annotation.text().trim().is_empty() {
        for range in annotation.text().split(',') {
            common::cidr_text(&annotation, range.trim());
        }
    }
    let allocates = spec.get("allocateLoadBalancerNodePorts");
    if !is_balanced {
        allocates.forbid(ONLY_LOAD_BALANCER);
    } else if !allocates.is_set() {
        at.get("allocateLoadBalancerNodePorts").required("");
    }
    let class = spec.get("loadBalancerClass");
    if is_balanced && class.is_set() {
        class.named(names::qualified_name);
    } else if !is_balanced {
        class.forbid(ONLY_LOAD_BALANCER);
    }
}

fn traffic(spec: &At) {
    let kind = spec.get("type").text();
    let reachable =
        matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && !spec.get("externalIPs").is_empty());
    let outer = spec.get("externalTrafficPolicy");
    if reachable {
        outer.need_one_of(&["Cluster", "Local"]);
    } else if !outer.is_empty() {
        outer.invalid("may only be set for externally-accessible services");
    }
    let health = spec.get("healthCheckNodePort");
    let number = health.int().unwrap_or(0);
    if kind == "LoadBalancer" && outer.text() == "Local" {
        if number != 0 {
            health.port();
        }
    } else if number != 0 {
        health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    let inner = spec.get("internalTrafficPolicy");
    if !inner.is_set() && matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
        inner.required("");
    }
    inner.one_of_if_set(&["Cluster", "Local"]);
    spec.get("trafficDistribution").one_of_if_set(&["PreferClose", "PreferSameZone", "PreferSameNode"]);
}

/// `ValidateServiceUpdate`: addresses and their families stay, and a second one may come and go.
pub(super) fn update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    if !is_external(&spec) && !is_external(&before) {
        if !(is_headless(&spec) && is_headless(&before)) {
            stays(&spec, &before, "clusterIPs", "clusterIP");
        }
        if !is_headless(&spec) && !is_headless(&before) {
            stays(&spec, &before, "ipFamilies", "ipFamily");
        }
    }
    let (class, was) = (spec.get("loadBalancerClass"), before.get("loadBalancerClass"));
    let balanced = |spec: &At<'_, '_>| spec.get("type").text() == "LoadBalancer";
    if balanced(&spec) && balanced(&before) && !class.same(&was) {
        class.invalid("may not change once set");
    }
    let checked = |spec: &At<'_, '_>| balanced(spec) && spec.get("externalTrafficPolicy").text() == "Local";
    let port = spec.get("healthCheckNodePort");
    if checked(&spec) && checked(&before) && !port.same(&before.get("healthCheckNodePort")) {
        port.forbidden("field is immutable");
    }
}

fn stays(spec: &At, before: &At, list: &str, what: &str) {
    let (now, was) = (spec.get(list), before.get(list));
    if was.len() == now.len() {
        for (new, _) in now.items().zip(was.items()).filter(|(new, old)| !new.same(old)) {
            new.invalid_value(now.value(), "may not change once set");
        }
        return;
    }
    let first = now.index(0);
    if now.is_empty() {
        return first.invalid_value(Vec::<&str>::new(), format!("primary {what} can not be unset"));
    }
    if !was.is_empty() && !first.same(&was.index(0)) {
        first.invalid_value(now.value(), "may not change once set");
    }
    let policy = spec.get("ipFamilyPolicy");
    if now.len() < was.len() && now.len() == 1 && policy.text() != "SingleStack" {
        policy.invalid(format!("must be set to 'SingleStack' when releasing the secondary {what}"));
    }
}

/// `ValidateLoadBalancerStatus`.
pub(super) fn status(at: &At, old: &At) {
    let status = at.get("status");
    let (balancer, was) = (status.get("loadBalancer"), old.get("status"));
    let ingress = balancer.get("ingress");
    if at.get("spec").get("type").text() != "LoadBalancer" && !ingress.is_empty() {
        return ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
    }
    let was = was.get("loadBalancer");
    for point in ingress.items() {
        load_balancer_point(&point, &was.get("ingress"));
        let (ip, mode) = (point.get("ip"), point.get("ipMode"));
        if !ip.is_empty() && !mode.is_set() {
            mode.required("must be specified when `ip` is set");
        } else if ip.is_empty() {
            mode.forbid("may not be specified when `ip` is not set");
        } else {
            mode.one_of_if_set(&["Proxy", "VIP"]);
        }
    }
}

/// Address and host name of a load balancer.
pub(super) fn load_balancer_point(point: &At, old: &At) {
    if !point.get("ip").is_empty() {
        common::ip_unless_old(&point.get("ip"), old, "ip");
    }
    let host = point.get("hostname");
    if !host.is_empty() {
        host.named(names::dns1123_subdomain);
        if common::sloppy_ip(host.text()).is_some() {
            host.invalid("must be a DNS name, not an IP address");
        }
    }
}
