//! What becomes of CustomResourceDefinitions: one task follows them, accepts their names, serves their resources, tells of it
//! in their status, and removes their instances when they go (apiextensions-apiserver `pkg/controller`). Names are decided
//! by [`names`], a pure planner; here is what carries it out.
//!
//! A resource is served before its definition says that it is established: who has seen that may use it at once.

pub(crate) mod conditions;
mod finalize;
mod names;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use api::{
    Resource, ResourceTable, Status, Value,
    custom::{self, Versions},
    status::Reason,
};
use parking_lot::Mutex;
use store::Store;

use crate::{
    Server,
    auth::UserInfo,
    cache::{self, PREFIX},
    rest::{Change, Scope, management},
};

/// Holds a definition until its instances are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// The definitions that are served.
#[derive(Default)]
pub(crate) struct Definitions {
    /// What of the built-in resources is served.
    builtin: ResourceTable,
    /// By their names.
    installed: Mutex<BTreeMap<Arc<str>, Installed>>,
    /// Those whose instances are being removed.
    finalizing: Mutex<BTreeSet<Arc<str>>>,
}

#[derive(Clone)]
struct Installed {
    /// What the versions were made from: definition, spec and names.
    basis: (String, u64),
    is_terminating: bool,
    versions: Versions,
}

impl Definitions {
    /// The definitions in a store that are to be served from the start, beside `builtin`.
    pub(crate) async fn load(store: &dyn Store, builtin: ResourceTable) -> store::Result<Definitions> {
        let definitions = Definitions { builtin, ..Definitions::default() };
        cache::each(store, &format!("{PREFIX}{STORAGE}/"), |entry| {
            // What cannot be read is reported when the cache reads it.
            if let Ok(definition) = cache::stored_tree(&entry.value) {
                definitions.install(definition.str_at(&["metadata", "name"]), &definition);
            }
        })
        .await?;
        Ok(definitions)
    }

    /// Notes what a definition serves. Gives the entry whose objects have to be read anew.
    fn install(&self, name: &str, definition: &Value) -> Option<Arc<Resource>> {
        if !custom::is_true(definition, "NamesAccepted") && !custom::is_true(definition, "Established") {
            return None;
        }
        let basis = (definition.str_at(&["metadata", "uid"]).to_owned(), custom::digest(definition));
        let is_terminating = custom::is_true(definition, "Terminating");
        let mut installed = self.installed.lock();
        let former = installed.get(name);
        let is_same = former.is_some_and(|former| former.basis == basis);
        if is_same && former.is_some_and(|former| former.is_terminating == is_terminating) {
            return None;
        }
        let versions = custom::versions(definition)?;
        let stored = versions.stored.clone();
        installed.insert(name.into(), Installed { basis, is_terminating, versions });
        (!is_same).then_some(stored)
    }

    pub(crate) fn stored(&self) -> Vec<Arc<Resource>> {
        self.installed.lock().values().map(|installed| installed.versions.stored.clone()).collect()
    }

    /// The built-in resources and those of the definitions.
    pub(crate) fn table(&self) -> ResourceTable {
        let installed = self.installed.lock();
        self.builtin.with(installed.values().flat_map(|installed| &installed.versions.served))
    }
}

/// Follows the definitions until the server ends.
pub(crate) async fn run(server: Arc<Server>) {
    let Some(shelf) = server.cache.shelf_at(STORAGE) else { return };
    loop {
        let view = server.cache.view(&shelf);
        let all = view.objects.keys().cloned().collect();
        let Ok(mut cursor) = shelf.watch_after(view.revision) else { continue };
        let mut follower = Follower { server: &server, groups: HashMap::new() };
        follower.pass(all).await;
        loop {
            let events = tokio::select! {
                _ = server.shutdown.cancelled() => return,
                events = cursor.next(usize::MAX) => events,
            };
            // Fallen behind: everything is looked at again.
            let Some(events) = events else { break };
            follower.pass(events.iter().map(|event| event.object.key.clone()).collect()).await;
        }
    }
}

/// What the task remembers between two passes.
struct Follower<'a> {
    server: &'a Arc<Server>,
    /// The names that definitions have got, by their groups.
    groups: HashMap<String, BTreeMap<Arc<str>, names::Accepted>>,
}

impl Follower<'_> {
    /// Looks at definitions by name, and at those that may get names which have become free.
    async fn pass(&mut self, mut waiting: BTreeSet<Arc<str>>) {
        while !waiting.is_empty() {
            let mut changed = false;
            let mut told = Vec::new();
            let mut freed = BTreeSet::new();
            let mut gone = Vec::new();
            for name in std::mem::take(&mut waiting) {
                match self.definition(&name) {
                    Some(definition) => {
                        let planned = self.plan(&name, &definition, &mut freed);
                        changed |= self.serve(&name, &planned).await;
                        if planned != definition {
                            told.push((name.clone(), planned));
                        }
                        self.finalize(&name, &definition);
                    }
                    None => gone.extend(self.forget(&name, &mut freed)),
                }
            }
            if changed || !gone.is_empty() {
                self.server.resources.store(Arc::new(self.server.definitions.table()));
                self.server.documents.forget();
            }
            // Whose watch ends finds that the resource is no longer there.
            for installed in gone {
                self.server.cache.close(&installed.versions.stored.storage);
            }
            for (name, planned) in told {
                self.tell(&name, &planned).await;
            }
            waiting = freed;
        }
    }

    fn definition(&self, name: &str) -> Option<Value> {
        Some(self.server.cache.shelf_at(STORAGE)?.get(name)?.tree())
    }

    /// The definition with the names it gets and the conditions that follow. Whose names become free is looked at again.
    fn plan(&mut self, name: &Arc<str>, definition: &Value, freed: &mut BTreeSet<Arc<str>>) -> Value {
        let group = self.groups.entry(definition.str_at(&["spec", "group"]).to_owned()).or_default();
        let others = group.iter().filter(|(other, _)| *other != name).map(|(_, names)| names);
        let planned = names::plan(definition, others, self.server.clock.now());
        let accepted = names::Accepted::of(&planned);
        let former = group.insert(name.clone(), accepted.clone());
        if former.is_some_and(|former| former != accepted) {
            freed.extend(group.keys().filter(|other| *other != name).cloned());
        }
        planned
    }

    /// Whether what is served has changed.
    async fn serve(&self, name: &str, definition: &Value) -> bool {
        let definitions = &self.server.definitions;
        let before =
            definitions.installed.lock().get(name).map(|installed| (installed.basis.clone(), installed.is_terminating));
        let stored = definitions.install(name, definition);
        let after =
            definitions.installed.lock().get(name).map(|installed| (installed.basis.clone(), installed.is_terminating));
        if let Some(stored) = stored
            && let Err(error) = self.server.cache.open(stored).await
        {
            tracing::error!(name, %error, "the instances of a definition cannot be read; it is not served");
            definitions.installed.lock().remove(name);
            return true;
        }
        before != after
    }

    fn forget(&mut self, name: &Arc<str>, freed: &mut BTreeSet<Arc<str>>) -> Option<Installed> {
        for group in self.groups.values_mut() {
            if group.remove(name).is_some() {
                freed.extend(group.keys().cloned());
            }
        }
        self.server.definitions.installed.lock().remove(name)
    }

    /// Writes what was planned into the status.
    async fn tell(&self, name: &str, planned: &Value) {
        let status = planned.get("status").cloned().unwrap_or_default();
        let version = planned.str_at(&["metadata", "resourceVersion"]).to_owned();
        let told = change(self.server, name, "status", |before| {
            let mut object = before.clone();
            // Planned for this state; whatever comes later is planned for again.
            if before.str_at(&["metadata", "resourceVersion"]) == version {
                object.set(&["status"], status.clone());
            }
            Ok(object)
        });
        report(name, told.await);
    }

    fn finalize(&self, name: &Arc<str>, definition: &Value) {
        if !finalize::is_due(definition) || !self.server.definitions.finalizing.lock().insert(name.clone()) {
            return;
        }
        let (server, name) = (self.server.clone(), name.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = server.shutdown.cancelled() => {}
                outcome = finalize::run(&server, &name) => report(&name, outcome),
            }
            server.definitions.finalizing.lock().remove(&name);
        });
    }
}

/// Changes a definition in the server's own name; an empty `subresource` is a step of its deletion.
async fn change(
    server: &Arc<Server>,
    name: &str,
    subresource: &str,
    edit: impl FnMut(&Value) -> Result<Value, Status>,
) -> Result<(), Status> {
    let resource = server
        .resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .ok_or_else(Status::no_such_resource)?;
    let user = UserInfo::apiserver();
    let manager = Some(management::SERVER).filter(|_| !subresource.is_empty());
    let change = Change {
        server,
        resource: &resource,
        served: &resource,
        verb: "update",
        subresource,
        namespace: "",
        name,
        user: &user,
        dry_run: false,
        manager,
    };
    change.run(Scope::Free, edit).await.map(drop)
}

fn report(name: &str, outcome: Result<(), Status>) {
    match outcome {
        Err(status) if status.reason != Reason::NotFound => {
            tracing::warn!(name, status = status.message, "a definition's status")
        }
        _ => {}
    }
}
