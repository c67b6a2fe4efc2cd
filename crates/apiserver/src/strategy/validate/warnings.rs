//! What is not wrong but deserves a word (`pkg/api/service/warnings.go`, `pkg/api/persistentvolume/util.go` and the
//! strategies of `pkg/registry`); those about pods are in [`super::pod::warnings`].

use std::net::Ipv6Addr;

use api::{Resource, Value, names};

use super::{
    at::{At, Sink},
    pem::key_pair,
    pod::warnings as pods,
};

/// Warnings about an object that is created, or takes the place of `old`.
pub(in crate::strategy) fn warnings(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| is_known(resource, object, old)) {
        return Vec::new();
    }
    let sink = Sink::default();
    let at = At::root(object, &sink);
    let mut out = Vec::new();
    let spec = at.get("spec");
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => pods::pod(&at, false, &mut out),
        ("", "podtemplates") => pods::pod(&at.get("template"), true, &mut out),
        ("apps", "statefulsets") => stateful_set(&spec, &mut out),
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets" | "daemonsets") => {
            pods::pod(&spec.get("template"), true, &mut out);
        }
        ("batch", "jobs") => {
            name_of_job(&at, &mut out);
            job(&spec, &mut out);
        }
        ("batch", "cronjobs") => {
            name_of_job(&at, &mut out);
            job(&spec.get("jobTemplate").get("spec"), &mut out);
        }
        ("", "services") => service(&at, &mut out),
        ("", "endpoints") => endpoints(&at, &mut out),
        ("", "nodes") => node(&spec, &mut out),
        ("", "secrets") if at.get("type").text() == "kubernetes.io/tls" => {
            out.extend(key_pair(&at.get("data").get("tls.crt"), &at.get("data").get("tls.key")).err());
        }
        ("networking.k8s.io", "networkpolicies") => policy(&spec, &mut out),
        ("node.k8s.io", "runtimeclasses") => {
            for (key, _) in at.get("scheduling").get("nodeSelector").entries() {
                out.extend(pods::deprecated_label(key).map(|why| format!("scheduling.nodeSelector: {why}")));
            }
        }
        ("storage.k8s.io", "csidrivers")
            if !spec.get("tokenRequests").is_empty() && !spec.get("serviceAccountTokenInSecrets").is_set() =>
        {
            out.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into());
        }
        ("storage.k8s.io", "csistoragecapacities") => node_selector(&at.get("nodeTopology"), &mut out),
        ("discovery.k8s.io", "endpointslices") if at.get("addressType").text() == "FQDN" => {
            out.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        ("", "persistentvolumes") => volume(&at, &mut out),
        ("", "persistentvolumeclaims") => {
            beta_class(&at, &mut out);
            pods::claim(&spec, &mut out);
        }
        ("networking.k8s.io", "ingresses") => {
            let annotation = object.at(&["metadata", "annotations", "kubernetes.io/ingress.class"]);
            if annotation.is_some() && !spec.get("ingressClassName").is_set() {
                out.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".into());
            }
        }
        ("resource.k8s.io", "resourceslices") => {
            let driver = spec.get("driver").text();
            if driver != driver.to_lowercase() {
                out.push(format!(
                    "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
                ));
            }
        }
        ("storage.k8s.io", "storageclasses") => topologies(&at.get("allowedTopologies"), &mut out),
        _ => {}
    }
    out
}

/// Whether what there is to say was said before: of what stays as it is, and of changed pods altogether, which are no human's.
fn is_known(resource: &Resource, object: &Value, old: &Value) -> bool {
    let stays = |path: &[&str]| old.at(path) == object.at(path);
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => true,
        ("", "podtemplates") => stays(&["template"]),
        ("apps", "daemonsets") => stays(&["spec", "template"]),
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets") | ("batch", "jobs" | "cronjobs") => {
            stays(&["spec"])
        }
        ("storage.k8s.io", "csidrivers") => stays(&["spec", "tokenRequests"]),
        _ => false,
    }
}

fn topologies(terms: &At, out: &mut Vec<String>) {
    for term in terms.items() {
        for expression in term.get("matchLabelExpressions").items() {
            let key = expression.get("key");
            if let Some(why) = pods::deprecated_label(key.text()) {
                out.push(format!("{}: {why}", key.path()));
            }
        }
    }
}

fn stateful_set(spec: &At, out: &mut Vec<String>) {
    pods::pod(&spec.get("template"), true, out);
    for template in spec.get("volumeClaimTemplates").items() {
        // Upstream names the place of the claim's resources without the claim's own spec.
        pods::claim(&template.holding(&template.get("spec")), out);
    }
    if spec.get("revisionHistoryLimit").int().is_some_and(|limit| limit < 0) {
        out.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .into(),
        );
    }
}

fn name_of_job(at: &At, out: &mut Vec<String>) {
    let problems = names::dns1123_label(at.value().str_at(&["metadata", "name"]));
    if !problems.is_empty() {
        out.push(format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]", problems.join(" ")));
    }
}

/// As many completions as are counted one by one without a limit.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLELISM_SOFT_MAX: i64 = 10_000;

fn job(spec: &At, out: &mut Vec<String>) {
    let above = |name: &str, max: i64| spec.get(name).int().is_some_and(|number| number > max);
    if spec.get("completionMode").text() == "Indexed"
        && above("completions", COMPLETIONS_SOFT_MAX)
        && above("parallelism", PARALLELISM_SOFT_MAX)
    {
        out.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".into());
    }
    pods::pod(&spec.get("template"), true, out);
}

/// `GetWarningsForIP`: an IPv6 address has one form that is preferred.
pub(super) fn ip(at: &At, out: &mut Vec<String>) {
    if let Ok(address) = at.text().parse::<Ipv6Addr>()
        && address.to_string() != at.text()
    {
        let (path, text) = (at.path(), at.text());
        out.push(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            address.to_string()
        ));
    }
}

fn service(at: &At, out: &mut Vec<String>) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = at.get("spec");
    if at.value().at(&["metadata", "annotations", HINTS]).is_some() {
        out.push(format!("annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let (kind, outer) = (spec.get("type").text(), spec.get("externalIPs"));
    let is_headless = kind == "ClusterIP" && spec.get("clusterIP").text() == "None";
    spec.get("clusterIPs").items().for_each(|address| ip(&address, out));
    if is_headless {
        for (name, set) in [
            ("loadBalancerIP", !spec.get("loadBalancerIP").is_empty()),
            ("externalIPs", !outer.is_empty()),
            ("SessionAffinity", spec.get("sessionAffinity").text() != "None"),
        ] {
            if set {
                out.push(format!("spec.{name} is ignored for headless services"));
            }
        }
    }
    outer.items().for_each(|address| ip(&address, out));
    if !outer.is_empty() && !is_headless && kind != "ExternalName" {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    ip(&spec.get("loadBalancerIP"), out);
    if kind == "ExternalName" && !outer.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !spec.get("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.get("trafficDistribution").text() == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

/// `GetWarningsForCIDR`, of what is valid.
fn block(at: &At, out: &mut Vec<String>) {
    let Some((address, length)) = at.text().split_once('/') else { return };
    if let Ok(address) = address.parse::<Ipv6Addr>() {
        let canonical = format!("{address}/{length}");
        if canonical != at.text() {
            let (path, text) = (at.path(), at.text());
            out.push(format!(
                "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
            ));
        }
    }
}

fn policy(spec: &At, out: &mut Vec<String>) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            for peer in rule.get(peers).items() {
                let range = peer.get("ipBlock");
                block(&range.get("cidr"), out);
                range.get("except").items().for_each(|except| block(&except, out));
            }
        }
    }
}

fn node(spec: &At, out: &mut Vec<String>) {
    if spec.get("configSource").is_set() {
        out.push("spec.configSource: the feature is removed".into());
    }
    if !spec.get("externalID").is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    spec.get("podCIDRs").items().for_each(|range| block(&range, out));
}

/// `GetWarningsForNodeSelector`.
fn node_selector(at: &At, out: &mut Vec<String>) {
    for expression in at.get("matchExpressions").items() {
        let key = expression.get("key");
        if let Some(why) = pods::deprecated_label(key.text()) {
            out.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
    }
    for (key, _) in at.get("matchLabels").entries() {
        if let Some(why) = pods::deprecated_label(key) {
            out.push(format!("{}: {why}", at.get("matchLabels").get(key).path()));
        }
    }
}

fn endpoints(at: &At, out: &mut Vec<String>) {
    for subset in at.get("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            subset.get(list).items().for_each(|address| ip(&address.get("ip"), out));
        }
    }
}

fn beta_class(at: &At, out: &mut Vec<String>) {
    let metadata = at.get("metadata");
    let annotations = metadata.get("annotations");
    let class = annotations.key("volume.beta.kubernetes.io/storage-class");
    if class.is_set() {
        out.push(format!("{}: deprecated since v1.8; use \"storageClassName\" attribute instead", class.path()));
    }
}

fn volume(at: &At, out: &mut Vec<String>) {
    beta_class(at, out);
    let spec = at.get("spec");
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if policy.text() == "Recycle" {
        out.push(format!("{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.", policy.path()));
    }
    let affinity = spec.get("nodeAffinity");
    let required = affinity.get("required");
    required.get("nodeSelectorTerms").items().for_each(|term| pods::node_term(&term, false, out));
    for (name, place, since) in pods::DEPRECATED_VOLUMES {
        if spec.get(name).is_set() && !matches!(name, "gitRepo" | "flocker" | "quobyte") {
            out.push(format!("{}: {since}", spec.get(place).path()));
        }
    }
}
