//! The end of a definition: its instances are deleted, then it is let go (apiextensions-apiserver `pkg/controller/finalizer`).

use std::{sync::Arc, time::Duration};

use api::{Resource, Status, Value, custom::is_true, status::Reason};
use futures_util::{StreamExt, stream};
use http::HeaderMap;

use super::{FINALIZER, change, conditions};
use crate::{
    Server,
    auth::UserInfo,
    cache::Object,
    negotiate::{Accept, Form, Format},
    request::{Query, RequestInfo},
    rest::{Call, DELETIONS_AT_ONCE, DeleteOptions},
};

/// How long to wait before instances that do not go, or cannot be deleted, are looked at again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn is_due(definition: &Value) -> bool {
    let finalizers = definition.at(&["metadata", "finalizers"]).and_then(Value::as_array).unwrap_or_default();
    definition.at(&["metadata", "deletionTimestamp"]).is_some()
        && finalizers.iter().any(|name| name.as_str() == Some(FINALIZER))
}

/// Deletes the instances of a definition, and waits for those that something holds.
pub(super) async fn run(server: &Arc<Server>, name: &str) -> Result<(), Status> {
    let now = || server.clock.now();
    let mut was_established = false;
    let marked = change(server, name, "status", |before| {
        let mut object = before.clone();
        was_established = is_true(before, "Established");
        conditions::set(&mut object, conditions::DELETING, now());
        Ok(object)
    });
    marked.await?;
    let stored = server.definitions.installed.lock().get(name).map(|installed| installed.versions.stored.clone());
    if let Some(stored) = stored.filter(|_| was_established) {
        remove(server, &stored).await;
    }
    let last = if was_established { conditions::DELETED } else { conditions::NEVER_ESTABLISHED };
    change(server, name, "", |before| {
        let mut object = before.clone();
        conditions::set(&mut object, last.clone(), now());
        if let Some(finalizers) = object.at_mut(&["metadata", "finalizers"]).and_then(Value::as_array_mut) {
            finalizers.retain(|name| name.as_str() != Some(FINALIZER));
        }
        Ok(object)
    })
    .await
}

async fn remove(server: &Arc<Server>, resource: &Arc<Resource>) {
    let user = UserInfo::apiserver();
    let (info, query, headers) = (RequestInfo::default(), Query::default(), HeaderMap::new());
    loop {
        // What is true of the cache may not be of the store: empty counts once the newest state is.
        let is_current = server.cache.wait_until_current().await.is_ok();
        let Some(shelf) = server.cache.shelf(resource) else { return };
        if shelf.is_empty() && is_current {
            return;
        }
        let call = Call {
            server,
            info: &info,
            query: &query,
            headers: &headers,
            user: &user,
            resource: resource.clone(),
            accept: Accept { format: Format::Json, form: Form::Object, pretty: false },
            body: Default::default(),
            warnings: None,
        };
        let objects = shelf.snapshot().objects;
        let left: usize = stream::iter(objects.into_iter().map(|(_, object)| delete(&call, object)))
            .buffer_unordered(DELETIONS_AT_ONCE)
            .fold(0, async |left, is_gone| left + usize::from(!is_gone))
            .await;
        if left > 0 {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether the object is gone.
async fn delete(call: &Call<'_>, object: Arc<Object>) -> bool {
    match call.delete_one(object.namespace(), object.name(), &DeleteOptions::default()).await {
        Ok(outcome) => outcome.is_deleted(),
        Err(status) if status.reason == Reason::NotFound => true,
        Err(status) => {
            let (key, status) = (&*object.key, status.message);
            tracing::warn!(key, status, "an instance of a definition that goes cannot be deleted");
            false
        }
    }
}
