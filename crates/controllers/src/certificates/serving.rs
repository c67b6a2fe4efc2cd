//! Serving certificates of kubelets, approved. Upstream signs them and leaves their approval to a person or to a program
//! beside Kubernetes, as this one is: what a node asks for itself it gets, for no name but those its Node object has.

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Delta, Informer, Kind, ObjectKey,
    kinds::{certificates::v1::CertificateSigningRequest, core::v1::Node},
};
use jiff::Timestamp;

use super::{KUBELET_SERVING, approve, is_open, refusal, subject, with_requests};
use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::owners,
};

const NAME: &str = "kubelet-serving-csr-approver";
const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

struct Approver {
    requests: Informer<CertificateSigningRequest>,
    nodes: Informer<Node>,
}

/// The node that asks, where it asks for itself.
fn requester(request: &CertificateSigningRequest) -> Option<&str> {
    let user = request.spec.username.as_deref()?;
    let is_node = request.spec.groups.iter().flatten().any(|group| group == GROUP);
    user.strip_prefix(USER_PREFIX).filter(|name| is_node && !name.is_empty())
}

/// Approves where the requester is the node and every name is one of its own.
pub fn plan(request: &CertificateSigningRequest, node: Option<&Node>, now: Timestamp) -> Plan {
    if request.spec.signer_name != KUBELET_SERVING || !is_open(request) || refusal(request).is_some() {
        return Plan::default();
    }
    let (Some(subject), Some(node)) = (subject(request), node) else { return Plan::default() };
    let asks_for_itself =
        requester(request) == Some(node.name()) && subject.common_name.strip_prefix(USER_PREFIX) == Some(node.name());
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let own: BTreeSet<&str> = addresses.map(|address| address.address.as_str()).chain([node.name()]).collect();
    if asks_for_itself && subject.names.iter().all(|name| own.contains(name.as_str())) {
        approve(request, "Auto approving kubelet serving certificate for the node's own names and addresses.", now)
    } else {
        Plan::default()
    }
}

impl Controller for Approver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(request) = self.requests.get("", &key.name) else { return Plan::default() };
        let node = requester(&request).and_then(|name| self.nodes.get("", name));
        plan(&request, node.as_deref(), context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let (requests, queue) = with_requests(setup, NAME);
    requests.add_index("serving-of-node", |request| {
        let is_serving = request.spec.signer_name == KUBELET_SERVING && is_open(request);
        requester(request).filter(|_| is_serving).map(str::to_owned).into_iter().collect()
    });
    let nodes = setup.informer::<Node>();
    // A node may ask before it has told its addresses.
    let (open, to) = (requests.clone(), queue.clone());
    nodes.on_event(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            let waiting: Vec<Arc<CertificateSigningRequest>> =
                open.by_index("serving-of-node", owners::newest(delta).name());
            waiting.iter().for_each(|request| to.add(request.key()));
        }
    });
    setup.run(Approver { requests, nodes }, queue, 1);
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use serde_json::json;

    use super::*;

    fn pem(common_name: &str, organization: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().expect("a key");
        params.serialize_request(&key).and_then(|request| request.pem()).expect("a request")
    }

    fn request(pem: &str, changes: serde_json::Value) -> CertificateSigningRequest {
        let mut object = json!({
            "metadata": {"name": "csr"},
            "spec": {
                "request": STANDARD.encode(pem), "signerName": KUBELET_SERVING, "username": "system:node:n1",
                "groups": ["system:nodes", "system:authenticated"], "usages": ["digital signature", "server auth"],
            },
        });
        for (name, value) in changes.as_object().expect("changes") {
            object["spec"][name] = value.clone();
        }
        serde_json::from_value(object).expect("a request")
    }

    #[test]
    fn a_node_gets_its_own_names_and_no_others() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "host-1"}]},
        }))
        .expect("a node");
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let own = pem("system:node:n1", "system:nodes", &["10.0.0.1", "host-1", "n1"]);
        let none = json!({});
        let cases = [
            ("its own", own.clone(), none.clone(), true),
            (
                "an RSA key's usages",
                own.clone(),
                json!({"usages": ["server auth", "key encipherment", "digital signature"]}),
                true,
            ),
            (
                "another's address",
                pem("system:node:n1", "system:nodes", &["10.0.0.1", "10.0.0.2"]),
                none.clone(),
                false,
            ),
            ("another's name", pem("system:node:n1", "system:nodes", &["n2"]), none.clone(), false),
            ("no name", pem("system:node:n1", "system:nodes", &[]), none.clone(), false),
            ("another node's certificate", pem("system:node:n2", "system:nodes", &["10.0.0.1"]), none.clone(), false),
            ("not a node's", pem("system:node:n1", "system:masters", &["10.0.0.1"]), none.clone(), false),
            ("another asks", own.clone(), json!({"username": "system:node:n2"}), false),
            ("who is not a node asks", own.clone(), json!({"groups": ["system:authenticated"]}), false),
            (
                "to be a client too",
                own.clone(),
                json!({"usages": ["digital signature", "server auth", "client auth"]}),
                false,
            ),
            ("too few usages", own.clone(), json!({"usages": ["server auth"]}), false),
            ("another signer", own.clone(), json!({"signerName": super::super::KUBELET_CLIENT}), false),
            ("no request", "what".into(), none.clone(), false),
        ];
        for (case, pem, changes, approved) in cases {
            let plan = plan(&request(&pem, changes), Some(&node), now);
            assert_eq!(!plan.is_empty(), approved, "{case}");
        }
        assert!(plan(&request(&own, none.clone()), None, now).is_empty(), "no such node");
        let mut decided = request(&own, none);
        decided.status = serde_json::from_value(json!({"conditions": [{"type": "Denied", "status": "True"}]})).ok();
        assert!(plan(&decided, Some(&node), now).is_empty(), "denied");
    }

    #[test]
    fn a_name_that_is_no_host_is_refused() {
        let mut params = CertificateParams::new(vec!["10.0.0.1".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.subject_alt_names.push(SanType::URI("spiffe://n1".try_into().expect("a URI")));
        let key = KeyPair::generate().expect("a key");
        let pem = params.serialize_request(&key).and_then(|request| request.pem()).expect("a request");
        assert_eq!(refusal(&request(&pem, json!({}))), Some("not a node serving certificate"));
    }
}
