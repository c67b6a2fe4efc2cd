//! Namespace deletion: everything in it of every resource the API serves, then the finalizer
//! (upstream pkg/controller/namespace).

mod conditions;
mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use client::{
    Client, Delta, Informer, Kind, ObjectKey,
    kinds::core::v1::{Namespace, Pod},
};
use futures_util::{StreamExt, stream};
use http::Method;

pub use plan::{Content, Inputs, plan};

use crate::{
    discovery::{Discovered, Resource, discover},
    manager::Setup,
    metadata::List,
    plan::Plan,
    runtime::{Context, LiveController},
    shared::{is_deleting, owners},
};

struct NamespaceController {
    namespaces: Informer<Namespace>,
}

/// How many lists are under way at once.
const PARALLEL_LISTS: usize = 8;

impl NamespaceController {
    async fn observe(&self, namespace: Arc<Namespace>, client: &Client) -> client::Result<Inputs> {
        let Discovered { resources, failed } = discover(client).await?;
        let deletable = |resource: &Resource| resource.id.namespaced && resource.has_verbs(&["list", "delete"]);
        let name = namespace.name();
        let lists = resources.into_iter().filter(deletable).map(|resource| async move {
            let path = format!("{}?limit=500", resource.id.path(name));
            let answer = client.raw(Method::GET, &path, None, Bytes::new()).await;
            (resource, answer)
        });
        let answers: Vec<_> = stream::iter(lists).buffer_unordered(PARALLEL_LISTS).collect().await;
        let mut contents = Vec::new();
        let mut errors = Vec::new();
        for (resource, answer) in answers {
            match answer.map(|body| serde_json::from_slice::<List>(&body)) {
                Ok(Ok(list)) if list.items.is_empty() => {}
                Ok(Ok(list)) => contents
                    .push(Content { resource, objects: list.items.into_iter().map(|item| item.metadata).collect() }),
                Ok(Err(error)) => errors.push(format!("{}: {error}", resource.id.resource)),
                Err(error) if error.is_not_found() => {}
                Err(error) => errors.push(error.to_string()),
            }
        }
        contents.sort_by(|a, b| a.resource.id.cmp(&b.resource.id));
        Ok(Inputs { namespace, contents, errors, failed_discovery: failed })
    }
}

#[async_trait]
impl LiveController for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    async fn plan(&self, key: &ObjectKey, context: &Context, client: &Client) -> client::Result<Plan> {
        match self.namespaces.get("", &key.name) {
            Some(namespace) if plan::is_terminating(&namespace) => {
                let inputs = self.observe(namespace, client).await?;
                Ok(plan(&inputs, context))
            }
            _ => Ok(Plan::default()),
        }
    }
}

pub fn register(setup: &mut Setup) {
    let namespaces = setup.informer::<Namespace>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue("namespace-controller");
    let to = queue.clone();
    namespaces.on_event(move |delta| {
        if is_deleting(&**owners::newest(delta)) {
            to.add(owners::newest(delta).key());
        }
    });
    // Pods are what a namespace's end mostly waits for.
    let (to, known) = (queue.clone(), namespaces.clone());
    pods.on_event(move |delta| {
        if let Delta::Deleted(pod) = delta
            && known.get("", pod.namespace()).is_some_and(|namespace| is_deleting(&*namespace))
        {
            to.add(ObjectKey::new("", pod.namespace()));
        }
    });
    setup.run(NamespaceController { namespaces }, queue, 10);
}
