//! Cells of nodes, workloads, jobs and volumes.

use jiff::Timestamp;

use crate::table::cells::{at, condition, is_deleted, is_true, items, parse_time, since, text_or};
use crate::table::duration;
use crate::value::Value;

type Cell = Value;

fn int(object: &Value, path: &str) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or_default()
}

pub fn ready_replicas(object: &Value, _now: Timestamp) -> Cell {
    format!("{}/{}", int(object, "status.readyReplicas"), int(object, "spec.replicas")).into()
}

/// The owner that controls the object, as `kind.group/name`.
pub fn controller(object: &Value, _now: Timestamp) -> Cell {
    let owners = items(object, &["metadata", "ownerReferences"]);
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    let Some(owner) = owners.iter().find(controls) else { return "<none>".into() };
    let group = owner.str_at(&["apiVersion"]).rsplit_once('/').map_or("", |(group, _)| group);
    let kind = owner.str_at(&["kind"]);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}/{}", format!("{kind}{dot}{group}").to_lowercase(), owner.str_at(&["name"])).into()
}

pub fn job_status(job: &Value, _now: Timestamp) -> Cell {
    let status = if is_true(job, "Complete") {
        "Complete"
    } else if is_true(job, "Failed") {
        "Failed"
    } else if is_deleted(job) {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|kind| is_true(job, kind))
            .unwrap_or("Running")
    };
    status.into()
}

pub fn job_completions(job: &Value, _now: Timestamp) -> Cell {
    let succeeded = int(job, "status.succeeded");
    match (at(job, "spec.completions"), int(job, "spec.parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{}", text_or(Some(completions), "")),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    }
    .into()
}

pub fn job_duration(job: &Value, now: Timestamp) -> Cell {
    let time = |path| at(job, path).and_then(Value::as_str).and_then(parse_time);
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => "".into(),
        (Some(start), end) => duration::between(start, end.unwrap_or(now)).into(),
    }
}

pub fn is_suspended(job: &Value, _now: Timestamp) -> Cell {
    match at(job, "spec.suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
    .into()
}

pub fn scale_target(object: &Value, _now: Timestamp) -> Cell {
    let target = |name| object.str_at(&["spec", "scaleTargetRef", name]);
    format!("{}/{}", target("kind"), target("name")).into()
}

pub fn node_status(node: &Value, _now: Timestamp) -> Cell {
    let ready = match condition(node, "Ready").map(|ready| ready.str_at(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let is_closed = at(node, "spec.unschedulable").and_then(Value::as_bool) == Some(true);
    format!("{ready}{}", if is_closed { ",SchedulingDisabled" } else { "" }).into()
}

pub fn node_roles(node: &Value, _now: Timestamp) -> Cell {
    let labels = at(node, "metadata.labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flat_map(|labels| labels.iter())
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => value.as_str(),
            _ => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
}

fn node_address(node: &Value, kind: &str) -> Cell {
    let addresses = items(node, &["status", "addresses"]);
    let address = addresses.iter().find(|address| address.str_at(&["type"]) == kind);
    address.map_or("<none>", |address| address.str_at(&["address"])).into()
}

pub fn internal_ip(node: &Value, _now: Timestamp) -> Cell {
    node_address(node, "InternalIP")
}

pub fn node_external_ip(node: &Value, _now: Timestamp) -> Cell {
    node_address(node, "ExternalIP")
}

pub fn kernel_version(node: &Value, _now: Timestamp) -> Cell {
    let kernel = text_or(at(node, "status.nodeInfo.kernelVersion"), "<unknown>");
    match node.str_at(&["status", "nodeInfo", "architecture"]) {
        "" => kernel.into(),
        architecture => format!("{kernel} ({architecture})").into(),
    }
}

fn access_modes(object: &Value, path: &[&str]) -> String {
    let modes = items(object, path);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|candidate| candidate.as_str() == Some(mode));
    short.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

pub fn volume_access_modes(volume: &Value, _now: Timestamp) -> Cell {
    access_modes(volume, &["spec", "accessModes"]).into()
}

pub fn volume_phase(object: &Value, _now: Timestamp) -> Cell {
    if is_deleted(object) { "Terminating".into() } else { object.str_at(&["status", "phase"]).into() }
}

pub fn volume_claim(volume: &Value, _now: Timestamp) -> Cell {
    match at(volume, "spec.claimRef") {
        Some(claim) => format!("{}/{}", claim.str_at(&["namespace"]), claim.str_at(&["name"])).into(),
        None => "".into(),
    }
}

/// The annotation is older than the field and wins.
pub fn storage_class_name(object: &Value, _now: Timestamp) -> Cell {
    let annotation = object.at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    match annotation {
        Some(class) => class.clone(),
        None => object.str_at(&["spec", "storageClassName"]).into(),
    }
}

/// A claim has these only once it has a volume.
fn of_bound(claim: &Value, cell: impl FnOnce() -> String) -> Cell {
    if claim.str_at(&["spec", "volumeName"]).is_empty() { "".into() } else { cell().into() }
}

pub fn claim_capacity(claim: &Value, _now: Timestamp) -> Cell {
    of_bound(claim, || text_or(at(claim, "status.capacity.storage"), "0"))
}

pub fn claim_access_modes(claim: &Value, _now: Timestamp) -> Cell {
    of_bound(claim, || access_modes(claim, &["status", "accessModes"]))
}

/// The name of a StorageClass or IngressClass, with a mark on the default one.
pub fn class_name(class: &Value, _now: Timestamp) -> Cell {
    const MARKS: [&str; 3] = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
        "ingressclass.kubernetes.io/is-default-class",
    ];
    let is_default = MARKS.into_iter().any(|mark| class.str_at(&["metadata", "annotations", mark]) == "true");
    format!("{}{}", class.str_at(&["metadata", "name"]), if is_default { " (default)" } else { "" }).into()
}

pub fn token_requests(driver: &Value, _now: Timestamp) -> Cell {
    match at(driver, "spec.tokenRequests").and_then(Value::as_array) {
        Some(requests) => {
            requests.iter().map(|request| request.str_at(&["audience"])).collect::<Vec<_>>().join(",").into()
        }
        None => "<unset>".into(),
    }
}

pub fn claim_state(claim: &Value, _now: Timestamp) -> Cell {
    let mut states = Vec::new();
    if is_deleted(claim) {
        states.push("deleted");
    }
    if at(claim, "status.allocation").is_some() {
        states.push("allocated");
        if !items(claim, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if states.is_empty() {
        states.push("pending");
    }
    states.join(",").into()
}

pub fn pool_sum(request: &Value, member: &str) -> Cell {
    if at(request, "status").is_none() || pool_state(request) == "Failed" {
        return "-".into();
    }
    items(request, &["status", "pools"]).iter().map(|pool| int(pool, member)).sum::<i64>().to_string().into()
}

pub fn pool_errors(request: &Value, _now: Timestamp) -> Cell {
    if at(request, "status").is_none() || pool_state(request) == "Failed" {
        return "-".into();
    }
    let pools = items(request, &["status", "pools"]);
    pools.iter().filter(|pool| at(pool, "validationError").is_some()).count().to_string().into()
}

fn pool_state(request: &Value) -> &'static str {
    ["Complete", "Failed"].into_iter().find(|kind| is_true(request, kind)).unwrap_or("Pending")
}

pub fn pool_status(request: &Value, _now: Timestamp) -> Cell {
    let (shown, all) = (items(request, &["status", "pools"]).len() as i64, int(request, "status.poolCount"));
    match pool_state(request) {
        "Complete" if all > shown => format!("Complete ({shown}/{all} pools)").into(),
        state => state.into(),
    }
}

pub fn pool_completed(request: &Value, now: Timestamp) -> Cell {
    match condition(request, "Complete").filter(|_| pool_state(request) == "Complete") {
        Some(condition) => since(condition.str_at(&["lastTransitionTime"]), now).into(),
        None => "<none>".into(),
    }
}

pub fn group_policy(group: &Value, _now: Timestamp) -> Cell {
    if at(group, "spec.schedulingPolicy.gang").is_some() { "Gang".into() } else { "Basic".into() }
}

pub fn group_status(group: &Value, _now: Timestamp) -> Cell {
    if let Some(disruption) = condition(group, "DisruptionTarget") {
        return disruption.str_at(&["reason"]).into();
    }
    match condition(group, "PodGroupScheduled").map(|scheduled| scheduled.str_at(&["status"])) {
        Some("True") => "Scheduled",
        Some(_) => "Unschedulable",
        None => "Pending",
    }
    .into()
}
