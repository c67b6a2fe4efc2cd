//! Fields behind feature gates that are off by default: what a client says of them is dropped, unless the object had them
//! already (upstream `dropDisabledFields` and its like in `pkg/registry/*/*/strategy.go` and `pkg/api/pod/util.go`).
//!
//! Those that are dropped even then are marked in the model.

use api::{Resource, Value};

/// Fields that go or stay together. `*` in a path is every item or member.
struct Gated {
    resource: (&'static str, &'static str),
    /// A list whose items are looked at one by one, each with the old one in its place; without, the object as a whole.
    items: Option<&'static [&'static str]>,
    fields: &'static [&'static str],
    /// Any of them in the old object keeps the fields.
    used_by: &'static [&'static str],
    leaves: Leaves,
}

/// What stands where a dropped field stood.
#[derive(Clone, Copy)]
enum Leaves {
    Nothing,
    /// Go's type always writes the field.
    Null,
    /// The default, which is set again when upstream reads what it has stored.
    Default(&'static str),
}

const fn gated(resource: (&'static str, &'static str), fields: &'static [&'static str]) -> Gated {
    Gated { resource, items: None, fields, used_by: fields, leaves: Leaves::Nothing }
}

const SLICES: (&str, &str) = ("resource.k8s.io", "resourceslices");
const GROUPS: (&str, &str) = ("scheduling.k8s.io", "podgroups");

const fn of_template(field: &'static [&'static str]) -> Gated {
    Gated { items: Some(&["spec", "podGroupTemplates"]), ..gated(("scheduling.k8s.io", "workloads"), field) }
}

const GATED: [Gated; 14] = [
    // DRANodeAllocatableResources
    gated(("", "pods"), &["status.nodeAllocatableResourceClaimStatuses"]),
    gated(SLICES, &["spec.devices.*.nodeAllocatableResourceMappings"]),
    // DRAListTypeAttributes
    gated(
        SLICES,
        &[
            "spec.devices.*.attributes.*.bools",
            "spec.devices.*.attributes.*.ints",
            "spec.devices.*.attributes.*.strings",
            "spec.devices.*.attributes.*.versions",
        ],
    ),
    // TopologyAwareWorkloadScheduling
    gated(GROUPS, &["spec.schedulingConstraints"]),
    Gated { leaves: Leaves::Null, ..of_template(&["schedulingConstraints"]) },
    // DRAWorkloadResourceClaims
    gated(GROUPS, &["spec.resourceClaims"]),
    Gated { used_by: &["spec.resourceClaims"], ..gated(GROUPS, &["status.resourceClaimStatuses"]) },
    of_template(&["resourceClaims"]),
    // WorkloadAwarePreemption
    Gated { leaves: Leaves::Default("Pod"), ..gated(GROUPS, &["spec.disruptionMode"]) },
    gated(GROUPS, &["spec.priorityClassName"]),
    gated(GROUPS, &["spec.priority"]),
    of_template(&["disruptionMode"]),
    of_template(&["priorityClassName"]),
    of_template(&["priority"]),
];

/// Drops them from what a create, which has no `old`, or an update is to store.
pub(super) fn drop_disabled(resource: &Resource, object: &mut Value, old: Option<&Value>) {
    let is_of = |gated: &&Gated| gated.resource == (&*resource.group, &*resource.plural);
    for gated in GATED.iter().filter(is_of) {
        let Some(list) = gated.items else {
            gated.drop(object, old);
            continue;
        };
        let before = old.and_then(|old| old.at(list)).and_then(Value::as_array).unwrap_or_default();
        let items = object.at_mut(list).and_then(Value::as_array_mut);
        for (place, item) in items.into_iter().flatten().enumerate() {
            gated.drop(item, before.get(place));
        }
    }
}

impl Gated {
    fn drop(&self, object: &mut Value, old: Option<&Value>) {
        let is_used = |old: &Value| self.used_by.iter().any(|path| says(old, path));
        if old.is_some_and(is_used) {
            return;
        }
        self.fields.iter().for_each(|path| clear(object, path, self.leaves));
    }
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let members = value.as_object().into_iter().flat_map(|map| map.values());
    value.as_array().into_iter().flatten().chain(members)
}

/// Whether anything stands at the path.
fn says(value: &Value, path: &str) -> bool {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    match rest {
        Some(rest) if name == "*" => children(value).any(|child| says(child, rest)),
        Some(rest) => value.get(name).is_some_and(|child| says(child, rest)),
        None => value.get(name).is_some_and(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        }),
    }
}

fn clear(value: &mut Value, path: &str, leaves: Leaves) {
    let Some((name, rest)) = path.split_once('.') else {
        match leaves {
            Leaves::Nothing => value.take(&[path]).is_some(),
            Leaves::Null => value.set(&[path], Value::Null),
            Leaves::Default(text) => value.set(&[path], text),
        };
        return;
    };
    if name != "*" {
        if let Some(child) = value.get_mut(name) {
            clear(child, rest, leaves);
        }
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| clear(item, rest, leaves)),
        Value::Object(map) => map.iter_mut().for_each(|(_, member)| clear(member, rest, leaves)),
        _ => {}
    }
}
