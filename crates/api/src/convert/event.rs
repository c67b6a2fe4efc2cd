//! Events: those of events.k8s.io are stored as the core group's (`pkg/apis/events/v1/conversion.go`).

use super::{Conversion, rename};
use crate::value::Value;

/// What events.k8s.io calls a member, and what the core group does.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// Selectors by `source` are the core group's alone.
const LABELS: [(&str, &str); 12] = [
    ("reason", "reason"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
    ("metadata.namespace", "metadata.namespace"),
    ("metadata.name", "metadata.name"),
];

pub(super) static V1: Conversion = Conversion {
    to_stored: |event| {
        rename(event, NAMES);
        // The core group always says them.
        for name in ["reportingComponent", "reportingInstance"] {
            event.entry_or_insert_with(name, || "".into());
        }
    },
    from_stored: |event| {
        rename(event, NAMES.map(|(own, stored)| (stored, own)));
        for name in ["reportingController", "reportingInstance"] {
            if event.get(name).and_then(Value::as_str) == Some("") {
                event.remove(name);
            }
        }
    },
    labels: Some(&LABELS),
};
