//! PersistentVolumeClaims and PersistentVolumes (`pkg/apis/core/validation`).

use api::{Value, names};

use super::{
    at::{At, IMMUTABLE},
    common,
    pod::volume,
    resources,
};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn access_modes(at: &At, missing: &str) {
    at.need_because(missing);
    const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in at.texts().filter(|mode| !MODES.contains(mode)) {
        at.not_supported_value(mode, &MODES);
    }
    let others = at.texts().any(|mode| mode != "ReadWriteOncePod" && MODES.contains(&mode));
    if at.contains("ReadWriteOncePod") && others {
        at.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// `ValidatePersistentVolumeClaimSpec`.
pub(super) fn spec(at: &At) {
    common::label_selector(&at.get("selector"));
    access_modes(&at.get("accessModes"), "at least 1 access mode is required");
    let (resources, asked) = (at.get("resources"), at.get("resources"));
    let requests = asked.get("requests");
    let storage = resources.key("storage");
    let storage = storage.holding(&requests.key("storage"));
    if !storage.is_set() {
        storage.required("");
    } else if resources::positive_quantity(&storage) {
        resources::resource_quantity(&storage, "storage");
    }
    for name in ["storageClassName", "volumeAttributesClassName"] {
        at.get(name).named_if_set(names::dns1123_subdomain);
    }
    at.get("volumeMode").one_of_if_set(&VOLUME_MODES);
    let (source, reference) = (at.get("dataSource"), at.get("dataSourceRef"));
    for source in [source, reference].iter().filter(|source| source.is_set()) {
        source.get("name").need();
        source.get("kind").need();
        let group = source.get("apiGroup");
        if group.is_empty() && source.get("kind").text() != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            source.invalid_value(source.get("kind").text(), detail);
        }
        group.named_if_set(names::dns1123_subdomain);
    }
    let namespace = reference.get("namespace");
    namespace.named_if_set(names::dns1123_label);
    if source.is_set() && reference.is_set() {
        // What upstream shows as the value is a path, which as JSON is nothing.
        if !namespace.is_empty() {
            at.invalid_value(Value::object(), "may not be specified when dataSourceRef.namespace is specified");
        } else if ["apiGroup", "kind", "name"].iter().any(|name| !source.get(name).same(&reference.get(name))) {
            at.invalid_value(Value::object(), "must match dataSourceRef");
        }
    }
}

pub(super) fn claim(at: &At) {
    spec(&at.get("spec"));
}

fn amount(value: &Value, path: &[&str]) -> Option<api::quantity::Quantity> {
    api::quantity::Quantity::parse(value.at(path)?.as_str()?).ok()
}

/// `ValidatePersistentVolumeClaimUpdate`.
pub(super) fn claim_update(at: &At, old: &At) {
    let (new, before) = (at.value(), old.value());
    let annotation = |value: &Value| value.str_at(&["metadata", "annotations", BETA_CLASS]).to_owned();
    if annotation(new) != annotation(before) && !moves_class(new, before) {
        let metadata = at.get("metadata");
        metadata.get("annotations").get(BETA_CLASS).invalid_value(annotation(new), IMMUTABLE);
    }
    let (mut rest, mut was) =
        (new.get("spec").cloned().unwrap_or_default(), before.get("spec").cloned().unwrap_or_default());
    if was.str_at(&["volumeName"]).is_empty() {
        copy(&mut was, &rest.clone(), &["volumeName"]);
    }
    // A class may come where there was none, or be what the annotation said.
    let class = |value: &Value| value.at(&["spec", "storageClassName"]).and_then(Value::as_str).map(str::to_owned);
    if class(before).is_none()
        && class(new).is_some_and(|class| annotation(before).is_empty() || class == annotation(before))
    {
        rest.take(&["storageClassName"]);
    }
    if new.str_at(&["status", "phase"]) == "Bound" {
        copy(&mut rest, &was, &["resources", "requests", "storage"]);
        copy(&mut rest, &was, &["volumeAttributesClassName"]);
    }
    let spec = at.get("spec");
    if rest != was {
        spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let size = ["spec", "resources", "requests", "storage"];
    let granted = amount(before, &["status", "capacity", "storage"]).unwrap_or_default();
    let (wanted, was) = (amount(new, &size).unwrap_or_default(), amount(before, &size).unwrap_or_default());
    if wanted < was && wanted <= granted {
        let resources = spec.get("resources");
        resources.get("requests").get("storage").forbidden("field can not be less than status.capacity");
    }
    let mode = spec.get("volumeMode");
    if !mode.same(&old.get("spec").get("volumeMode")) {
        at.get("volumeMode").holding(&mode).invalid(IMMUTABLE);
    }
    let attributes = spec.get("volumeAttributesClassName");
    if before.at(&["status", "currentVolumeAttributesClassName"]).is_some() && attributes.is_empty() {
        let what = if attributes.is_set() { "empty string" } else { "nil" };
        if !attributes.same(&old.get("spec").get("volumeAttributesClassName")) {
            let why = "is forbidden when status.currentVolumeAttributesClassName is not nil";
            attributes.forbidden(format!("update to {what} {why}"));
        }
    }
}

/// `validateStorageClassUpgradeFromAnnotation`.
fn moves_class(new: &Value, old: &Value) -> bool {
    let class = |value: &Value| value.str_at(&["spec", "storageClassName"]).to_owned();
    let annotation = |value: &Value| value.str_at(&["metadata", "annotations", BETA_CLASS]).to_owned();
    class(old).is_empty()
        && class(new) == annotation(old)
        && (annotation(new).is_empty() || annotation(new) == annotation(old))
}

fn copy(to: &mut Value, from: &Value, path: &[&str]) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => to.take(path).is_some(),
    };
}

/// `ValidatePersistentVolumeClaimStatusUpdate`.
pub(super) fn claim_status(at: &At, _old: &At) {
    let status = at.get("status");
    for (_, amount) in status.get("capacity").entries() {
        basic_resource(&amount);
    }
    let states = status.get("allocatedResourceStatuses");
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (key, state) in states.entries() {
        resource_key(&states, key);
        if !STATES.contains(&state.text()) {
            let mut sorted = STATES;
            sorted.sort_unstable();
            states.not_supported_value(key, &sorted);
        }
    }
    let amounts = status.get("allocatedResources");
    for (key, amount) in amounts.entries() {
        if resource_key(&amounts, key) {
            basic_resource(&amount);
        }
    }
}

/// Whether it is one.
fn resource_key(at: &At, key: &str) -> bool {
    let before = at.errors();
    at.problems(key, names::qualified_name);
    if at.errors() == before && !key.contains('/') && key != "storage" {
        at.not_supported_value(key, &["storage"]);
    }
    at.errors() == before
}

fn basic_resource(at: &At) {
    if let Some(quantity) = at.quantity().filter(|quantity| quantity.is_negative()) {
        at.invalid_value(quantity.value(), "must be a valid resource quantity");
    }
}

/// `ValidatePersistentVolumeSpec`.
pub(super) fn volume(at: &At) {
    let spec = at.get("spec");
    access_modes(&spec.get("accessModes"), "");
    let capacity = spec.get("capacity");
    capacity.need();
    if capacity.len() > 1 || !capacity.key("storage").is_set() {
        capacity.not_supported_value(capacity.value(), &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        basic_resource(&amount);
        resources::positive_quantity(&amount);
    }
    let reclaim = spec.get("persistentVolumeReclaimPolicy");
    if !reclaim.is_empty() {
        reclaim.one_of(&["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.get("required");
        if required.is_set() {
            common::node_selector(&required);
        } else {
            required.required("must specify required node constraints");
        }
    }
    volume::persistent_source(&spec);
    if spec.get("local").is_set() && !affinity.is_set() {
        affinity.required("Local volume requires node affinity");
    }
    let path = spec.value().str_at(&["hostPath", "path"]);
    if !path.is_empty() && path.trim_matches('/').is_empty() && reclaim.text() == "Recycle" {
        reclaim.forbidden("may not be 'recycle' for a hostPath mount of '/'");
    }
    spec.get("storageClassName").named_if_set(names::dns1123_subdomain);
    spec.get("volumeMode").one_of_if_set(&VOLUME_MODES);
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.is_set() {
        if attributes.need_because("an empty string is disallowed") {
            attributes.named(names::dns1123_subdomain);
        }
        if !spec.get("csi").is_set() {
            spec.get("csi").required("has to be specified when using volumeAttributesClassName");
        }
    }
}

/// `ValidatePersistentVolumeUpdate`.
pub(super) fn volume_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let (mut now, mut was) = (spec.value().clone(), before.value().clone());
    // The secret to expand with may be added.
    if was.at(&["csi", "controllerExpandSecretRef"]).is_none() {
        now.take(&["csi", "controllerExpandSecretRef"]);
    }
    let sources = |value: &mut Value| -> Vec<Option<Value>> {
        volume::persistent_names().map(|name| value.take(&[name])).collect()
    };
    if sources(&mut now) != sources(&mut was) {
        spec.get("persistentvolumesource").forbidden("spec.persistentvolumesource is immutable after creation");
    }
    let mode = spec.get("volumeMode");
    if !mode.same(&before.get("volumeMode")) {
        at.get("volumeMode").holding(&mode).invalid(IMMUTABLE);
    }
    let (affinity, was) = (spec.get("nodeAffinity"), before.get("nodeAffinity"));
    if was.is_set() && without_beta_labels(affinity.value()) != without_beta_labels(was.value()) {
        at.get("nodeAffinity")
            .holding(&affinity)
            .invalid(format!("{IMMUTABLE}, except for updating from beta label to GA"));
    }
    if before.get("volumeAttributesClassName").is_set() && !spec.get("volumeAttributesClassName").is_set() {
        spec.get("volumeAttributesClassName").forbidden("update from non-nil value to nil is forbidden");
    }
}

/// Labels of nodes under the names that they have since they are stable (`getMaskNodeSelectorLabelChangeEqualities`).
fn without_beta_labels(affinity: &Value) -> Value {
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut affinity = affinity.clone();
    let terms = affinity.at_mut(&["required", "nodeSelectorTerms"]).and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let expressions = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for expression in expressions.into_iter().flatten() {
            let stable = RENAMED.iter().find(|(beta, _)| expression.str_at(&["key"]) == *beta);
            if let Some((_, stable)) = stable {
                expression.set(&["key"], *stable);
            }
        }
    }
    affinity
}
