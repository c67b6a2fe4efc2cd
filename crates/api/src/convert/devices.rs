//! resource.k8s.io: v1beta1 says flat, per request of a claim, what v1 says under `exactly`, and under `basic`, per device of
//! a slice, what v1 says flat (`pkg/apis/resource/v1beta1/conversion.go`). v1beta2 is v1 by another name.

use super::{Conversion, items};
use crate::value::{Map, Value};

pub(super) static CLAIM: Conversion = Conversion::new(
    |claim| requests(claim, &["spec", "devices", "requests"], exactly),
    |claim| requests(claim, &["spec", "devices", "requests"], flat),
);

pub(super) static CLAIM_TEMPLATE: Conversion = Conversion::new(
    |template| requests(template, &["spec", "spec", "devices", "requests"], exactly),
    |template| requests(template, &["spec", "spec", "devices", "requests"], flat),
);

pub(super) static SLICE: Conversion = Conversion::new(
    |slice| {
        // Values in v1beta1, pointers in v1: what says nothing is left out.
        if let Some(spec) = slice.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|name, value| !matches!(name, "nodeName" | "allNodes") || !is_zero(value));
        }
        requests(slice, &["spec", "devices"], |device| lift(device, "basic", |name| name != "name"));
    },
    |slice| requests(slice, &["spec", "devices"], |device| sink(device, "basic", |name| name != "name")),
);

/// The members of a v1beta1 request that are those of v1's `exactly`.
fn is_exact(name: &str) -> bool {
    matches!(
        name,
        "adminAccess" | "allocationMode" | "capacity" | "count" | "deviceClassName" | "selectors" | "tolerations"
    )
}

fn exactly(request: &mut Map) {
    let says = |name: &str, value: &Value| match name {
        "deviceClassName" | "allocationMode" | "count" => !is_zero(value),
        name => is_exact(name),
    };
    if request.iter().any(|(name, value)| says(name, value)) {
        sink(request, "exactly", is_exact);
    } else {
        request.retain(|name, _| !is_exact(name));
    }
}

fn flat(request: &mut Map) {
    lift(request, "exactly", is_exact);
}

fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false) | Value::Int(0)) || value.as_str() == Some("")
}

fn requests(object: &mut Map, path: &[&str], change: fn(&mut Map)) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(value) = object.get_mut(first) {
        items(value, rest).for_each(change);
    }
}

/// Moves members into an object below.
fn sink(map: &mut Map, into: &str, which: fn(&str) -> bool) {
    let (below, stays): (Vec<_>, Vec<_>) = std::mem::take(map).into_iter().partition(|(name, _)| which(name));
    *map = stays.into_iter().collect();
    map.insert(into, below.into_iter().collect::<Map>());
}

/// Moves members out of an object below, which goes.
fn lift(map: &mut Map, out_of: &str, which: fn(&str) -> bool) {
    let Some(Value::Object(below)) = map.remove(out_of) else { return };
    for (name, value) in below {
        if which(&name) {
            map.insert(name, value);
        }
    }
}
