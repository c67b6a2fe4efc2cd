//! Pods (`pkg/registry/core/pod/strategy.go`).

use api::{Value, quantity::Quantity};

use super::Strategy;

pub struct Pods;

impl Strategy for Pods {
    fn fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object);
        object.set(&["status", "phase"], "Pending");
        object.set(&["status", "qosClass"], class);
    }

    /// The pod's own grace period, unless the client names another; none for a pod that no kubelet runs.
    fn grace_period_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let own = object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
        let wanted = asked.unwrap_or(own.max(1));
        let unscheduled = object.str_at(&["spec", "nodeName"]).is_empty();
        let ended = matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        Some(if unscheduled || ended { 0 } else { wanted })
    }
}

/// A pod's containers in one of the lists of its spec.
pub(crate) fn containers<'p>(pod: &'p Value, list: &str) -> &'p [Value] {
    pod.at(&["spec", list]).and_then(Value::as_array).unwrap_or_default()
}

/// `pkg/apis/core/v1/helper/qos`: guaranteed where every container's limits equal its requests for CPU and memory.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let quantity = |container: &Value, kind: &str, name: &str| {
        let text = container.at(&["resources", kind, name])?.as_str()?;
        Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in ["containers", "initContainers"].into_iter().flat_map(|list| containers(pod, list)) {
        for name in ["cpu", "memory"] {
            let (request, limit) = (quantity(container, "requests", name), quantity(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
