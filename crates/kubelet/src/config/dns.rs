//! What a pod's /etc/resolv.conf and /etc/hosts say (upstream `pkg/kubelet/network/dns/dns.go`, `kubelet_pods.go`).

use std::fmt::Write;

use client::kinds::core::v1::Pod;
use k8s_cri::v1::DnsConfig;

use super::{ConfigError, NodeFacts};
use crate::plan::spec;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// The node's resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// From the text of a resolv.conf; unknown lines are skipped, the last `search` and `options` line of each kind wins.
    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => conf.servers.extend(words.next()),
                Some("search") => conf.searches = words.map(|word| trim_dot(&word)).collect(),
                Some("options") => set_options(&mut conf.options, words),
                _ => {}
            }
        }
        conf
    }
}

fn trim_dot(search: &str) -> String {
    if search == "." { search.to_owned() } else { search.trim_end_matches('.').to_owned() }
}

/// Sets `name[:value]` options; one of the same name is replaced in place.
fn set_options(options: &mut Vec<String>, new: impl Iterator<Item = String>) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    for option in new {
        match options.iter_mut().find(|present| name(present) == name(&option)) {
            Some(present) => *present = option,
            None => options.push(option),
        }
    }
}

/// The sandbox's DNS configuration; `None`: the runtime copies the node's file.
pub fn config(pod: &Pod, node: &NodeFacts) -> DnsConfig {
    let spec = spec::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let host = &node.host_resolv;
    let mut conf = match policy {
        "None" => ResolvConf::default(),
        _ if cluster && !node.cluster_dns.is_empty() => ResolvConf {
            servers: node.cluster_dns.clone(),
            searches: cluster_searches(pod, &node.cluster_domain, &host.searches),
            options: vec!["ndots:5".into()],
        },
        _ => host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        conf.servers.extend(own.nameservers.iter().flatten().cloned());
        conf.searches.extend(own.searches.iter().flatten().cloned());
        let options = own.options.iter().flatten().map(|option| {
            let name = option.name.clone().unwrap_or_default();
            match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name,
            }
        });
        set_options(&mut conf.options, options);
    }
    fit(conf)
}

fn cluster_searches(pod: &Pod, domain: &str, host: &[String]) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    }
    searches.extend(host.iter().cloned());
    searches
}

/// What resolvers accept: no duplicates, at most 3 servers and 32 search domains of 2048 characters together.
fn fit(conf: ResolvConf) -> DnsConfig {
    let unique = |list: Vec<String>| {
        let mut seen = std::collections::BTreeSet::new();
        list.into_iter().filter(|entry| seen.insert(entry.clone())).collect::<Vec<_>>()
    };
    let mut servers = unique(conf.servers);
    servers.truncate(MAX_SERVERS);
    let mut searches = unique(conf.searches);
    searches.truncate(MAX_SEARCHES);
    searches.retain(|search| search.len() <= 253);
    while searches.iter().map(|search| search.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS + 1 {
        searches.pop();
    }
    DnsConfig { servers, searches, options: conf.options }
}

/// The pod's hostname and, where it has a subdomain, its domain.
pub fn hostname(pod: &Pod, node: &NodeFacts) -> Result<(String, Option<String>), ConfigError> {
    let spec = spec::spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return Ok((name.to_owned(), None));
    }
    let given = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = given.or(pod.metadata.name.as_deref()).unwrap_or_default();
    // Static pods may have longer names than a hostname takes.
    let host = name[..name.len().min(63)].trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty());
    let domain = subdomain.map(|subdomain| format!("{subdomain}.{namespace}.svc.{}", node.cluster_domain));
    match &domain {
        Some(domain) if spec.set_hostname_as_fqdn == Some(true) => {
            let fqdn = format!("{host}.{domain}");
            // The kernel's limit on a hostname.
            if fqdn.len() > 64 { Err(ConfigError::HostnameTooLong(fqdn)) } else { Ok((fqdn, Some(domain.clone()))) }
        }
        _ => Ok((host, domain)),
    }
}

/// The text of the pod's /etc/hosts. `node_hosts` is the node's own file, used on its network.
pub fn hosts(pod: &Pod, ips: &[String], host: &str, domain: Option<&str>, node_hosts: &str) -> String {
    let mut text = String::new();
    if spec::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        );
        text.push_str(
            "fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let short = host.split('.').next().unwrap_or(host);
        for ip in ips {
            let _ = match domain {
                Some(domain) => writeln!(text, "{ip}\t{short}.{domain}\t{short}"),
                None => writeln!(text, "{ip}\t{host}"),
            };
        }
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            let _ = writeln!(text, "{}\t{names}", alias.ip);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let pod = serde_json::json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn policies_choose_servers_and_searches() {
        let node = NodeFacts {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            host_resolv: ResolvConf::parse("nameserver 1.1.1.1\nsearch lan.\noptions ndots:1 edns0\n"),
            ..NodeFacts::default()
        };
        let cluster = "shop.svc.cluster.local svc.cluster.local cluster.local lan";
        for (spec, servers, searches, options) in [
            (r#"{}"#, "10.96.0.10", cluster, "ndots:5"),
            (r#"{"hostNetwork": true}"#, "1.1.1.1", "lan", "ndots:1 edns0"),
            (r#"{"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}"#, "10.96.0.10", cluster, "ndots:5"),
            (r#"{"dnsPolicy": "Default"}"#, "1.1.1.1", "lan", "ndots:1 edns0"),
            (
                r#"{"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}]}}"#,
                "9.9.9.9",
                "x.y",
                "ndots:2",
            ),
            (r#"{"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}"#, "10.96.0.10", cluster, "ndots:2"),
        ] {
            let mut spec: serde_json::Value = serde_json::from_str(spec).expect("json");
            spec["containers"] = serde_json::json!([]);
            let dns = config(&pod(spec.clone()), &node);
            assert_eq!(dns.servers.join(" "), servers, "{spec}");
            assert_eq!(dns.searches.join(" "), searches, "{spec}");
            assert_eq!(dns.options.join(" "), options, "{spec}");
        }
    }
}
