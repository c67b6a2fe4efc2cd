//! Where volume content comes from: the kubelet's caches, or a table in a test.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};

/// Objects that pods on this node refer to. Absence is [`SourceError::NotFound`]; everything else is a failure.
#[async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    async fn get_config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError>;

    async fn get_secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError>;

    /// Asks the API for a new token (TokenRequest); caching and renewal happen on this side.
    async fn service_account_token(&self, query: &TokenQuery) -> Result<Token, SourceError>;

    async fn get_persistent_volume_claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<PersistentVolumeClaim>, SourceError>;

    async fn get_persistent_volume(&self, name: &str) -> Result<Arc<PersistentVolume>, SourceError>;

    /// The PEM bundle of one ClusterTrustBundle.
    async fn trust_bundle_by_name(&self, _name: &str) -> Result<Vec<u8>, SourceError> {
        Err(SourceError::Unsupported { what: "ClusterTrustBundle projection" })
    }

    /// The PEM bundles of a signer's ClusterTrustBundles that match, joined.
    async fn trust_bundles_by_signer(
        &self,
        _signer: &str,
        _selector: Option<&LabelSelector>,
    ) -> Result<Vec<u8>, SourceError> {
        Err(SourceError::Unsupported { what: "ClusterTrustBundle projection" })
    }

    /// The node's allocatable resources: the default of limits in the downward API and the bound of memory volumes.
    fn node_allocatable(&self) -> BTreeMap<String, Quantity>;
}

/// A TokenRequest bound to a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenQuery {
    pub namespace: String,
    pub service_account: String,
    /// Empty: the API server's own audience.
    pub audiences: Vec<String>,
    /// `None`: the server's default, one hour.
    pub expiration_seconds: Option<i64>,
    pub pod_name: String,
    pub pod_uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub token: String,
    pub expires: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `resource` in upstream's singular spelling (`configmap`, `secret`, `persistentvolumeclaim`).
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: &'static str, name: String },
    #[error("{what} is not supported")]
    Unsupported { what: &'static str },
    #[error("{0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, SourceError::NotFound { .. })
    }
}
