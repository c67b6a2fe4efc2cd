//! How this machine becomes a node of a cluster elsewhere: [`discovery`] finds out whom to trust, [`credentials`] gets or
//! finds the kubelet's own certificate; or, with [`master`], one of its masters. Until the cluster has accepted the request for it nothing is written.

pub mod credentials;
mod discovery;
pub mod error;
mod inheritance;
pub mod kept;
mod leaving;
pub mod master;

use client::{
    Kubeconfig,
    kubeconfig::{Cluster, Context, NamedCluster, NamedContext, NamedUser, User},
};
use cluster::joining::{pin::CaPin, token::BootstrapToken};

/// What a machine is told of the cluster that it is to join.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Such as `https://192.0.2.1:6443`.
    pub server: String,
    pub token: BootstrapToken,
    /// Empty: the token's signature has to do.
    pub pins: Vec<CaPin>,
}

impl Invitation {
    pub fn new(server: &str, token: &BootstrapToken, pins: &[CaPin]) -> Invitation {
        let server = server.trim_end_matches('/').to_owned();
        Invitation { server, token: token.clone(), pins: pins.to_vec() }
    }
}

/// A kubeconfig in memory of one cluster and one user.
fn kubeconfig(cluster: Cluster, user: User) -> Kubeconfig {
    let name = "join".to_owned();
    Kubeconfig {
        clusters: vec![NamedCluster { name: name.clone(), cluster }],
        users: vec![NamedUser { name: name.clone(), user }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Context { cluster: name.clone(), user: name.clone(), namespace: String::new() },
        }],
        current_context: name,
        ..Kubeconfig::default()
    }
}
