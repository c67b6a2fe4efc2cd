//! Clients of the API server, in the same process or elsewhere. Each has the identity that its component has everywhere
//! else, and its requests are authorized and admitted like everybody's.

use std::{path::Path, sync::Arc, time::Duration};

use apiserver::{Server, UserInfo};
use client::{Client, kubeconfig, transport::Local};

/// The name of this program in requests.
pub fn user_agent(component: &str) -> String {
    format!("{component}/v{}", env!("CARGO_PKG_VERSION"))
}

/// A client of the server in this process.
pub fn local(server: &Arc<Server>, component: &str, user: UserInfo) -> Client {
    let (server, user) = (server.clone(), Arc::new(user));
    let transport = Local::new(Arc::new(move |request| server.handle_local(user.clone(), request)));
    Client::new(Arc::new(transport), &user_agent(component))
}

/// A client of the server that a kubeconfig names, as its user.
pub fn remote(kubeconfig: &Path, component: &str) -> client::Result<Client> {
    Client::from_kubeconfig(&kubeconfig::load(kubeconfig)?, &user_agent(component))
}

/// Does requests, which may be made twice, again for as long as no server can answer them. How long that may be is for
/// the caller to say.
pub async fn patiently<T>(requests: impl AsyncFn() -> client::Result<T>) -> client::Result<T> {
    const PAUSE: Duration = Duration::from_millis(100);
    loop {
        match requests().await {
            Err(error) if error.is_unavailable() => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

pub fn user(name: &str) -> UserInfo {
    UserInfo::authenticated(name, [])
}

/// A kubelet's identity, which the Node authorizer knows.
pub fn node_user(node: &str) -> UserInfo {
    UserInfo::authenticated(format!("system:node:{node}"), ["system:nodes".to_owned()])
}

/// Puts in place what belongs to no component: cluster DNS and the node's role label. kubeadm does this with the
/// administrator's certificate; like that, it has every right, and is used while a cluster starts and never after.
pub fn add_on_manager() -> UserInfo {
    UserInfo::authenticated("argosy:addon-manager", ["system:masters".to_owned()])
}
