//! RBAC: an index from subjects to rules, rebuilt when a role or binding changes
//! (upstream `plugin/pkg/auth/authorizer/rbac`).

use std::{collections::HashMap, sync::Arc};

use api::Value;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::{Attributes, Decision, UserInfo};
use crate::cache::{Cache, Shelf};

const STORAGE: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

pub struct Rbac {
    cache: Arc<Cache>,
    index: ArcSwapOption<Index>,
    rebuild: Mutex<()>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub verbs: Vec<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub resources: Vec<Box<str>>,
    pub names: Vec<Box<str>>,
    pub urls: Vec<Box<str>>,
}

enum Subject {
    User(String),
    Group(String),
}

/// Rules that a subject has: everywhere, or in one namespace.
struct Grant {
    namespace: Option<Box<str>>,
    rules: Arc<[Rule]>,
    /// Of a decision for it.
    reason: Arc<str>,
}

struct Index {
    /// Change counters of the four shelves when this was built.
    versions: [u64; 4],
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Rbac {
    pub fn new(cache: Arc<Cache>) -> Rbac {
        Rbac { cache, index: ArcSwapOption::empty(), rebuild: Mutex::new(()) }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.index();
        for grant in index.grants_of(attributes.user) {
            if grant
                .namespace
                .as_deref()
                .is_some_and(|namespace| !attributes.is_resource || namespace != attributes.namespace)
            {
                continue;
            }
            if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                return Decision::Allow { reason: grant.reason.clone() };
            }
        }
        Decision::NoOpinion { reason: Arc::default() }
    }

    /// Everything a user may do in a namespace.
    pub fn rules_of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let index = self.index();
        let grants =
            index.grants_of(user).filter(|grant| grant.namespace.as_deref().is_none_or(|own| own == namespace));
        grants.flat_map(|grant| grant.rules.iter().cloned()).collect()
    }

    fn index(&self) -> Arc<Index> {
        let shelves = STORAGE.map(|storage| self.cache.shelf_at(storage));
        let versions = shelves.each_ref().map(|shelf| shelf.as_ref().map_or(0, |shelf| shelf.version()));
        let current = |index: &Arc<Index>| index.versions == versions;
        if let Some(index) = self.index.load_full().filter(current) {
            return index;
        }
        let _one = self.rebuild.lock();
        if let Some(index) = self.index.load_full().filter(current) {
            return index;
        }
        let index = Arc::new(Index::build(versions, &shelves));
        self.index.store(Some(index.clone()));
        index
    }
}

impl Index {
    fn build(versions: [u64; 4], shelves: &[Option<Arc<Shelf>>; 4]) -> Index {
        let [cluster_roles, cluster_bindings, roles, bindings] = shelves;
        let mut index = Index { versions, users: HashMap::new(), groups: HashMap::new() };
        let rules = |shelf: &Option<Arc<Shelf>>| -> HashMap<Arc<str>, Arc<[Rule]>> {
            let snapshot = shelf.iter().map(|shelf| shelf.snapshot());
            snapshot
                .flat_map(|snapshot| snapshot.objects.into_iter())
                .map(|(key, object)| (key, parse_rules(&object.tree())))
                .collect()
        };
        let (cluster_roles, roles) = (rules(cluster_roles), rules(roles));
        for (shelf, namespaced) in [(cluster_bindings, false), (bindings, true)] {
            let Some(shelf) = shelf else { continue };
            for (key, object) in shelf.snapshot().objects.iter() {
                let tree = object.tree();
                let namespace = namespaced.then(|| Box::from(object.namespace()));
                let name = tree.str_at(&["roleRef", "name"]);
                let granted = match tree.str_at(&["roleRef", "kind"]) {
                    "ClusterRole" => cluster_roles.get(name),
                    "Role" if namespaced => roles.get(format!("{}/{name}", object.namespace()).as_str()),
                    _ => None,
                };
                let Some(granted) = granted else { continue };
                let kind = if namespaced { "RoleBinding" } else { "ClusterRoleBinding" };
                let of = tree.str_at(&["roleRef", "kind"]);
                let reason: Arc<str> = format!("RBAC: allowed by {kind} \"{key}\" of {of} \"{name}\"").into();
                for subject in tree.get("subjects").and_then(Value::as_array).unwrap_or_default() {
                    let grants = match parse_subject(subject, object.namespace()) {
                        Some(Subject::User(name)) => index.users.entry(name).or_default(),
                        Some(Subject::Group(name)) => index.groups.entry(name).or_default(),
                        None => continue,
                    };
                    grants.push(Grant { namespace: namespace.clone(), rules: granted.clone(), reason: reason.clone() });
                }
            }
        }
        index
    }

    fn grants_of<'i>(&'i self, user: &'i UserInfo) -> impl Iterator<Item = &'i Grant> {
        let own = self.users.get(&user.name).into_iter();
        own.chain(user.groups.iter().filter_map(|group| self.groups.get(group))).flatten()
    }
}

fn parse_subject(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = subject.str_at(&["name"]);
    match subject.str_at(&["kind"]) {
        "User" => Some(Subject::User(name.into())),
        "Group" => Some(Subject::Group(name.into())),
        "ServiceAccount" => {
            let namespace = match subject.str_at(&["namespace"]) {
                "" => binding_namespace,
                namespace => namespace,
            };
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

pub(crate) fn parse_rules(role: &Value) -> Arc<[Rule]> {
    let list = |rule: &Value, name: &str| -> Vec<Box<str>> {
        rule.get(name)
            .and_then(Value::as_array)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .map(Box::from)
            .collect()
    };
    let rules = role.get("rules").and_then(Value::as_array).unwrap_or_default();
    rules
        .iter()
        .map(|rule| Rule {
            verbs: list(rule, "verbs"),
            groups: list(rule, "apiGroups"),
            resources: list(rule, "resources"),
            names: list(rule, "resourceNames"),
            urls: list(rule, "nonResourceURLs"),
        })
        .collect()
}

fn contains(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|entry| &**entry == "*" || **entry == *wanted)
}

impl Rule {
    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !contains(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => attributes.path.starts_with(prefix),
                None => **url == *attributes.path,
            });
        }
        contains(&self.groups, attributes.group)
            && self.covers_resource(attributes.resource, attributes.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *attributes.name))
    }

    /// `pods`, `pods/log`, `*` (everything) or `*/scale` (that subresource of everything).
    pub(crate) fn covers_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|entry| match (&**entry, subresource) {
            ("*", _) => true,
            (entry, "") => entry == resource,
            (entry, subresource) => {
                entry.split_once('/').is_some_and(|(own, sub)| (own == "*" || own == resource) && sub == subresource)
            }
        })
    }

    /// Whether everything that `wanted` allows is allowed by this rule: used against escalation.
    pub(crate) fn covers(&self, wanted: &Rule) -> bool {
        let all = |have: &[Box<str>], want: &[Box<str>]| want.iter().all(|entry| contains(have, entry));
        let urls = wanted.urls.iter().all(|url| {
            self.urls.iter().any(|have| match have.strip_suffix('*') {
                Some(prefix) => url.starts_with(prefix),
                None => have == url,
            })
        });
        let names = self.names.is_empty()
            || (!wanted.names.is_empty() && wanted.names.iter().all(|name| self.names.contains(name)));
        let resources = wanted.resources.iter().all(|entry| {
            let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
            self.covers_resource(resource, subresource)
        });
        all(&self.verbs, &wanted.verbs) && all(&self.groups, &wanted.groups) && resources && names && urls
    }
}
