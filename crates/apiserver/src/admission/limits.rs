//! LimitRanger: a namespace's LimitRanges give containers their defaults and bound what containers, pods and claims ask
//! for (upstream `plugin/pkg/admission/limitranger`).

use api::{Status, Value, quantity::Quantity};
use async_trait::async_trait;

use super::{
    Operation, Plugin, Review,
    amounts::{self, Amounts, Side},
};
use crate::strategy::containers;

pub struct LimitRanger;

const ANNOTATION: [&str; 3] = ["metadata", "annotations", "kubernetes.io/limit-ranger"];

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if !concerns(review) || &*review.resource.plural != "pods" {
            return Ok(());
        }
        for range in ranges(review) {
            set_defaults(&range, object);
        }
        Ok(())
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if !concerns(review) {
            return Ok(());
        }
        let is_pod = &*review.resource.plural == "pods";
        for range in ranges(review) {
            let problems = if is_pod { check_pod(&range, object) } else { check_claim(&range, object) };
            if let Some(why) = aggregate(problems) {
                return Err(review.forbidden(&why));
            }
        }
        Ok(())
    }
}

/// New pods and resized ones, claims whenever they are written; nothing that is being deleted.
fn concerns(review: &Review<'_>) -> bool {
    if !review.resource.group.is_empty() {
        return false;
    }
    let right = match (&*review.resource.plural, review.subresource, review.operation) {
        ("pods", "", Operation::Create) | ("pods", "resize", Operation::Update) => true,
        ("persistentvolumeclaims", "", operation) => matches!(operation, Operation::Create | Operation::Update),
        _ => false,
    };
    right && review.old.is_none_or(|old| old.at(&["metadata", "deletionTimestamp"]).is_none())
}

fn ranges(review: &Review<'_>) -> Vec<Value> {
    let Some(shelf) = review.server.cache.shelf_at("limitranges").filter(|shelf| !shelf.is_empty()) else {
        return Vec::new();
    };
    shelf.snapshot().under(&format!("{}/", review.namespace)).map(|(_, range)| range.tree()).collect()
}

fn items(range: &Value) -> &[Value] {
    range.at(&["spec", "limits"]).and_then(Value::as_array).unwrap_or_default()
}

/// Go's aggregate of errors: one as it is, several in brackets, each once.
fn aggregate(problems: Vec<String>) -> Option<String> {
    let mut texts: Vec<String> = Vec::new();
    for problem in problems {
        if !texts.contains(&problem) {
            texts.push(problem);
        }
    }
    match texts.len() {
        0 | 1 => texts.pop(),
        _ => Some(format!("[{}]", texts.join(", "))),
    }
}

fn set_defaults(range: &Value, pod: &mut Value) {
    let of = |member: &str| -> Vec<(String, Value)> {
        let limits = items(range).iter().filter(|item| item.str_at(&["type"]) == "Container");
        let members = limits.filter_map(|item| item.get(member)?.as_object()).flat_map(|map| map.iter());
        members.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let (requests, limits) = (of("defaultRequest"), of("default"));
    let mut notes = Vec::new();
    for (list, called) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod.at_mut(&["spec", list]).and_then(Value::as_array_mut).into_iter().flatten() {
            for (side, defaults) in [(Side::Requests, &requests), (Side::Limits, &limits)] {
                let set = complete(container, side, defaults);
                if !set.is_empty() {
                    let kind = if side == Side::Requests { "request" } else { "limit" };
                    notes.push(format!("{} {kind} for {called} {}", set.join(", "), container.str_at(&["name"])));
                }
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    pod.set(&ANNOTATION, format!("LimitRanger plugin set: {}", notes.join("; ")));
    // The class was found before the defaults were there.
    if pod.at(&["status", "qosClass"]).is_some() {
        let class = crate::strategy::qos_class(pod);
        pod.set(&["status", "qosClass"], class);
    }
}

/// Sets what the container does not say itself; gives the names that were set, sorted.
fn complete(container: &mut Value, side: Side, defaults: &[(String, Value)]) -> Vec<String> {
    let mut set = Vec::new();
    // Of several limits for containers the last one's default counts.
    for (name, value) in defaults.iter().rev() {
        if container.at(&["resources", side.name(), name]).is_none() {
            container.set(&["resources", side.name(), name], value.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for item in items(range) {
        match item.str_at(&["type"]) {
            "Container" => {
                for container in containers(pod, "containers").iter().chain(containers(pod, "initContainers")) {
                    let requests = amounts::read(container.at(&["resources", "requests"]));
                    let limits = amounts::read(container.at(&["resources", "limits"]));
                    Bounds { kind: "Container", requests: &requests, limits: &limits }.check(item, &mut problems);
                }
            }
            "Pod" => {
                let (requests, limits) = (amounts::of_pod(pod, Side::Requests), amounts::of_pod(pod, Side::Limits));
                Bounds { kind: "Pod", requests: &requests, limits: &limits }.check(item, &mut problems);
            }
            _ => {}
        }
    }
    problems
}

/// Claims have requests only.
fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let requests = amounts::read(claim.at(&["spec", "resources", "requests"]));
    for item in items(range).iter().filter(|item| item.str_at(&["type"]) == "PersistentVolumeClaim") {
        let bounds = Bounds { kind: "PersistentVolumeClaim", requests: &requests, limits: &Amounts::new() };
        problems.extend(amounts::read(item.get("min")).iter().filter_map(|(name, least)| bounds.min(name, *least)));
        problems
            .extend(amounts::read(item.get("max")).iter().filter_map(|(name, most)| bounds.max_request(name, *most)));
    }
    problems
}

/// What is asked for, against a LimitRange's bounds for it.
struct Bounds<'a> {
    kind: &'static str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Bounds<'_> {
    fn check(&self, item: &Value, problems: &mut Vec<String>) {
        problems.extend(amounts::read(item.get("min")).iter().filter_map(|(name, least)| self.min(name, *least)));
        problems.extend(amounts::read(item.get("max")).iter().filter_map(|(name, most)| self.max(name, *most)));
        let ratios = amounts::read(item.get("maxLimitRequestRatio"));
        problems.extend(ratios.iter().filter_map(|(name, most)| self.ratio(name, *most)));
    }

    fn min(&self, name: &str, least: Quantity) -> Option<String> {
        let what = format!("minimum {name} usage per {} is {least}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{what}.  No request is specified")),
            (Some(request), _) if *request < least => Some(format!("{what}, but request is {request}")),
            (_, Some(limit)) if *limit < least => Some(format!("{what}, but limit is {limit}")),
            _ => None,
        }
    }

    fn max(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {most}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{what}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => Some(format!("{what}, but limit is {limit}")),
            (Some(request), _) if *request > most => Some(format!("{what}, but request is {request}")),
            _ => None,
        }
    }

    fn max_request(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {most}", self.kind);
        match self.requests.get(name) {
            None => Some(format!("{what}.  No request is specified")),
            Some(request) if *request > most => Some(format!("{what}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("{name} max limit to request ratio per {} is {most}", self.kind);
        let Some(request) = self.requests.get(name).filter(|request| !request.is_zero()) else {
            return Some(format!("{what}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limits.get(name).filter(|limit| !limit.is_zero()) else {
            return Some(format!("{what}, but no limit is specified or limit is 0"));
        };
        // Whole numbers divide without a rounding error that would tip a ratio over its bound.
        let fits = limit.value().max(request.value()) <= i64::MAX / 1000;
        let whole = |amount: &Quantity| if fits { amount.milli_value() } else { amount.value() };
        let ratio = whole(limit) as f64 / whole(request) as f64;
        (ratio > most.as_f64()).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Value {
        api::json::parse(text.as_bytes()).expect("json")
    }

    #[test]
    fn bounds_are_kept_with_upstreams_words() {
        let pod = |resources: &str| {
            parse(&format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#))
        };
        let cases = [
            (
                r#"{"type":"Container","min":{"cpu":"100m"}}"#,
                "{}",
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                r#"{"type":"Container","min":{"cpu":"100m"}}"#,
                r#"{"requests":{"cpu":"50m"}}"#,
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                r#"{"type":"Container","max":{"cpu":"1"}}"#,
                "{}",
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (
                r#"{"type":"Pod","max":{"cpu":"1"}}"#,
                r#"{"limits":{"cpu":"1500m"}}"#,
                "maximum cpu usage per Pod is 1, but limit is 1500m",
            ),
            (
                r#"{"type":"Container","maxLimitRequestRatio":{"cpu":"2"}}"#,
                r#"{"limits":{"cpu":"3"},"requests":{"cpu":"1"}}"#,
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (
                r#"{"type":"Container","maxLimitRequestRatio":{"cpu":"2"}}"#,
                r#"{"limits":{"cpu":"2"},"requests":{"cpu":"1"}}"#,
                "",
            ),
            (
                r#"{"type":"Container","min":{"cpu":"1"},"max":{"memory":"1"}}"#,
                "{}",
                "[minimum cpu usage per Container is 1.  No request is specified, maximum memory usage per Container is 1.  No limit is specified]",
            ),
        ];
        for (item, resources, wanted) in cases {
            let range = parse(&format!(r#"{{"spec":{{"limits":[{item}]}}}}"#));
            assert_eq!(aggregate(check_pod(&range, &pod(resources))).unwrap_or_default(), wanted, "{item} {resources}");
        }
    }

    #[test]
    fn defaults_fill_what_is_missing_and_say_so() {
        let range = parse(
            r#"{"spec":{"limits":[{"type":"Container","default":{"cpu":"1","memory":"1Gi"},"defaultRequest":{"cpu":"500m"}}]}}"#,
        );
        let mut pod = parse(
            r#"{"metadata":{},"spec":{"containers":[{"name":"a"},{"name":"b","resources":{"limits":{"cpu":"2","memory":"1"},"requests":{"cpu":"2"}}}]}}"#,
        );
        set_defaults(&range, &mut pod);
        assert_eq!(
            pod.str_at(&ANNOTATION),
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a"
        );
        let containers = containers(&pod, "containers");
        assert_eq!(containers[0].str_at(&["resources", "requests", "cpu"]), "500m");
        assert_eq!(containers[1].str_at(&["resources", "limits", "cpu"]), "2");
    }
}
