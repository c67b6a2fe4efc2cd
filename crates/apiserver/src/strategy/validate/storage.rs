//! The storage group (`pkg/apis/storage/validation`).

use std::collections::HashSet;

use api::{Value, names};

use super::{at::At, common, pod::volume, resources};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;
const NODE_ID_MAX: usize = 256;

fn provisioner(at: &At) {
    if at.need() {
        for problem in names::qualified_name(&at.text().to_lowercase()) {
            at.invalid_value(at.text().to_lowercase(), problem);
        }
    }
}

fn parameters(at: &At, may_be_empty: bool) {
    if at.len() > PARAMETERS_MAX {
        return at.too_long(PARAMETERS_MAX);
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            at.invalid_value(key, "field can not be empty.");
        }
        size += key.len() + value.text().len();
    }
    if size > PARAMETERS_BYTES_MAX {
        at.too_long(PARAMETERS_BYTES_MAX);
    }
    if !may_be_empty {
        at.need_because("must contain at least one key/value pair");
    }
}

pub(super) fn class(at: &At) {
    provisioner(&at.get("provisioner"));
    parameters(&at.get("parameters"), true);
    if !at.get("reclaimPolicy").is_empty() {
        at.get("reclaimPolicy").one_of(&["Delete", "Retain"]);
    }
    at.get("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"]);
    let mut seen: HashSet<&Value> = HashSet::new();
    for term in at.get("allowedTopologies").items() {
        let expressions = term.get("matchLabelExpressions");
        expressions.unique("key");
        for expression in expressions.items() {
            expression.get("values").need();
            expression.get("values").unique("");
            expression.get("key").named(names::qualified_name);
        }
        // One of no expressions is none that upstream does not have already.
        if !seen.insert(term.value()) || expressions.is_empty() {
            expressions.duplicate_value("");
        }
    }
}

pub(super) fn class_update(at: &At, old: &At) {
    for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        at.get(name).immutable(&old.get(name));
    }
}

pub(super) fn attachment(at: &At) {
    let spec = at.get("spec");
    volume::csi_driver(&spec.get("attacher"));
    let source = spec.get("source");
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => source.required(detail),
        (true, true) => source.forbidden(detail),
        (false, true) => {
            name.need_because("must specify non empty persistentVolumeName");
        }
        (true, false) => inline_volume(&inline),
    }
    if name.is_set() {
        name.named(names::dns1123_subdomain);
    }
    spec.get("nodeName").named(names::dns1123_subdomain);
    attachment_status(at);
}

fn inline_volume(at: &At) {
    for name in ["claimRef", "capacity", "nodeAffinity"] {
        at.get(name).forbid("may not be specified in the context of inline volumes");
    }
    if !at.get("storageClassName").is_empty() {
        at.get("storageClassName").forbidden("may not be specified in the context of inline volumes");
    }
    if !at.get("csi").is_set() {
        at.get("csi").required("has to be specified in the context of inline volumes");
    }
    volume::persistent_source(at);
}

pub(super) fn attachment_status(at: &At) {
    let status = at.get("status");
    let metadata = status.get("attachmentMetadata");
    let size: usize = metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    if size > PARAMETERS_BYTES_MAX {
        metadata.too_long(PARAMETERS_BYTES_MAX);
    }
    for name in ["attachError", "detachError"] {
        let error = status.get(name);
        if error.get("message").text().len() > ERROR_BYTES_MAX {
            error.get("message").too_long(PARAMETERS_BYTES_MAX);
        }
        error.get("errorCode").in_range(0, i32::MAX.into());
    }
}

pub(super) fn driver(at: &At) {
    let spec = at.get("spec");
    spec.get("fsGroupPolicy").one_of_if_set(&["File", "None", "ReadWriteOnceWithFSType"]);
    let requests = spec.get("tokenRequests");
    let mut seen: HashSet<&str> = HashSet::new();
    for request in requests.items() {
        let audience = request.get("audience");
        if !seen.insert(audience.text()) {
            audience.duplicate_value(audience.text());
            continue;
        }
        let seconds = request.get("expirationSeconds");
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            seconds.invalid("may not specify a duration less than 10 minutes");
        }
        if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
            seconds.invalid("may not specify a duration larger than 2^32 seconds");
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.texts().filter(|mode| !matches!(*mode, "Persistent" | "Ephemeral")) {
        modes.not_supported_value(mode, &["Persistent", "Ephemeral"]);
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 10) {
        period.invalid("must be greater than or equal to 10 seconds");
    }
    let in_secrets = spec.get("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && requests.is_empty() {
        in_secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

pub(super) fn driver_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let attach = spec.get("attachRequired");
    spec.get("attachedRequired").holding(&attach).immutable(&before.get("attachRequired"));
    spec.get("volumeLifecycleModes").immutable(&before.get("volumeLifecycleModes"));
}

pub(super) fn node(at: &At) {
    let spec = at.get("spec");
    let drivers = spec.get("drivers");
    for driver in drivers.items() {
        volume::csi_driver(&driver.get("name"));
        let id = driver.get("nodeID");
        id.need();
        if id.text().len() > NODE_ID_MAX {
            id.invalid(format!("must be {NODE_ID_MAX} characters or less"));
        }
        driver.get("allocatable").get("count").non_negative();
        let mut seen: HashSet<&str> = HashSet::new();
        for key in driver.get("topologyKeys").texts() {
            if key.is_empty() {
                driver.required("");
            }
            if !seen.insert(key) {
                driver.duplicate_value(key);
            }
            driver.problems(key, names::qualified_name);
        }
    }
    drivers.all_unique("name");
}

/// Drivers come and go, but do not change but for how many volumes they take.
pub(super) fn node_update(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let plain = |driver: &At| {
        let mut plain = driver.value().clone();
        plain.take(&["allocatable"]);
        plain
    };
    let drivers = before.get("drivers");
    let drivers = drivers.by("name");
    for driver in spec.get("drivers").items() {
        let was = drivers.get(driver.get("name").text());
        if was.is_some_and(|was| plain(was) != plain(&driver)) {
            spec.get("drivers").holding(&driver).invalid("field is immutable");
        }
    }
}

pub(super) fn capacity(at: &At) {
    common::label_selector(&at.get("nodeTopology"));
    at.get("storageClassName").named(names::dns1123_subdomain);
    resources::non_negative_quantity(&at.get("capacity"));
}

pub(super) fn capacity_update(at: &At, old: &At) {
    for name in ["nodeTopology", "storageClassName"] {
        at.get(name).immutable(&old.get(name));
    }
}

pub(super) fn attributes(at: &At) {
    provisioner(&at.get("driverName"));
    parameters(&at.get("parameters"), false);
}

pub(super) fn attributes_update(at: &At, old: &At) {
    for name in ["driverName", "parameters"].into_iter().filter(|name| !at.get(name).same(&old.get(name))) {
        at.get(name).forbidden(format!("updates to {name} are forbidden."));
    }
}
