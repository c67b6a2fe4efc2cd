//! What a machine needs to join a cluster it knows nothing of, in kubeadm's terms: a bootstrap token, the hash of the
//! cluster's authority, and the ConfigMap `cluster-info`. Pure: who asks the API server is elsewhere.

pub mod cluster_info;
pub mod masters;
pub mod objects;
pub mod pin;
pub mod signature;
pub mod token;

/// Holds tokens.
pub const TOKENS_NAMESPACE: &str = "kube-system";
/// Holds what everybody may know.
pub const PUBLIC_NAMESPACE: &str = "kube-public";
/// The ConfigMap that says where the cluster is and whom to trust.
pub const CLUSTER_INFO: &str = "cluster-info";
/// The group of machines that join with a token.
pub const BOOTSTRAPPERS_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
