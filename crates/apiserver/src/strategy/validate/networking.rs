//! Ingresses, their classes, network policies and service addresses (`pkg/apis/networking/validation`).

use api::names;

use super::{
    at::{At, IMMUTABLE},
    common, service,
};

/// `validateIngress`.
pub(super) fn ingress(at: &At) {
    let spec = at.get("spec");
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !backend.is_set() {
        spec.invalid_value(rules.value(), "either `defaultBackend` or `rules` must be specified");
    }
    if backend.is_set() {
        ingress_backend(&backend);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if common::sloppy_ip(host.text()).is_some() {
            host.invalid("must be a DNS name, not an IP address");
        }
        host_name(&host);
        let http = rule.get("http");
        if http.is_set() {
            http.get("paths").need();
        }
        http.get("paths").items().for_each(|path| ingress_path(&path));
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            if host.is_empty() {
                host.named(names::dns1123_subdomain);
            }
            host_name(&host);
        }
        tls.get("secretName").named_if_set(names::dns1123_subdomain);
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        class.named(names::dns1123_subdomain);
    }
}

fn host_name(host: &At) {
    let check = if host.text().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    host.named_if_set(check);
}

pub(super) fn new_ingress(at: &At) {
    ingress(at);
    let spec = at.get("spec");
    let class = spec.get("ingressClassName");
    let annotation = at.value().at(&["metadata", "annotations", "kubernetes.io/ingress.class"]);
    if annotation.is_some_and(|annotation| class.is_set() && annotation != class.value()) {
        let annotations = at.get("annotations");
        let detail = "must match `ingressClassName` when both are specified";
        annotations.get("kubernetes.io/ingress.class").invalid_value(annotation, detail);
    }
}

fn ingress_path(at: &At) {
    let (path, kind) = (at.get("path"), at.get("pathType"));
    if !kind.is_set() {
        return kind.required("pathType must be specified");
    }
    let text = path.text();
    let absolute = text.starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                path.invalid_value(text, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|bad| text.contains(bad)) {
                path.invalid(format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].into_iter().filter(|bad| text.ends_with(bad)) {
                path.invalid(format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !absolute => path.invalid("must be an absolute path"),
        "ImplementationSpecific" => {}
        _ => kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"]),
    }
    ingress_backend(&at.get("backend"));
}

fn ingress_backend(at: &At) {
    let (resource, service) = (at.get("resource"), at.get("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => return at.invalid_value("", "cannot set both resource and service backends"),
        (true, false) => return common::typed_reference(&resource, names::path_segment_name),
        (false, false) => return at.invalid_value("", "resource or service backend is required"),
        (false, true) => {}
    }
    service.get("name").need_named(names::dns1123_label);
    let port = service.get("port");
    let (name, number) = (port.get("name"), port.get("number"));
    match (!name.is_empty(), number.int().unwrap_or(0) != 0) {
        (true, true) => at.invalid_value("", "cannot set both port name & port number"),
        (true, false) => name.named(names::port_name),
        (false, true) => number.port(),
        (false, false) => at.required("port name or number is required"),
    }
}

pub(super) fn ingress_status(at: &At, old: &At) {
    let (status, before) = (at.get("status"), old.get("status"));
    let (balancer, was) = (status.get("loadBalancer"), before.get("loadBalancer"));
    for point in balancer.get("ingress").items() {
        service::load_balancer_point(&point, &was.get("ingress"));
    }
}

const CONTROLLER_MAX: usize = 250;

pub(super) fn ingress_class(at: &At) {
    let spec = at.get("spec");
    let controller = spec.get("controller");
    controller.max_bytes(CONTROLLER_MAX);
    common::domain_prefixed_path(&controller);
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return;
    }
    common::typed_reference(&parameters, names::path_segment_name);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        _ if !scope.is_set() => scope.required(""),
        "Namespace" if !namespace.is_set() => namespace.required("`parameters.scope` is set to 'Namespace'"),
        "Namespace" => namespace.named(names::dns1123_label),
        "Cluster" => namespace.forbid("`parameters.scope` is set to 'Cluster'"),
        _ => scope.not_supported(&["Cluster", "Namespace"]),
    }
}

pub(super) fn ingress_class_update(at: &At, old: &At) {
    at.get("spec").get("controller").immutable(&old.get("spec").get("controller"));
}

pub(super) fn network_policy(at: &At) {
    let spec = at.get("spec");
    common::label_selector(&spec.get("podSelector"));
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(list).items() {
            rule.get("ports").items().for_each(|port| policy_port(&port));
            rule.get(peers).items().for_each(|peer| policy_peer(&peer));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        return types.invalid("may not specify more than two policyTypes");
    }
    types.items().for_each(|kind| kind.one_of(&["Ingress", "Egress"]));
}

fn policy_port(at: &At) {
    at.get("protocol").one_of_if_set(&["TCP", "UDP", "SCTP"]);
    let (port, end) = (at.get("port"), at.get("endPort"));
    match (port.int(), end.int()) {
        (Some(number), last) => {
            port.port();
            if last.is_some_and(|last| last < number) {
                end.invalid_value(number, "must be greater than or equal to `port`");
            }
            if last.is_some() {
                end.port();
            }
        }
        (None, last) => {
            let what = if port.is_set() { "non-numeric" } else { "not specified" };
            if last.is_some() {
                end.invalid(format!("may not be specified when `port` is {what}"));
            }
            if port.is_set() {
                port.named(names::port_name);
            }
        }
    }
}

fn policy_peer(at: &At) {
    let block = at.get("ipBlock");
    let selectors = ["podSelector", "namespaceSelector"].into_iter().filter(|name| {
        common::label_selector(&at.get(name));
        at.get(name).is_set()
    });
    let selectors = selectors.count();
    if block.is_set() {
        ip_block(&block);
        if selectors > 0 {
            at.forbidden("may not specify both ipBlock and another peer");
        }
    } else if selectors == 0 {
        at.required("must specify a peer");
    }
}

fn ip_block(at: &At) {
    let range = at.get("cidr");
    if !range.need() {
        return;
    }
    common::cidr(&range);
    let Some(outer) = common::sloppy_cidr(range.text()) else { return };
    for except in at.get("except").items() {
        common::cidr(&except);
        if common::sloppy_cidr(except.text()).is_some_and(|inner| !common::is_strict_subset(inner, outer)) {
            except.invalid("must be a strict subset of `cidr`");
        }
    }
}

pub(super) fn ip_address(at: &At) {
    let spec = at.get("spec");
    let parent = spec.get("parentRef");
    if !parent.is_set() {
        return parent.required("");
    }
    parent.get("group").named_if_set(names::dns1123_subdomain);
    for name in ["resource", "name"] {
        parent.get(name).need_named(names::path_segment_name);
    }
    parent.get("namespace").named_if_set(names::path_segment_name);
}

pub(super) fn ip_address_update(at: &At, old: &At) {
    at.get("spec").get("parentRef").immutable(&old.get("spec").get("parentRef"));
}

pub(super) fn service_cidr(at: &At) {
    let spec = at.get("spec");
    let ranges = spec.get("cidrs");
    if !ranges.need_because("at least one CIDR required") {
        return;
    }
    if ranges.len() > 2 {
        return ranges.invalid("may only hold up to 2 values");
    }
    ranges.items().for_each(|range| common::cidr(&range));
    let are_ranges = ranges.texts().all(|range| common::sloppy_cidr(range).is_some());
    if ranges.len() == 2 && are_ranges && !common::is_dual_stack(ranges.texts()) {
        ranges.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64");
    }
}

/// A range stays; a second one may come.
pub(super) fn service_cidr_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let (ranges, was) = (spec.get("cidrs"), before.get("cidrs"));
    match (was.len(), ranges.len()) {
        (1, 2) => {
            ranges.index(0).immutable(&was.index(0));
            service_cidr(at);
        }
        (old, new) if old == new => ranges.items().zip(was.items()).for_each(|(range, was)| range.immutable(&was)),
        _ => ranges.invalid(IMMUTABLE),
    }
}
