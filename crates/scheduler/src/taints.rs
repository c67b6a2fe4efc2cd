//! Which taints a pod tolerates (component-helpers `scheduling/corev1/helpers.go`).

use client::kinds::core::v1::{Taint, Toleration};

/// Key of the taint that stands for `spec.unschedulable`.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let tainted = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value == tainted,
        "Exists" => true,
        "Lt" => compare(tainted, value).is_some_and(|(taint, bound)| taint < bound),
        "Gt" => compare(tainted, value).is_some_and(|(taint, bound)| taint > bound),
        _ => false,
    }
}

fn compare(taint: &str, bound: &str) -> Option<(i64, i64)> {
    Some((taint.parse().ok()?, bound.parse().ok()?))
}

pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// Whether some taint keeps the pod off the node.
pub fn untolerated(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .any(|taint| !tolerated(tolerations, taint))
}
