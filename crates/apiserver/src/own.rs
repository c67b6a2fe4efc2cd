//! What the server writes of its own accord: through the same admission, validation and store as everybody's requests.

use std::sync::Arc;

use api::{
    Resource, ResourceTable, Status, Value,
    decode::{self, Defaults},
    model::Gvk,
    status::Reason,
};
use http::HeaderMap;

use crate::{
    Server,
    auth::UserInfo,
    cache::Object,
    negotiate::{Accept, Form, Format},
    request::{Query, RequestInfo},
    rest::{
        Call, Change, DeleteOptions, Scope,
        management::{self, Management},
    },
};

/// Objects of one resource in one namespace, as the server itself reads and writes them.
pub(crate) struct Own<'s> {
    server: &'s Arc<Server>,
    resource: Arc<Resource>,
    namespace: String,
    user: UserInfo,
    /// Who owns the fields that it writes.
    manager: &'static str,
}

impl<'s> Own<'s> {
    /// A built-in resource, by its kind: it is there whether it is served or not.
    pub(crate) fn of(server: &'s Arc<Server>, version: &str, kind: &str, namespace: &str) -> Result<Own<'s>, Status> {
        let gvk = Gvk::of(version, kind);
        let resource = ResourceTable::builtin().by_kind(&gvk).cloned();
        let resource = resource.ok_or_else(|| Status::internal(format!("no resource for {gvk:?}")))?;
        let user = UserInfo::apiserver();
        Ok(Own { server, resource, namespace: namespace.to_owned(), user, manager: management::SERVER })
    }

    /// The same, written under another manager's name.
    pub(crate) fn managed_by(self, manager: &'static str) -> Own<'s> {
        Own { manager, ..self }
    }

    /// The object as the cache has it, which may be behind.
    pub(crate) fn cached(&self, name: &str) -> Option<Arc<Object>> {
        let key = self.resource.object_key(&self.namespace, name);
        self.server.cache.shelf(&self.resource)?.get(&key)
    }

    /// All that the cache has of the namespace, or of the cluster.
    pub(crate) fn all(&self) -> Vec<Arc<Object>> {
        let prefix = if self.resource.namespaced { format!("{}/", self.namespace) } else { String::new() };
        let snapshot = self.server.cache.shelf(&self.resource).map(|shelf| shelf.snapshot());
        snapshot.iter().flat_map(|snapshot| snapshot.under(&prefix)).map(|(_, object)| object.clone()).collect()
    }

    /// The newest state of the object.
    pub(crate) async fn current(&self, name: &str) -> Result<Option<Arc<Object>>, Status> {
        self.server.cache.wait_until_current().await?;
        Ok(self.cached(name))
    }

    /// Fills in what the schema has as defaults.
    pub(crate) fn complete(&self, object: &mut Value) -> Result<(), Status> {
        decode::decode(self.server.model, self.resource.ty, object, Defaults::On).map_err(Status::internal)?;
        Ok(())
    }

    /// Creates `object`; that it is there already is an error like any other.
    pub(crate) async fn create(&self, mut object: Value) -> Result<(), Status> {
        self.complete(&mut object)?;
        let info = RequestInfo {
            is_resource: true,
            verb: "create",
            group: self.resource.group.to_string(),
            version: self.resource.kind.version.to_string(),
            namespace: self.namespace.clone(),
            resource: self.resource.plural.to_string(),
            ..RequestInfo::default()
        };
        let (query, headers) = (Query::default(), HeaderMap::new());
        let call = self.call(&info, &query, &headers);
        call.own_new(&mut object, self.manager);
        call.create_object(object, false, &mut Vec::new()).await.map(drop)
    }

    /// Applies `edit` to the newest state of an object, until it is stored.
    pub(crate) async fn change(
        &self,
        name: &str,
        edit: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<(), Status> {
        self.changing(name, "", Some(self.manager)).run(Scope::Main, edit).await.map(drop)
    }

    /// Applies what `config` wants of the newest state's status, if anything; other managers of it yield.
    pub(crate) async fn apply_status(
        &self,
        name: &str,
        config: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(), Status> {
        let management = Management::of(self.server, &self.resource, "status");
        let edit = |before: &Value| match config(before) {
            Some(config) => management.apply(before, &self.named(name, config), self.manager, true),
            None => Ok(before.clone()),
        };
        // An apply says by itself what it owns.
        self.changing(name, "status", None).run(Scope::Status, edit).await.map(drop)
    }

    fn changing<'c>(&'c self, name: &'c str, subresource: &'c str, manager: Option<&'c str>) -> Change<'c> {
        Change {
            server: self.server,
            resource: ResourceTable::hub(&self.resource),
            served: &self.resource,
            verb: "update",
            subresource,
            namespace: &self.namespace,
            name,
            user: &self.user,
            dry_run: false,
            manager,
        }
    }

    /// Makes an object be as `edit` wants it, which is given an empty one where there is none.
    pub(crate) async fn ensure(
        &self,
        name: &str,
        mut edit: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<(), Status> {
        let mut last = None;
        // It can come and go under our hands, but not for ever.
        for _ in 0..4 {
            let done = match self.current(name).await? {
                Some(_) => self.change(name, &mut edit).await,
                None => self.create(self.named(name, edit(&Value::object())?)).await,
            };
            match done {
                Err(status) if matches!(status.reason, Reason::AlreadyExists | Reason::NotFound) => last = Some(status),
                done => return done,
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Deletes the object where `uid` is still its own.
    pub(crate) async fn delete(&self, name: &str, uid: &str) -> Result<(), Status> {
        let (info, query, headers) = (RequestInfo::default(), Query::default(), HeaderMap::new());
        let options = DeleteOptions { uid: Some(uid.to_owned()), ..DeleteOptions::default() };
        self.call(&info, &query, &headers).delete_one(&self.namespace, name, &options).await.map(drop)
    }

    fn named(&self, name: &str, mut object: Value) -> Value {
        object.set(&["apiVersion"], self.resource.kind.api_version());
        object.set(&["kind"], &*self.resource.kind.kind);
        object.set(&["metadata", "name"], name);
        if self.resource.namespaced {
            object.set(&["metadata", "namespace"], self.namespace.as_str());
        }
        object
    }

    fn call<'c>(&'c self, info: &'c RequestInfo, query: &'c Query, headers: &'c HeaderMap) -> Call<'c> {
        Call {
            server: self.server,
            info,
            query,
            headers,
            user: &self.user,
            resource: self.resource.clone(),
            accept: Accept { format: Format::Json, form: Form::Object, pretty: false },
            body: Default::default(),
            warnings: None,
        }
    }
}
