//! A status as the strategic merge patch that brings it about (upstream `pkg/util/pod: PatchPodStatus`).

use client::kinds::core::v1::PodStatus;
use serde_json::{Value, json};

use super::conditions::{TRANSIENT, is_own};

/// Lists that merge by key and have to be replaced instead: a new sandbox has a new address.
const REPLACED: [&str; 2] = ["podIPs", "hostIPs"];
/// Fields that the kubelet takes away again.
const CLEARED: [&str; 7] = [
    "reason",
    "message",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

/// Only for the object with this UID; conditions of other owners are not touched. `last`: what the server has.
pub fn strategic(uid: &str, last: Option<&PodStatus>, status: &PodStatus) -> Result<Vec<u8>, serde_json::Error> {
    let mut fields = serde_json::to_value(status)?;
    let last = last.map(serde_json::to_value).transpose()?.unwrap_or(Value::Null);
    if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| {
            condition["type"].as_str().is_some_and(|kind| is_own(kind, condition["reason"].as_str()))
        });
    }
    for name in REPLACED {
        let changed = fields.get(name) != last.get(name);
        match fields.get_mut(name).and_then(Value::as_array_mut) {
            Some(list) if changed => list.push(json!({"$patch": "replace"})),
            _ => {}
        }
    }
    forget_explanations(&mut fields, &last);
    for kind in TRANSIENT {
        let has = |fields: &Value| {
            let conditions = fields.get("conditions").and_then(Value::as_array);
            conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == kind))
        };
        if has(&last)
            && !has(&fields)
            && let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut)
        {
            conditions.push(json!({"$patch": "delete", "type": kind}));
        }
    }
    if let Some(fields) = fields.as_object_mut() {
        for name in CLEARED {
            if last.get(name).is_some() {
                fields.entry(name).or_insert(Value::Null);
            }
        }
    }
    serde_json::to_vec(&json!({"metadata": {"uid": uid}, "status": fields}))
}

/// Conditions merge by type, which would leave a reason and message standing that no longer hold.
fn forget_explanations(fields: &mut Value, last: &Value) {
    let known = last.get("conditions").and_then(Value::as_array);
    let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    for condition in conditions {
        let before = known.into_iter().flatten().find(|before| before["type"] == condition["type"]);
        for field in ["reason", "message"] {
            if before.is_some_and(|before| before.get(field).is_some()) && condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::kinds::core::v1::{PodCondition, PodIP};

    #[test]
    fn clears_replaces_and_leaves_others_conditions() {
        let ips = |ip: &str| Some(vec![PodIP { ip: ip.into() }]);
        let condition =
            |kind: &str| PodCondition { type_: kind.into(), status: "True".into(), ..PodCondition::default() };
        let last = PodStatus { reason: Some("Old".into()), pod_ips: ips("10.0.0.1"), ..PodStatus::default() };
        let status = PodStatus {
            pod_ips: ips("10.0.0.2"),
            conditions: Some(vec![condition("Ready"), condition("example.com/gate")]),
            ..PodStatus::default()
        };
        let patch = strategic("u", Some(&last), &status).expect("a patch");
        let patch: Value = serde_json::from_slice(&patch).expect("json");
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["reason"], Value::Null);
        assert_eq!(patch["status"]["podIPs"], json!([{"ip": "10.0.0.2"}, {"$patch": "replace"}]));
        assert_eq!(patch["status"]["conditions"].as_array().map(Vec::len), Some(1));
    }
}
