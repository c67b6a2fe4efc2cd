//! How the API servers of one cluster know of each other: at which addresses they are (the endpoints of the Service
//! `kubernetes`), and which of them are alive (identity leases).

mod endpoints;
mod identity;

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Server;

/// How long a server that ends tries to sign off (upstream: twice the interval of the endpoints).
const SIGN_OFF: Duration = Duration::from_secs(20);

/// This server's place among its peers.
#[derive(Default)]
pub(crate) struct Peers {
    leaving: CancellationToken,
    tasks: TaskTracker,
}

impl Peers {
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    fn spawn(&self, server: &Server, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = server.shutdown.clone();
        // A server that ends without having left is as good as killed: nothing is signed off.
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(work).await;
        });
    }
}

pub(crate) async fn join(server: &Arc<Server>) {
    let peers = &server.peers;
    peers.spawn(server, endpoints::run(endpoints::round(server).await, server.clone(), peers.leaving.clone()));
    if let Some(host) = &server.config.host_name {
        let identity = identity::Identity::new(server.clone(), host);
        peers.spawn(server, identity.run(peers.leaving.clone()));
    }
}

impl Server {
    /// The beginning of an orderly end: `/readyz` fails from now on, and once this has answered nobody is led here any more
    /// (as far as that could be said within 20 s). Requests are served on; see [`end_watches`](Self::end_watches).
    pub async fn leave(&self) {
        self.peers.leaving.cancel();
        self.peers.tasks.close();
        if tokio::time::timeout(SIGN_OFF, self.peers.tasks.wait()).await.is_err() {
            tracing::warn!("this server's address could not be taken out of the Service kubernetes in time");
        }
    }

    /// Ends all watches cleanly; other requests go on until the token that the server was started with is cancelled.
    pub fn end_watches(&self) {
        self.watches.cancel();
    }
}
