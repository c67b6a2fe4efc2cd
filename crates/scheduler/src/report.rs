//! What a pod's status says of a failed attempt.

use std::fmt;

use client::kinds::core::v1::Pod;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Longest note of an event, in bytes (upstream `NoteLengthLimit`).
const NOTE_LIMIT: usize = 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Strategic merge patch of the status; `None` where it says all this already.
    pub patch: Option<Value>,
    pub message: String,
}

impl Report {
    /// The message, cut to what an event may hold.
    pub fn note(&self) -> String {
        if self.message.len() <= NOTE_LIMIT {
            return self.message.clone();
        }
        let end = self.message.floor_char_boundary(NOTE_LIMIT - 4);
        format!("{} ...", &self.message[..end])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The patch that sets condition PodScheduled to False with `reason` and `message`, and the nominated node: `None` leaves
/// it, empty clears it (upstream `schedule_one.go`, `updatePod`).
pub fn failure_patch(
    pod: &Pod,
    reason: &str,
    message: &str,
    nomination: Option<&str>,
    now: Timestamp,
) -> Option<Value> {
    let status = pod.status.as_ref();
    let old = status
        .and_then(|status| status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled"));
    let same = old.is_some_and(|old| {
        old.status == "False" && old.reason.as_deref() == Some(reason) && old.message.as_deref() == Some(message)
    });
    let nominated = status.and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
    let nomination = nomination.filter(|node| *node != nominated);
    if same && nomination.is_none() {
        return None;
    }
    // A condition that stays False keeps the time at which it became so.
    let since = old.filter(|old| old.status == "False").and_then(|old| Some(old.last_transition_time.as_ref()?.0));
    let since = since.unwrap_or(now);
    let mut status = json!({
        "conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }],
    });
    if let Some(generation) = pod.metadata.generation {
        status["conditions"][0]["observedGeneration"] = generation.into();
    }
    if let Some(node) = nomination {
        status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { node.into() };
    }
    Some(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }))
}
