//! The priority levels and flow schemas of every cluster (apiserver `pkg/apis/flowcontrol/bootstrap/default.go`).

use api::{Value, json};
use serde_json::{Value as Json, json};

use super::{AUTOUPDATE, VERSION};

/// One of them, as it is to be.
pub(super) struct Wanted {
    pub kind: &'static str,
    pub name: &'static str,
    /// Put right whatever its annotation says.
    pub mandatory: bool,
    pub object: Value,
}

/// Name, shares of the concurrency, percentage of them that others may borrow, and what becomes of requests beyond.
type Level = (&'static str, u32, u32, Excess);

enum Excess {
    /// There are none: nothing is limited.
    Exempt,
    Reject,
    /// Queues, how many of them a flow is dealt, and how long each may get.
    Queue(u32, u32, u32),
}
use Excess::{Exempt, Queue, Reject};

const MANDATORY_LEVELS: &[Level] = &[("catch-all", 5, 0, Reject), ("exempt", 0, 0, Exempt)];

const SUGGESTED_LEVELS: &[Level] = &[
    ("system", 30, 33, Queue(64, 6, 50)),
    ("node-high", 40, 25, Queue(64, 6, 50)),
    ("leader-election", 10, 0, Queue(16, 4, 50)),
    ("workload-high", 40, 50, Queue(128, 6, 50)),
    ("workload-low", 100, 90, Queue(128, 6, 50)),
    ("global-default", 20, 50, Queue(128, 6, 50)),
];

/// Name, level, precedence, what tells flows apart, whose requests, and which.
type Schema = (&'static str, &'static str, u32, Option<&'static str>, &'static [Subject], Requests);

enum Subject {
    Group(&'static str),
    User(&'static str),
    /// All service accounts of a namespace.
    Accounts(&'static str),
}
use Subject::{Accounts, Group, User};

/// Rules on resources as verbs, groups, resources and whether those of the cluster are meant too, and one on paths as verbs
/// and paths; several words of one kind stand between commas.
type Requests = (&'static [(&'static str, &'static str, &'static str, bool)], Option<(&'static str, &'static str)>);

const ALL: Requests = (&[("*", "*", "*", true)], Some(("*", "*")));
const LEASES: &str = "coordination.k8s.io";
const ANYBODY: &[Subject] = &[Group("system:unauthenticated"), Group("system:authenticated")];
const BY_USER: Option<&str> = Some("ByUser");
const BY_NAMESPACE: Option<&str> = Some("ByNamespace");
const MANAGER: Subject = User("system:kube-controller-manager");
const SCHEDULER: Subject = User("system:kube-scheduler");

const MANDATORY_SCHEMAS: &[Schema] = &[
    ("exempt", "exempt", 1, None, &[Group("system:masters")], ALL),
    ("catch-all", "catch-all", 10_000, BY_USER, ANYBODY, ALL),
];

const SUGGESTED_SCHEMAS: &[Schema] = &[
    ("system-nodes", "system", 500, BY_USER, &[Group("system:nodes")], ALL),
    (
        "system-node-high",
        "node-high",
        400,
        BY_USER,
        &[Group("system:nodes")],
        (&[("*", "", "nodes,nodes/status", true), ("*", LEASES, "leases", false)], None),
    ),
    ("probes", "exempt", 2, None, ANYBODY, (&[], Some(("get", "/healthz,/readyz,/livez")))),
    (
        "system-leader-election",
        "leader-election",
        100,
        BY_USER,
        &[MANAGER, SCHEDULER, Accounts("kube-system")],
        (&[("get,create,update", LEASES, "leases", false)], None),
    ),
    ("kube-controller-manager", "workload-high", 800, BY_NAMESPACE, &[MANAGER], ALL),
    ("kube-scheduler", "workload-high", 800, BY_NAMESPACE, &[SCHEDULER], ALL),
    ("kube-system-service-accounts", "workload-high", 900, BY_NAMESPACE, &[Accounts("kube-system")], ALL),
    ("service-accounts", "workload-low", 9000, BY_USER, &[Group("system:serviceaccounts")], ALL),
    ("global-default", "global-default", 9900, BY_USER, ANYBODY, ALL),
];

/// All of them, levels before the schemas that refer to them.
pub(super) fn all() -> impl Iterator<Item = Wanted> {
    let levels = [(SUGGESTED_LEVELS, false), (MANDATORY_LEVELS, true)].into_iter().flat_map(|(levels, mandatory)| {
        levels.iter().map(move |level| wanted("PriorityLevelConfiguration", level.0, mandatory, level_spec(level)))
    });
    let schemas =
        [(SUGGESTED_SCHEMAS, false), (MANDATORY_SCHEMAS, true)].into_iter().flat_map(|(schemas, mandatory)| {
            schemas.iter().map(move |schema| wanted("FlowSchema", schema.0, mandatory, schema_spec(schema)))
        });
    levels.chain(schemas)
}

/// What a mandatory one says, whatever anybody wants of it.
pub(crate) fn fixed_spec(kind: &str, name: &str) -> Option<Value> {
    let fixed = all().find(|wanted| wanted.mandatory && wanted.kind == kind && wanted.name == name)?;
    fixed.object.get("spec").cloned()
}

fn wanted(kind: &'static str, name: &'static str, mandatory: bool, spec: Json) -> Wanted {
    let metadata = json!({"name": name, "annotations": {AUTOUPDATE: "true"}});
    let object = json!({"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec});
    // What is JSON already is always read.
    let object = json::parse(object.to_string().as_bytes()).unwrap_or_default();
    Wanted { kind, name, mandatory, object }
}

fn level_spec((_, shares, lendable, excess): &Level) -> Json {
    let response = match excess {
        Exempt => {
            let exempt = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable});
            return json!({"type": "Exempt", "exempt": exempt});
        }
        Reject => json!({"type": "Reject"}),
        Queue(queues, hand, length) => {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}})
        }
    };
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
    json!({"type": "Limited", "limited": limited})
}

fn schema_spec((_, level, precedence, by, subjects, requests): &Schema) -> Json {
    let subjects: Vec<Json> = subjects.iter().map(subject).collect();
    let mut rule = json!({"subjects": subjects});
    let resources = requests.0.iter().map(|(verbs, groups, resources, of_cluster)| {
        let mut rule = json!({
            "verbs": words(verbs), "apiGroups": words(groups), "resources": words(resources), "namespaces": ["*"],
        });
        if *of_cluster {
            rule["clusterScope"] = true.into();
        }
        rule
    });
    let resources: Vec<Json> = resources.collect();
    if !resources.is_empty() {
        rule["resourceRules"] = resources.into();
    }
    if let Some((verbs, paths)) = requests.1 {
        rule["nonResourceRules"] = json!([{"verbs": words(verbs), "nonResourceURLs": words(paths)}]);
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
    });
    if let Some(by) = by {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    spec
}

fn subject(subject: &Subject) -> Json {
    match subject {
        Group(name) => json!({"kind": "Group", "group": {"name": name}}),
        User(name) => json!({"kind": "User", "user": {"name": name}}),
        Accounts(namespace) => {
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": namespace}})
        }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(',').collect()
}
