//! A pod's cells: which of its many states is the one to show (`printPod`).

use jiff::Timestamp;

use super::cells::{condition, is_true, items, parse_time};
use super::duration;
use crate::value::{Map, Value};

/// What all cells of a pod are drawn from.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts of some containers, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += number(status, &["restartCount"]);
        let finished = status.str_at(&["lastState", "terminated", "finishedAt"]);
        self.last = self.last.max(parse_time(finished));
    }
}

pub(super) fn ready(pod: &Value, _now: Timestamp) -> Value {
    let summary = summarize(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(super) fn status(pod: &Value, _now: Timestamp) -> Value {
    summarize(pod).reason.into()
}

pub(super) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let summary = summarize(pod);
    match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::between(last, now)).into()
        }
        _ => summary.restarts.to_string().into(),
    }
}

pub(super) fn readiness_gates(pod: &Value, _now: Timestamp) -> Value {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.iter().filter(|gate| is_true(pod, gate.str_at(&["conditionType"]))).count();
    format!("{met}/{}", gates.len()).into()
}

pub(super) fn ip(pod: &Value, _now: Timestamp) -> Value {
    match items(pod, &["status", "podIPs"]).first().map(|entry| entry.str_at(&["ip"])) {
        None | Some("") => "<none>".into(),
        Some(ip) => ip.into(),
    }
}

/// The row's conditions: whether the pod is done (`TableRowCondition`), so that clients can dim it.
pub fn row_conditions(group: &str, kind: &str, object: &Value) -> Option<Value> {
    let (reason, message) = match object.str_at(&["status", "phase"]) {
        _ if (group, kind) != ("", "Pod") => return None,
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    let members = [("type", "Completed"), ("status", "True"), ("reason", reason), ("message", message)];
    Some(Value::Array(vec![members.into_iter().collect::<Map>().into()]))
}

fn number(value: &Value, path: &[&str]) -> i64 {
    value.at(path).and_then(Value::as_i64).unwrap_or_default()
}

fn summarize(pod: &Value) -> Summary {
    let phase = pod.str_at(&["status", "phase"]);
    let mut reason = match pod.str_at(&["status", "reason"]) {
        "" => phase,
        reason => reason,
    }
    .to_owned();
    if condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled.str_at(&["reason"]) == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let init_specs = items(pod, &["spec", "initContainers"]);
    let total = items(pod, &["spec", "containers"]).len() + init_specs.iter().filter(|spec| is_sidecar(spec)).count();

    let init = initialize(pod, init_specs);
    let mut ready = init.ready;
    let mut restarts = init.restarts;
    let is_initializing = init.reason.is_some();
    reason = init.reason.unwrap_or(reason);
    if !is_initializing || is_true(pod, "Initialized") {
        restarts = init.sidecar_restarts;
        reason = containers(pod, reason, &mut ready, &mut restarts);
    }

    let is_deleted = pod.at(&["metadata", "deletionTimestamp"]).is_some();
    if is_deleted && pod.str_at(&["status", "reason"]) == "NodeLost" {
        reason = "Unknown".to_owned();
    } else if is_deleted && !matches!(phase, "Succeeded" | "Failed") {
        reason = "Terminating".to_owned();
    }
    Summary { reason, ready, total, restarts: restarts.count, last_restart: restarts.last }
}

/// An init container that keeps running beside the others.
fn is_sidecar(spec: &Value) -> bool {
    spec.str_at(&["restartPolicy"]) == "Always"
}

#[derive(Default)]
struct Initialization {
    /// Set while an init container is not done.
    reason: Option<String>,
    ready: usize,
    restarts: Restarts,
    sidecar_restarts: Restarts,
}

fn initialize(pod: &Value, specs: &[Value]) -> Initialization {
    let mut init = Initialization::default();
    for (index, status) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let name = status.str_at(&["name"]);
        let is_sidecar = specs.iter().any(|spec| spec.str_at(&["name"]) == name && is_sidecar(spec));
        init.restarts.add(status);
        if is_sidecar {
            init.sidecar_restarts.add(status);
        }
        let terminated = status.at(&["state", "terminated"]);
        let waiting = status.str_at(&["state", "waiting", "reason"]);
        if terminated.is_some_and(|state| number(state, &["exitCode"]) == 0) {
            continue;
        }
        if is_sidecar && status.get("started").and_then(Value::as_bool) == Some(true) {
            init.ready += usize::from(status.get("ready").and_then(Value::as_bool) == Some(true));
            continue;
        }
        init.reason = Some(match terminated {
            Some(state) => format!("Init:{}", termination(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", specs.len()),
        });
        break;
    }
    init
}

fn termination(state: &Value) -> String {
    match (state.str_at(&["reason"]), number(state, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(state, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Goes through the containers from the last to the first: the first one that has something to say wins.
fn containers(pod: &Value, mut reason: String, ready: &mut usize, restarts: &mut Restarts) -> String {
    let mut has_running = false;
    let mut error = None;
    for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
        restarts.add(status);
        let waiting = status.str_at(&["state", "waiting", "reason"]);
        let is_ready = status.get("ready").and_then(Value::as_bool) == Some(true);
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if let Some(state) = status.at(&["state", "terminated"]) {
            reason = termination(state);
            if number(state, &["exitCode"]) != 0 {
                error = Some(reason.clone());
            }
        } else if is_ready && status.at(&["state", "running"]).is_some() {
            has_running = true;
            *ready += 1;
        }
    }
    match (reason.as_str(), error) {
        ("Completed", _) if has_running && is_true(pod, "Ready") => "Running".to_owned(),
        ("Completed", Some(error)) => error,
        ("Completed", None) if has_running => "NotReady".to_owned(),
        _ => reason,
    }
}
