//! Amounts of resources by name, and what a pod asks for in all: shared by LimitRanger and ResourceQuota.

use std::collections::BTreeMap;

use api::{
    Value,
    quantity::{Format, Quantity},
};

/// A `ResourceList`.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

pub(crate) fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSI)
}

/// The amounts in an object of quantities; what is no quantity was refused when the object was decoded.
pub(crate) fn read(list: Option<&Value>) -> Amounts {
    let members = list.and_then(Value::as_object).into_iter().flat_map(|list| list.iter());
    members.filter_map(|(name, value)| Some((name.to_owned(), quantity(value)?))).collect()
}

pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Int(number) => Some(Quantity::new(*number, Format::DecimalSI)),
        _ => None,
    }
}

pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        to.entry(name.clone()).and_modify(|sum| *sum += *amount).or_insert(*amount);
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        to.entry(name.clone()).and_modify(|most| *most = (*most).max(*amount)).or_insert(*amount);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Limits,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Requests => "requests",
            Side::Limits => "limits",
        }
    }
}

/// What a pod's containers ask for together: the sum of those that run side by side, or the largest moment of
/// initialization (component-helpers `resource/helpers.go`, AggregateContainerRequests and -Limits, from the spec alone).
pub(crate) fn of_containers(pod: &Value, side: Side) -> Amounts {
    pod.get("spec").map(|spec| of_spec(spec, side)).unwrap_or_default()
}

/// The same of a pod's spec, wherever it stands.
pub(crate) fn of_spec(spec: &Value, side: Side) -> Amounts {
    let containers = |list: &str| spec.get(list).and_then(Value::as_array).unwrap_or_default();
    let asked = |container: &Value| read(container.at(&["resources", side.name()]));
    let mut total = Amounts::new();
    for container in containers("containers") {
        add(&mut total, &asked(container));
    }
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let mut moment = asked(container);
        if container.str_at(&["restartPolicy"]) == "Always" {
            add(&mut total, &moment);
            add(&mut sidecars, &moment);
            moment = sidecars.clone();
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut highest, &moment);
    }
    raise(&mut total, &highest);
    total
}

/// Whether a pod may ask for the resource as a whole.
pub(crate) fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// What a pod asks for without overhead: as a whole, or else its containers together (PodRequests, PodLimits).
pub(crate) fn of_pod(pod: &Value, side: Side) -> Amounts {
    let mut total = of_containers(pod, side);
    let own = read(pod.at(&["spec", "resources", side.name()]));
    total.extend(own.into_iter().filter(|(name, _)| is_of_pods(name)));
    total
}

/// The same with the overhead of the pod's runtime class, which raises only the limits that there are.
pub(crate) fn of_pod_with_overhead(pod: &Value, side: Side) -> Amounts {
    let mut total = of_pod(pod, side);
    let overhead = read(pod.at(&["spec", "overhead"]));
    match side {
        Side::Requests => add(&mut total, &overhead),
        Side::Limits => {
            for (name, amount) in overhead {
                if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
                    *limit += amount;
                }
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_asks_for_its_largest_moment() {
        let cases = [
            ("nothing", r#"{"containers":[{}]}"#, ""),
            (
                "containers add up",
                r#"{"containers":[{"resources":{"requests":{"cpu":"100m"}}},{"resources":{"requests":{"cpu":"1","memory":"1Gi"}}}]}"#,
                "cpu=1100m memory=1Gi",
            ),
            (
                "the largest initialization counts",
                r#"{"containers":[{"resources":{"requests":{"cpu":"1"}}}],"initContainers":[{"resources":{"requests":{"cpu":"3"}}},{"resources":{"requests":{"cpu":"2"}}}]}"#,
                "cpu=3",
            ),
            (
                "a sidecar runs on, and beside what initializes later",
                r#"{"containers":[{"resources":{"requests":{"cpu":"1"}}}],"initContainers":[{"restartPolicy":"Always","resources":{"requests":{"cpu":"2"}}},{"resources":{"requests":{"cpu":"3"}}}]}"#,
                "cpu=5",
            ),
            (
                "the pod's own amount goes before the sum",
                r#"{"resources":{"requests":{"cpu":"7"}},"containers":[{"resources":{"requests":{"cpu":"1","memory":"5"}}}]}"#,
                "cpu=7 memory=5",
            ),
            (
                "overhead is added",
                r#"{"overhead":{"cpu":"250m"},"containers":[{"resources":{"requests":{"cpu":"1"}}}]}"#,
                "cpu=1250m",
            ),
        ];
        for (name, spec, wanted) in cases {
            let pod = api::json::parse(format!(r#"{{"spec":{spec}}}"#).as_bytes()).expect("json");
            let all = of_pod_with_overhead(&pod, Side::Requests);
            let text: Vec<String> = all.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
            assert_eq!(text.join(" "), wanted, "{name}");
        }
    }
}
