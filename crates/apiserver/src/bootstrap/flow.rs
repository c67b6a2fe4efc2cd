//! Keeps the priority levels and flow schemas that upstream has in every cluster (kubernetes `pkg/registry/flowcontrol/rest`
//! and `ensurer`), and what schemas say of the level that they refer to (apiserver `pkg/util/flowcontrol/apf_controller.go`).
//!
//! Nothing here limits requests: that is done by `--max-requests-inflight` and `--max-mutating-requests-inflight` alone,
//! whatever these objects say.

mod defaults;

use std::{collections::HashSet, sync::Arc, time::Duration};

use api::{Status, Value, json, parse_bool, status::Reason};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    Server,
    cache::{Shelf, WatchCursor},
    definitions::conditions,
    own::Own,
};
use defaults::Wanted;
pub(crate) use defaults::fixed_spec;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Whether a spec is the server's own affair.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// How often everything is looked at again, and how soon after a failure.
const INTERVAL: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// Managers of fields, under upstream's names: of the objects, and of what their status says.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Keeps them until the server ends. A cluster whose servers do not serve them gets none.
pub(crate) async fn run(server: Arc<Server>) {
    let shelf = |plural| {
        let resource = server.resource(GROUP, "v1", plural)?;
        server.cache.shelf(&resource)
    };
    let (Some(schemas), Some(levels)) = (shelf("flowschemas"), shelf("prioritylevelconfigurations")) else { return };
    loop {
        // What comes later is seen as an event.
        let (Some(schemas), Some(levels)) = (follow(&server, &schemas), follow(&server, &levels)) else { continue };
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = keep(&server, schemas, levels) => {}
        }
    }
}

fn follow(server: &Server, shelf: &Arc<Shelf>) -> Option<WatchCursor> {
    shelf.watch_after(server.cache.view(shelf).revision).ok()
}

/// Keeps objects and statuses until one of the watches has fallen behind.
async fn keep(server: &Arc<Server>, mut schemas: WatchCursor, mut levels: WatchCursor) {
    loop {
        let mut pause = INTERVAL;
        if let Err(status) = ensure(server).await {
            tracing::warn!(status = status.message, "priority levels and flow schemas could not be kept");
            pause = RETRY;
        }
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            if let Err(status) = tell(server).await {
                tracing::warn!(status = status.message, "the status of a flow schema could not be told");
                next.as_mut().reset(tokio::time::Instant::now() + RETRY);
            }
            let events = tokio::select! {
                () = &mut next => break,
                events = schemas.next(usize::MAX) => events,
                events = levels.next(usize::MAX) => events,
            };
            if events.is_none() {
                return;
            }
        }
    }
}

/// Creates what is missing, puts right what differs, and deletes what the server had made and has no more.
async fn ensure(server: &Arc<Server>) -> Result<(), Status> {
    let mut names = HashSet::new();
    for mut wanted in defaults::all() {
        let own = Own::of(server, VERSION, wanted.kind, "")?.managed_by(PRODUCER);
        own.complete(&mut wanted.object)?;
        put(&own, &wanted).await?;
        names.insert((wanted.kind, wanted.name));
    }
    for kind in ["FlowSchema", "PriorityLevelConfiguration"] {
        let own = Own::of(server, VERSION, kind, "")?;
        for object in own.all() {
            let tree = object.tree();
            let name = tree.str_at(&["metadata", "name"]);
            if names.contains(&(kind, name)) || says(&tree) != Some(true) {
                continue;
            }
            match own.delete(name, tree.str_at(&["metadata", "uid"])).await {
                // Somebody was faster, or has made another of the name: that is looked at in the next round.
                Err(status) if !matches!(status.reason, Reason::NotFound | Reason::Conflict) => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

async fn put(own: &Own<'_>, wanted: &Wanted) -> Result<(), Status> {
    match own.cached(wanted.name) {
        Some(object) if revised(&object.tree(), wanted).is_none() => return Ok(()),
        Some(_) => {}
        None => match own.create(wanted.object.clone()).await {
            // From another server, in this moment.
            Err(status) if status.reason == Reason::AlreadyExists => {}
            done => return done,
        },
    }
    own.change(wanted.name, |before| Ok(revised(before, wanted).unwrap_or_else(|| before.clone()))).await
}

/// What an object's annotation says, where it is one of Go's words for true or false.
fn says(object: &Value) -> Option<bool> {
    let word = object.at(&["metadata", "annotations", AUTOUPDATE])?.as_str()?;
    parse_bool(word)
}

/// `current` as it should be; `None` where it is so already. Suggested ones are left to whoever has said so, or has changed
/// them and said nothing (upstream `ReviseIfNeeded`).
fn revised(current: &Value, wanted: &Wanted) -> Option<Value> {
    let said = says(current);
    let untouched = || current.at(&["metadata", "generation"]).and_then(Value::as_i64) == Some(1);
    let is_ours = wanted.mandatory || said.unwrap_or_else(untouched);
    let mut object = current.clone();
    let mut spec = wanted.object.get("spec").cloned().unwrap_or_default();
    // What the exempt level has and lends is for administrators to say.
    if let Some(exempt) = current.at(&["spec", "exempt"])
        && spec.get("exempt").is_some()
    {
        spec.set(&["exempt"], exempt.clone());
    }
    if is_ours && current.get("spec") != Some(&spec) {
        object.set(&["spec"], spec);
    }
    if said != Some(is_ours) {
        object.set(&["metadata", "annotations", AUTOUPDATE], is_ours.to_string());
    }
    (object != *current).then_some(object)
}

/// Says of every schema whether its level is there.
async fn tell(server: &Arc<Server>) -> Result<(), Status> {
    let own = Own::of(server, VERSION, "FlowSchema", "")?.managed_by(CONSUMER);
    let levels = Own::of(server, VERSION, "PriorityLevelConfiguration", "")?;
    let now = server.clock.now();
    let condition = |schema: &Value| {
        let level = schema.str_at(&["spec", "priorityLevelConfiguration", "name"]);
        dangling(schema, level, levels.cached(level).is_some(), now)
    };
    for schema in own.all() {
        let tree = schema.tree();
        if condition(&tree).is_none() {
            continue;
        }
        match own.apply_status(tree.str_at(&["metadata", "name"]), condition).await {
            Err(status) if status.reason == Reason::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// The status that a schema is to have; `None` where it has it (upstream `presyncFlowSchemaStatus`).
fn dangling(schema: &Value, level: &str, exists: bool, now: Timestamp) -> Option<Value> {
    let (status, reason, end) =
        if exists { ("False", "Found", "it exists") } else { ("True", "NotFound", "there is no such object") };
    let but = if exists { "and" } else { "but" };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {but} {end}");
    let has = conditions::find(schema, "Dangling").is_some_and(|condition| {
        [("status", status), ("reason", reason), ("message", &*message)]
            .iter()
            .all(|(name, text)| condition.str_at(&[name]) == *text)
    });
    let condition = json!({
        "type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": api::time::format(now),
    });
    let config = json!({"status": {"conditions": [condition]}});
    (!has).then(|| json::parse(config.to_string().as_bytes()).unwrap_or_default())
}
