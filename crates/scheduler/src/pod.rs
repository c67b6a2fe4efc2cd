//! A pod with everything parsed that scheduling asks it about, once.

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Kind,
    kinds::core::v1::{Affinity, Pod, PodAffinityTerm, PodSpec, PodStatus, Toleration},
};

use crate::{
    groups,
    labels::{self, Labels, Operator, Requirement, Selector},
    objects::Objects,
    resources::{self, Resources},
};

/// Upstream `framework.PodInfo`.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Resources,
    /// Thousandths of a CPU and bytes, with defaults for containers that name none.
    pub non_zero: (i64, i64),
    pub ports: Vec<HostPort>,
    pub required_affinity: Vec<AffinityTerm>,
    pub required_anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<(i64, AffinityTerm)>,
    pub preferred_anti_affinity: Vec<(i64, AffinityTerm)>,
    pub claims: Vec<Claim>,
    pub(crate) like: u64,
}

/// A port of the node that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `0.0.0.0` is every address.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// A PersistentVolumeClaim that a volume of the pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub name: String,
    /// Made for this pod by the ephemeral volume controller.
    pub ephemeral: bool,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> PodInfo {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let terms = Terms { pod: &pod, affinity };
        PodInfo {
            requests: resources::pod_requests(&pod),
            non_zero: resources::non_zero_requests(&pod),
            ports: host_ports(&pod),
            required_affinity: terms.required(),
            required_anti_affinity: terms.required_anti(),
            preferred_affinity: terms.preferred(),
            preferred_anti_affinity: terms.preferred_anti(),
            claims: claims(&pod),
            like: groups::likeness(&pod),
            pod,
        }
    }

    pub fn name(&self) -> &str {
        self.pod.name()
    }

    pub fn namespace(&self) -> &str {
        self.pod.namespace()
    }

    pub fn uid(&self) -> &str {
        self.pod.uid()
    }

    pub fn labels(&self) -> &Labels {
        labels::of(&self.pod.metadata)
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub fn status(&self) -> Option<&PodStatus> {
        self.pod.status.as_ref()
    }

    pub fn priority(&self) -> i32 {
        self.spec().and_then(|spec| spec.priority).unwrap_or(0)
    }

    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    pub fn scheduler_name(&self) -> &str {
        self.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("default-scheduler")
    }

    /// The node it is bound to; empty where it is not.
    pub fn node_name(&self) -> &str {
        self.spec().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
    }

    /// The node a preemption made room on for it; empty where none did.
    pub fn nominated_node(&self) -> &str {
        self.status().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Finished: it holds no resources of its node any more.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
    }

    pub fn is_gated(&self) -> bool {
        self.spec().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
    }

    pub fn has_affinity(&self) -> bool {
        !(self.required_affinity.is_empty()
            && self.required_anti_affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }
}

/// One term of inter-pod affinity (kube-scheduler `framework.AffinityTerm`).
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub topology_key: String,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    selector: Selector,
}

impl AffinityTerm {
    fn new(pod: &Pod, term: &PodAffinityTerm) -> AffinityTerm {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.namespace().to_owned());
        }
        let own = labels::of(&pod.metadata);
        let keys = |keys: &Option<Vec<String>>, operator: Operator| -> Vec<Requirement> {
            let value = |key: &String| Requirement::new(key, operator, vec![own.get(key)?.as_str().into()]).ok();
            keys.iter().flatten().filter_map(value).collect()
        };
        let more = keys(&term.match_label_keys, Operator::In)
            .into_iter()
            .chain(keys(&term.mismatch_label_keys, Operator::NotIn));
        AffinityTerm {
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: labels::selector(term.namespace_selector.as_ref()),
            selector: labels::narrow(&labels::selector(term.label_selector.as_ref()), more),
        }
    }

    /// Whether the term speaks of `pod`. `objects` tells the labels of its namespace.
    pub fn matches(&self, pod: &PodInfo, objects: &Objects) -> bool {
        let namespace = pod.namespace();
        let in_namespace = self.namespaces.contains(namespace)
            || self.namespace_selector.is_everything()
            || !self.namespace_selector.is_nothing()
                && self.namespace_selector.matches(objects.namespace_labels(namespace));
        in_namespace && self.selector.matches(pod.labels())
    }
}

struct Terms<'a> {
    pod: &'a Pod,
    affinity: Option<&'a Affinity>,
}

impl Terms<'_> {
    fn all(&self, terms: Option<&Vec<PodAffinityTerm>>) -> Vec<AffinityTerm> {
        terms.into_iter().flatten().map(|term| AffinityTerm::new(self.pod, term)).collect()
    }

    fn weighted(
        &self,
        terms: Option<&Vec<client::kinds::core::v1::WeightedPodAffinityTerm>>,
    ) -> Vec<(i64, AffinityTerm)> {
        let term = |term: &client::kinds::core::v1::WeightedPodAffinityTerm| {
            (i64::from(term.weight), AffinityTerm::new(self.pod, &term.pod_affinity_term))
        };
        terms.into_iter().flatten().map(term).collect()
    }

    fn required(&self) -> Vec<AffinityTerm> {
        let affinity = self.affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        self.all(affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()))
    }

    fn required_anti(&self) -> Vec<AffinityTerm> {
        let affinity = self.affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        self.all(affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()))
    }

    fn preferred(&self) -> Vec<(i64, AffinityTerm)> {
        let affinity = self.affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        self.weighted(
            affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref()),
        )
    }

    fn preferred_anti(&self) -> Vec<(i64, AffinityTerm)> {
        let affinity = self.affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        self.weighted(
            affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref()),
        )
    }
}

/// Ports of containers and sidecars; init containers that end hold theirs only before the others start.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            let protocol =
                port.protocol.clone().filter(|protocol| !protocol.is_empty()).unwrap_or_else(|| "TCP".into());
            Some(HostPort { ip, protocol, port: number })
        })
        .collect()
}

fn claims(pod: &Pod) -> Vec<Claim> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            if let Some(claim) = &volume.persistent_volume_claim {
                return Some(Claim { name: claim.claim_name.clone(), ephemeral: false });
            }
            volume.ephemeral.as_ref()?;
            Some(Claim { name: format!("{}-{}", pod.name(), volume.name), ephemeral: true })
        })
        .collect()
}
