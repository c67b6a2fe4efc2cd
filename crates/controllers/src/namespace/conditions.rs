//! What a namespace's status tells of its deletion (upstream deletion/status_condition_utils.go).

use std::collections::BTreeMap;

use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::core::v1::{NamespaceCondition, NamespaceStatus},
};
use jiff::Timestamp;

use super::Inputs;

struct Kind {
    name: &'static str,
    ok_reason: &'static str,
    ok_message: &'static str,
    reason: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "NamespaceDeletionDiscoveryFailure",
        ok_reason: "ResourcesDiscovered",
        ok_message: "All resources successfully discovered",
        reason: "DiscoveryFailed",
    },
    Kind {
        name: "NamespaceDeletionGroupVersionParsingFailure",
        ok_reason: "ParsedGroupVersions",
        ok_message: "All legacy kube types successfully parsed",
        reason: "GroupVersionParsingFailed",
    },
    Kind {
        name: "NamespaceDeletionContentFailure",
        ok_reason: "ContentDeleted",
        ok_message: "All content successfully deleted, may be waiting on finalization",
        reason: "ContentDeletionFailed",
    },
    Kind {
        name: "NamespaceContentRemaining",
        ok_reason: "ContentRemoved",
        ok_message: "All content successfully removed",
        reason: "SomeResourcesRemain",
    },
    Kind {
        name: "NamespaceFinalizersRemaining",
        ok_reason: "ContentHasNoFinalizers",
        ok_message: "All content-preserving finalizers finished",
        reason: "SomeFinalizersRemain",
    },
];

pub fn status(inputs: &Inputs, errors: &[String], now: Timestamp) -> NamespaceStatus {
    let mut status = inputs.namespace.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let problems = [discovery(inputs), None, failures(errors), remaining(inputs), finalizers(inputs)];
    let conditions = status.conditions.get_or_insert_default();
    for (kind, problem) in KINDS.iter().zip(problems) {
        let (value, reason, message) = match problem {
            Some(message) => ("True", kind.reason, message),
            None => ("False", kind.ok_reason, kind.ok_message.to_owned()),
        };
        set(conditions, kind.name, value, reason, message, now);
    }
    status
}

fn set(all: &mut Vec<NamespaceCondition>, name: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let at = all.iter().position(|condition| condition.type_ == name);
    let condition = NamespaceCondition {
        type_: name.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match at {
        None => all.push(condition),
        Some(at) => {
            let old = &all[at];
            let is_same =
                old.status == condition.status && old.reason == condition.reason && old.message == condition.message;
            if !is_same {
                all[at] = condition;
            }
        }
    }
}

fn discovery(inputs: &Inputs) -> Option<String> {
    let failed = &inputs.failed_discovery;
    let count = failed.len();
    (count > 0).then(|| format!("Discovery failed for some groups, {count} failing: {}", failed.join(", ")))
}

fn failures(errors: &[String]) -> Option<String> {
    (!errors.is_empty())
        .then(|| format!("Failed to delete all resource types, {} remaining: {}", errors.len(), errors.join(", ")))
}

fn remaining(inputs: &Inputs) -> Option<String> {
    let mut lines: Vec<String> = inputs
        .contents
        .iter()
        .map(|content| {
            let id = &content.resource.id;
            format!("{}.{} has {} resource instances", id.resource, id.group, content.objects.len())
        })
        .collect();
    lines.sort();
    (!lines.is_empty()).then(|| format!("Some resources are remaining: {}", lines.join(", ")))
}

fn finalizers(inputs: &Inputs) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for object in inputs.contents.iter().flat_map(|content| &content.objects) {
        for finalizer in &object.finalizers {
            *counts.entry(finalizer).or_default() += 1;
        }
    }
    let lines: Vec<String> =
        counts.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let text = || format!("Some content in the namespace has finalizers remaining: {}", lines.join(", "));
    (!lines.is_empty()).then(text)
}
