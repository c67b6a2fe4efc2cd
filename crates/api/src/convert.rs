//! Conversion between the versions of a built-in kind: the one place where a version's form differs from the stored one.
//!
//! Every kind has one version that its objects are stored as ([`Resource::stored_as`](crate::Resource::stored_as)); all
//! others are converted from and to that one, never among themselves. What a kind's [`Conversion`] is gets looked up once,
//! when the resource table is read: versions of the same schema have none and differ in `apiVersion` alone.
//!
//! Objects are converted as decoded, defaults and all, in the version of the request (upstream's `pkg/apis/*/*/conversion.go`).

mod autoscaler;
mod devices;
mod event;
mod metrics;

pub(crate) use autoscaler::{cpu_by_default, drop_notes};

use crate::{
    model::Gvk,
    value::{Map, Value},
};

/// How the content of one version of a kind becomes that of the stored version, and back. `apiVersion` and `kind` are set by
/// the caller.
#[derive(Debug)]
pub struct Conversion {
    pub(crate) to_stored: fn(&mut Map),
    pub(crate) from_stored: fn(&mut Map),
    /// The names of fields in selectors: those of this version and those of the stored one. Without, they are the same.
    labels: Option<&'static [(&'static str, &'static str)]>,
}

impl Conversion {
    const fn new(to_stored: fn(&mut Map), from_stored: fn(&mut Map)) -> Conversion {
        Conversion { to_stored, from_stored, labels: None }
    }

    /// What the stored version calls a field that a selector names; `None`: this version has no such field.
    pub fn field_label<'l>(&self, label: &'l str) -> Option<&'l str> {
        match self.labels {
            None => Some(label),
            Some(labels) => labels.iter().find(|(own, _)| *own == label).map(|(_, stored)| *stored),
        }
    }
}

/// The conversion between a kind that is served and the one that it is stored as; `None` where only their names differ.
pub fn between(served: &Gvk, stored: &Gvk) -> Option<&'static Conversion> {
    if served == stored {
        return None;
    }
    match (&*served.group, &*served.version, &*served.kind) {
        ("events.k8s.io", "v1", "Event") => Some(&event::V1),
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => Some(&autoscaler::V1),
        ("resource.k8s.io", "v1beta1", "ResourceClaim") => Some(&devices::CLAIM),
        ("resource.k8s.io", "v1beta1", "ResourceClaimTemplate") => Some(&devices::CLAIM_TEMPLATE),
        ("resource.k8s.io", "v1beta1", "ResourceSlice") => Some(&devices::SLICE),
        _ => None,
    }
}

/// Moves members to other names, in place.
fn rename(map: &mut Map, names: impl IntoIterator<Item = (&'static str, &'static str)>) {
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to, value);
        }
    }
}

/// The objects in the list at a path.
fn items<'v>(value: &'v mut Value, path: &[&str]) -> impl Iterator<Item = &'v mut Map> {
    value.at_mut(path).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}
