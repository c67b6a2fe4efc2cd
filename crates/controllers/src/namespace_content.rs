//! What every namespace has from the start: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`
//! (upstream pkg/controller/serviceaccount and certificates/rootcacertpublisher).

use std::collections::BTreeMap;

use client::{
    Informer, Kind, ListParams, ObjectKey,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::core::v1::{ConfigMap, Namespace, ServiceAccount},
};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{is_deleting, owners},
};

/// Keys are namespaces.
struct Content<K> {
    name: &'static str,
    namespaces: Informer<Namespace>,
    existing: Informer<K>,
    /// What is to be there; `None` stops the controller.
    wanted: K,
    is_as_wanted: fn(&K, &K) -> bool,
}

fn plan<K: Kind>(
    namespace: Option<&Namespace>,
    existing: Option<&K>,
    wanted: &K,
    is_as_wanted: fn(&K, &K) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let Some(namespace) = namespace.filter(|namespace| !is_deleting(*namespace)) else {
        return plan;
    };
    match existing {
        None => {
            let mut object = wanted.clone();
            object.meta_mut().namespace = Some(namespace.name().into());
            plan.create(&object).ignore_already_exists();
        }
        Some(existing) if !is_as_wanted(existing, wanted) => {
            let mut object = wanted.clone();
            let meta = object.meta().clone();
            *object.meta_mut() = existing.meta().clone();
            object.meta_mut().annotations.get_or_insert_default().extend(meta.annotations.unwrap_or_default());
            plan.update(&object);
        }
        Some(_) => {}
    }
    plan
}

impl<K: Kind> Controller for Content<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn plan(&self, key: &ObjectKey, _: &Context) -> Plan {
        let namespace = self.namespaces.get("", &key.name);
        let existing = self.existing.get(&key.name, self.wanted.name());
        plan(namespace.as_deref(), existing.as_deref(), &self.wanted, self.is_as_wanted)
    }
}

fn register<K: Kind>(
    setup: &mut Setup,
    name: &'static str,
    wanted: K,
    existing: Informer<K>,
    is_as_wanted: fn(&K, &K) -> bool,
) {
    let namespaces = setup.informer::<Namespace>();
    let queue = setup.queue(name);
    owners::enqueue_self(&namespaces, &queue);
    let (to, wanted_name) = (queue.clone(), wanted.name().to_owned());
    existing.on_event(move |delta| {
        let object = owners::newest(delta);
        if object.name() == wanted_name {
            to.add(ObjectKey::new("", object.namespace()));
        }
    });
    setup.run(Content { name, namespaces, existing, wanted, is_as_wanted }, queue, 2);
}

pub fn register_service_account(setup: &mut Setup) {
    let wanted = ServiceAccount {
        metadata: ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    let existing = setup.informer_with::<ServiceAccount>(ListParams::fields("metadata.name=default"));
    register(setup, "serviceaccount-controller", wanted, existing, |_, _| true);
}

pub fn register_root_ca(setup: &mut Setup) {
    let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
                       the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions \
                       of Kubernetes clusters.";
    let wanted = ConfigMap {
        metadata: ObjectMeta {
            name: Some("kube-root-ca.crt".into()),
            annotations: Some(BTreeMap::from([("kubernetes.io/description".to_owned(), description.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("ca.crt".to_owned(), setup.config.root_ca_pem.clone())])),
        ..ConfigMap::default()
    };
    // Only these: no other ConfigMap is any controller's business, and they may be large.
    let existing = setup.informer_with::<ConfigMap>(ListParams::fields("metadata.name=kube-root-ca.crt"));
    register(setup, "root-ca-certificate-publisher-controller", wanted, existing, |existing, wanted| {
        existing.data == wanted.data
    });
}
