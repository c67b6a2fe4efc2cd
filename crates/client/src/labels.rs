//! Matching of labels: label selectors, and the node selectors of node affinity (component-helpers
//! `scheduling/corev1/nodeaffinity`).

use std::{collections::BTreeMap, sync::LazyLock};

pub use api::selector::{LabelSelector as Selector, Operator, Requirement};
use k8s_openapi::{
    api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

pub type Labels = BTreeMap<String, String>;

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::new);

/// An object's labels; empty where it has none.
pub fn of(meta: &ObjectMeta) -> &Labels {
    meta.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// The selector of a `LabelSelector` object (apimachinery `LabelSelectorAsSelector`): nothing where there is none. One that
/// cannot be read selects nothing as well; the API server refuses those.
pub fn selector(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else { return Selector::nothing() };
    let labels = selector.match_labels.as_ref().unwrap_or(&NO_LABELS);
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    Selector::from_parts(labels, expressions).unwrap_or_else(|_| Selector::nothing())
}

pub fn selector_of_map(labels: &Labels) -> Selector {
    Selector::from_set(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// The selector with more demands; nothing stays nothing.
pub fn narrow(selector: &Selector, more: impl IntoIterator<Item = Requirement>) -> Selector {
    if selector.is_nothing() {
        return Selector::nothing();
    }
    Selector::from_requirements(selector.requirements().iter().cloned().chain(more).collect())
}

/// One term of a node selector: expressions over labels and fields, all of which must hold.
#[derive(Clone, Debug)]
pub struct NodeTerm {
    labels: Selector,
    /// Names the node must have (`true`) or must not have.
    names: Vec<(String, bool)>,
}

impl NodeTerm {
    /// `None` for an empty term and one that cannot be read: those match no node.
    pub fn new(term: &NodeSelectorTerm) -> Option<NodeTerm> {
        let expressions = term.match_expressions.iter().flatten().map(requirement).collect::<Option<Vec<_>>>()?;
        let names = term.match_fields.iter().flatten().map(name).collect::<Option<Vec<_>>>()?;
        (!expressions.is_empty() || !names.is_empty())
            .then(|| NodeTerm { labels: Selector::from_requirements(expressions), names })
    }

    pub fn matches(&self, node: &Node) -> bool {
        let own = node.metadata.name.as_deref().unwrap_or_default();
        self.labels.matches(of(&node.metadata)) && self.names.iter().all(|(name, wanted)| (name == own) == *wanted)
    }
}

fn requirement(requirement: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    let values = requirement.values.iter().flatten().map(|value| value.as_str().into()).collect();
    Requirement::new(&requirement.key, operator, values).ok()
}

/// The one field there is, compared with exactly one value by `In` or `NotIn`.
fn name(requirement: &NodeSelectorRequirement) -> Option<(String, bool)> {
    let [name] = requirement.values.as_deref()? else { return None };
    match (requirement.key.as_str(), requirement.operator.as_str()) {
        ("metadata.name", "In") => Some((name.clone(), true)),
        ("metadata.name", "NotIn") => Some((name.clone(), false)),
        _ => None,
    }
}

/// Whether any term of a node selector matches.
pub fn node_selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().filter_map(NodeTerm::new).any(|term| term.matches(node))
}

/// What `spec.nodeSelector` and the required node affinity ask for (component-helpers `GetRequiredNodeAffinity`).
#[derive(Clone, Debug, Default)]
pub struct RequiredNodeAffinity {
    selector: Selector,
    terms: Option<Vec<NodeTerm>>,
}

impl RequiredNodeAffinity {
    pub fn new(spec: &PodSpec) -> RequiredNodeAffinity {
        RequiredNodeAffinity {
            selector: selector_of_map(spec.node_selector.as_ref().unwrap_or(&NO_LABELS)),
            terms: required_terms(spec).map(|terms| terms.iter().filter_map(NodeTerm::new).collect()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.selector.is_everything() && self.terms.is_none()
    }

    pub fn matches(&self, node: &Node) -> bool {
        self.selector.matches(of(&node.metadata))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }
}

pub fn required_terms(spec: &PodSpec) -> Option<&[NodeSelectorTerm]> {
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(&required.node_selector_terms)
}
