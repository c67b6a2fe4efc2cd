//! Clients of the API server in the same process. Each has the identity that its component has everywhere else, and its
//! requests are authorized and admitted like everybody's.

use std::sync::Arc;

use apiserver::{Server, UserInfo};
use client::{Client, Transport, transport::Local};

/// The name of this program in requests.
pub fn user_agent(component: &str) -> String {
    format!("{component}/v{}", env!("CARGO_PKG_VERSION"))
}

/// A client with the transport it was made of.
pub fn client(server: &Arc<Server>, component: &str, user: UserInfo) -> (Client, Arc<dyn Transport>) {
    let (server, user) = (server.clone(), Arc::new(user));
    let transport: Arc<dyn Transport> =
        Arc::new(Local::new(Arc::new(move |request| server.handle_local(user.clone(), request))));
    (Client::new(transport.clone(), &user_agent(component)), transport)
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
