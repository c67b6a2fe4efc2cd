//! Which taints a node has and a pod tolerates (component-helpers `scheduling/corev1/helpers.go`).

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

/// Key of the taint that stands for `spec.unschedulable`.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A node's taints.
pub fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether a toleration covers a taint (core v1 `ToleratesTaint`).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_cover_taints_by_every_operator() {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let taint = Taint { key: "k".into(), value: text("5"), effect: "NoSchedule".into(), ..Taint::default() };
        for (key, operator, value, effect, expected) in [
            ("k", "Exists", "", "", true),
            ("k", "", "5", "NoSchedule", true),
            ("k", "Equal", "6", "", false),
            ("k", "Exists", "", "NoExecute", false),
            ("other", "Exists", "", "", false),
            ("", "Exists", "", "", true),
            ("k", "Gt", "4", "", true),
            ("k", "Gt", "5", "", false),
            ("k", "Lt", "6", "", true),
            ("k", "Lt", "x", "", false),
            ("k", "Like", "5", "", false),
        ] {
            let toleration = Toleration {
                key: text(key),
                operator: text(operator),
                value: text(value),
                effect: text(effect),
                ..Toleration::default()
            };
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        }
    }
}
