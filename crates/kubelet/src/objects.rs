//! The API as workers and volumes see it: status writes and deletions, config maps, secrets, claims and tokens.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use client::{
    Client, DeleteParams, Kind, PatchKind,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
    kinds::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, PodStatus, Secret, ServiceAccount},
    },
};
use parking_lot::RwLock;
use volumes::{ObjectSource, SourceError, Token, TokenQuery};

use crate::{status::patch, worker::PodApi};

/// Reads and writes through one client. Cheap to clone.
#[derive(Clone)]
pub struct ApiObjects {
    client: Client,
    allocatable: Arc<RwLock<Arc<BTreeMap<String, Quantity>>>>,
}

impl ApiObjects {
    pub fn new(client: Client) -> ApiObjects {
        ApiObjects { client, allocatable: Arc::default() }
    }

    /// What the downward API and memory volumes are told of the node.
    pub fn set_allocatable(&self, allocatable: Arc<BTreeMap<String, Quantity>>) {
        *self.allocatable.write() = allocatable;
    }

    async fn read<K: Kind>(&self, resource: &'static str, namespace: &str, name: &str) -> Result<Arc<K>, SourceError> {
        let api = if namespace.is_empty() { self.client.all::<K>() } else { self.client.namespaced::<K>(namespace) };
        match api.get(name).await {
            Ok(object) => Ok(Arc::new(object)),
            Err(error) if error.is_not_found() => Err(SourceError::NotFound { resource, name: name.to_owned() }),
            Err(error) => Err(SourceError::Other(Box::new(error))),
        }
    }
}

#[async_trait]
impl ObjectSource for ApiObjects {
    async fn get_config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError> {
        self.read("configmap", namespace, name).await
    }

    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        self.read("secret", namespace, name).await
    }

    async fn service_account_token(&self, query: &TokenQuery) -> Result<Token, SourceError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(query.audiences.clone()).filter(|list| !list.is_empty()),
                expiration_seconds: query.expiration_seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(query.pod_name.clone()),
                    uid: Some(query.pod_uid.clone()),
                }),
            }),
            ..TokenRequest::default()
        };
        let api = self.client.namespaced::<ServiceAccount>(&query.namespace);
        let answer = api.create_sub(&query.service_account, "token", request.encode()).await;
        let answer = answer.map_err(|error| match error.is_not_found() {
            true => SourceError::NotFound { resource: "serviceaccount", name: query.service_account.clone() },
            false => SourceError::Other(Box::new(error)),
        })?;
        let answer = TokenRequest::decode(&answer).map_err(|error| SourceError::Other(Box::new(error)))?;
        let status = answer.status.unwrap_or_default();
        match (status.token, status.expiration_timestamp) {
            (Some(token), Some(Time(expires))) => Ok(Token { token, expires }),
            _ => Err(SourceError::Other("the API server's TokenRequest has no token".into())),
        }
    }

    async fn get_persistent_volume_claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<PersistentVolumeClaim>, SourceError> {
        self.read("persistentvolumeclaim", namespace, name).await
    }

    async fn get_persistent_volume(&self, name: &str) -> Result<Arc<PersistentVolume>, SourceError> {
        self.read("persistentvolume", "", name).await
    }

    fn node_allocatable(&self) -> BTreeMap<String, Quantity> {
        BTreeMap::clone(&self.allocatable.read())
    }
}

#[async_trait]
impl PodApi for ApiObjects {
    async fn patch_status(&self, pod: &Pod, last: Option<&PodStatus>, status: &PodStatus) -> client::Result<()> {
        let bad =
            |error: serde_json::Error| client::Error::Decode { what: "pod status".into(), message: error.to_string() };
        let patch = patch::strategic(pod.uid(), last, status).map_err(bad)?;
        let api = self.client.namespaced::<Pod>(pod.namespace());
        api.patch(pod.name(), Some("status"), PatchKind::Strategic, patch).await.map(drop)
    }

    async fn delete(&self, pod: &Pod) -> client::Result<()> {
        let options =
            DeleteParams { grace_period_seconds: Some(0), uid: Some(pod.uid().to_owned()), ..DeleteParams::default() };
        self.client.namespaced::<Pod>(pod.namespace()).delete(pod.name(), &options).await
    }
}
