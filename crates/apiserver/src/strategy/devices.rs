//! What becomes of the kinds of resource.k8s.io when they are written (`pkg/registry/resource/*/strategy.go` and
//! `pkg/apis/resource/v1/defaults.go`).

use api::{Resource, Value};
use jiff::Timestamp;

use super::Strategy;

pub struct Claims;

impl Strategy for Claims {
    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    /// What drivers said about devices goes when the devices go (`dropDeallocatedStatusDevices`).
    fn prepare_status(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        let path = ["status", "allocation", "devices", "results"];
        let ids = |claim: &Value| items(claim, &path).iter().map(device_id).collect::<Vec<_>>();
        let (before, now) = (ids(old), ids(object));
        let stays = |device: &Value| !before.contains(&device_id(device)) || now.contains(&device_id(device));
        let devices: Vec<Value> =
            items(object, &["status", "devices"]).iter().filter(|device| stays(device)).cloned().collect();
        if devices.is_empty() {
            object.take(&["status", "devices"]);
        } else {
            object.set(&["status", "devices"], devices);
        }
    }
}

fn items<'v>(object: &'v Value, path: &[&str]) -> &'v [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn device_id(device: &Value) -> [String; 4] {
    ["driver", "pool", "device", "shareID"].map(|name| device.str_at(&[name]).to_owned())
}

pub struct Slices;

impl Strategy for Slices {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value) {
        multiply_by_one(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        multiply_by_one(object);
    }

    fn stamp(&self, object: &mut Value, _old: Option<&Value>, now: Timestamp) {
        for device in devices(object) {
            let taints = device.get_mut("taints").and_then(Value::as_array_mut);
            taints.into_iter().flatten().for_each(|taint| date(taint, now));
        }
    }
}

fn devices(slice: &mut Value) -> impl Iterator<Item = &mut Value> {
    slice.at_mut(&["spec", "devices"]).and_then(Value::as_array_mut).into_iter().flatten()
}

fn multiply_by_one(slice: &mut Value) {
    for device in devices(slice) {
        let mappings = device.get_mut("nodeAllocatableResourceMappings").and_then(Value::as_object_mut);
        for (_, mapping) in mappings.into_iter().flat_map(|map| map.iter_mut()) {
            if mapping.get("allocationMultiplier").is_none() {
                mapping.set(&["allocationMultiplier"], "1");
            }
        }
    }
}

/// A taint tells since when it is there.
fn date(taint: &mut Value, now: Timestamp) {
    if taint.get("timeAdded").is_none_or(Value::is_null) {
        taint.set(&["timeAdded"], api::time::format(now));
    }
}

pub struct TaintRules;

impl Strategy for TaintRules {
    /// The time is that of the effect, and follows it unless the client sets another.
    fn stamp(&self, object: &mut Value, old: Option<&Value>, now: Timestamp) {
        let Some(taint) = object.at_mut(&["spec", "taint"]) else { return };
        let before = old.and_then(|old| old.at(&["spec", "taint"]));
        if let Some(before) = before
            && before.get("effect") != taint.get("effect")
            && before.get("timeAdded") == taint.get("timeAdded")
        {
            taint.take(&["timeAdded"]);
        }
        date(taint, now);
    }
}
