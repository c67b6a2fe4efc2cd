//! ResourceQuota: what is created is charged to the quotas of its namespace before it is stored, and refused where one of
//! them would be exceeded (upstream `apiserver/pkg/admission/plugin/resourcequota`).
//!
//! The charge is a compare-and-swap of the quota's status, so that concurrent creates cannot share the same remainder. What
//! is charged for a write that then fails, and what deletions free, the quota controller puts right.

mod check;
mod scopes;
mod usage;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use api::{Status, Value};
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Operation, Plugin, Review};
use crate::{
    auth::UserInfo,
    cache::Object,
    rest::{Change, Scope},
};
use check::Request;
use usage::Evaluator;

/// Namespaces that charge at the same time, at most.
const LANES: usize = 64;

pub struct ResourceQuota {
    /// Charges of one namespace go one after the other: they would only collide in the store.
    lanes: [Mutex<()>; LANES],
}

impl Default for ResourceQuota {
    fn default() -> ResourceQuota {
        ResourceQuota { lanes: std::array::from_fn(|_| Mutex::default()) }
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if review.namespace.is_empty() || !review.resource.namespaced {
            return Ok(());
        }
        let Some(shelf) = review.server.cache.shelf_at("resourcequotas").filter(|shelf| !shelf.is_empty()) else {
            return Ok(());
        };
        let Some(evaluator) = Evaluator::of(review, object) else { return Ok(()) };
        let snapshot = shelf.snapshot();
        let prefix = format!("{}/", review.namespace);
        let quotas: Vec<Arc<Object>> = snapshot.under(&prefix).map(|(_, quota)| quota.clone()).collect();
        if quotas.is_empty() {
            return Ok(());
        }
        let request = Request {
            evaluator: &evaluator,
            object,
            old: review.old.filter(|_| review.operation == Operation::Update),
            is_status: review.subresource == "status",
            now: review.server.clock.now(),
        };
        let _lane = self.lane(review.namespace).lock().await;
        // What the cache says of a quota may be old, so each is judged again where it is charged. Those that seem to
        // refuse come first: a refusal should not have charged the others.
        let (mut refusing, mut charged) = (Vec::new(), Vec::new());
        for quota in &quotas {
            match request.check(&quota.tree()) {
                Ok(None) => {}
                Ok(Some(_)) => charged.push(quota.name()),
                Err(_) => refusing.push(quota.name()),
            }
        }
        for name in refusing.into_iter().chain(charged) {
            charge(review, &request, name).await?;
        }
        Ok(())
    }
}

impl ResourceQuota {
    fn lane(&self, namespace: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        &self.lanes[hasher.finish() as usize % LANES]
    }
}

/// Adds the request to the quota's use, judged on the quota's newest state.
async fn charge(review: &Review<'_>, request: &Request<'_>, name: &str) -> Result<(), Status> {
    let quotas = review.server.resource("", "v1", "resourcequotas").ok_or_else(Status::no_such_resource)?;
    let server = UserInfo::apiserver();
    let change = Change {
        server: review.server,
        resource: &quotas,
        served: &quotas,
        verb: "update",
        subresource: "status",
        namespace: review.namespace,
        name,
        user: &server,
        dry_run: review.dry_run,
        manager: Some(crate::rest::management::SERVER),
    };
    let result = change
        .run(Scope::Free, |before| match request.check(before) {
            Ok(None) => Ok(before.clone()),
            Ok(Some(used)) => {
                let mut quota = before.clone();
                for (name, amount) in used {
                    quota.set(&["status", "used", &name], amount.to_string());
                }
                Ok(quota)
            }
            Err(why) => Err(review.forbidden(&why)),
        })
        .await;
    match result {
        // Deleted in the meantime: it limits nothing any more.
        Err(status) if status.reason == api::status::Reason::NotFound => Ok(()),
        result => result.map(|_| ()),
    }
}
