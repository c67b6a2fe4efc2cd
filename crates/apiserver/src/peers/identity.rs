//! Identity leases: one per API server in kube-system, so that one can see which there are. (Upstream: the name in
//! `apiserver/pkg/server/config.go`, the lease by `component-helpers/apimachinery/lease/controller.go`, the removal of old
//! ones by `pkg/controlplane/controller/apiserverleasegc`.)

use std::{sync::Arc, time::Duration};

use api::{Status, Value, status::Reason};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{Server, own::Own};

const NAMESPACE: &str = "kube-system";
const DURATION_SECONDS: i64 = 3600;
const RENEW: Duration = Duration::from_secs(10);
const COLLECT: Duration = Duration::from_secs(3600);
/// Tells identity leases from those of leader elections, and whose they are.
const LABEL: [&str; 3] = ["metadata", "labels", "apiserver.kubernetes.io/identity"];
const COMPONENT: &str = "kube-apiserver";

pub(super) struct Identity {
    server: Arc<Server>,
    host: String,
    /// Name of the lease.
    id: String,
    holder: String,
}

impl Identity {
    pub(super) fn new(server: Arc<Server>, host: &str) -> Identity {
        let id = identity_of(host);
        let holder = format!("{id}_{}", crate::strategy::new_uid());
        Identity { server, host: host.to_owned(), id, holder }
    }

    /// Renews until `leaving`, then takes the lease away.
    pub(super) async fn run(self, leaving: CancellationToken) {
        // That of a former process: whoever held it is no more.
        self.report("removed", self.remove(|_| true).await);
        let mut collect_at = Instant::now();
        loop {
            self.report("renewed", self.renew().await);
            if Instant::now() >= collect_at {
                self.report("collected", self.collect().await);
                collect_at = Instant::now() + COLLECT;
            }
            tokio::select! {
                () = leaving.cancelled() => break,
                () = sleep(RENEW) => {}
                () = sleep_until(collect_at) => {}
            }
        }
        self.report("removed", self.remove(|holder| holder == self.holder).await);
    }

    fn report(&self, what: &str, outcome: Result<(), Status>) {
        if let Err(status) = outcome {
            tracing::warn!(status = status.message, "identity lease cannot be {what}");
        }
    }

    fn leases(&self) -> Result<Own<'_>, Status> {
        Own::of(&self.server, "coordination.k8s.io/v1", "Lease", NAMESPACE)
    }

    async fn renew(&self) -> Result<(), Status> {
        let now = self.server.clock.now();
        self.leases()?.ensure(&self.id, |before| Ok(renewed(before, &self.host, &self.holder, now))).await
    }

    async fn remove(&self, is_ours: impl Fn(&str) -> bool) -> Result<(), Status> {
        let leases = self.leases()?;
        let Some(present) = leases.current(&self.id).await? else { return Ok(()) };
        let tree = present.tree();
        if !is_ours(tree.str_at(&["spec", "holderIdentity"])) {
            return Ok(());
        }
        gone(leases.delete(&self.id, tree.str_at(&["metadata", "uid"])).await)
    }

    /// Deletes the leases of servers that are no more.
    async fn collect(&self) -> Result<(), Status> {
        let leases = self.leases()?;
        self.server.cache.wait_until_current().await?;
        for object in leases.all() {
            let tree = object.tree();
            if tree.str_at(&LABEL) == COMPONENT && is_expired(&tree, self.server.clock.now()) {
                tracing::info!(lease = object.name(), "removing the lease of an API server that is no more");
                gone(leases.delete(object.name(), tree.str_at(&["metadata", "uid"])).await)?;
            }
        }
        Ok(())
    }
}

/// Another server may have done it.
fn gone(outcome: Result<(), Status>) -> Result<(), Status> {
    match outcome {
        Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
        outcome => outcome,
    }
}

fn renewed(before: &Value, host: &str, holder: &str, now: Timestamp) -> Value {
    let mut lease = before.clone();
    lease.set(&LABEL, COMPONENT);
    lease.set(&["metadata", "labels", "kubernetes.io/hostname"], host);
    // Servers on one host share a lease; it stays whose it is.
    if lease.str_at(&["spec", "holderIdentity"]).is_empty() {
        lease.set(&["spec", "holderIdentity"], holder);
    }
    lease.set(&["spec", "leaseDurationSeconds"], DURATION_SECONDS);
    lease.set(&["spec", "renewTime"], api::time::format_micro(now));
    lease
}

/// A lease without its times is none of ours either.
fn is_expired(lease: &Value, now: Timestamp) -> bool {
    let renewed: Option<Timestamp> = lease.str_at(&["spec", "renewTime"]).parse().ok();
    let seconds = lease.at(&["spec", "leaseDurationSeconds"]).and_then(Value::as_i64);
    match (renewed, seconds) {
        (Some(renewed), Some(seconds)) => now.duration_since(renewed) > SignedDuration::from_secs(seconds),
        _ => true,
    }
}

/// `apiserver-` and a hash of the host and of what serves there, each behind its length in two bytes.
fn identity_of(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, COMPONENT] {
        // Host names have 64 characters at most.
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    format!("apiserver-{}", base32(&hash.finalize()[..16]))
}

/// RFC 4648 without padding, in lower case.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |at: usize| (at..at + 5).fold(0, |digit, at| digit << 1 | bit(at));
    (0..bytes.len() * 8).step_by(5).map(|at| char::from(ALPHABET[usize::from(digit(at)) & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_upstreams() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "my"), (b"fo", "mzxq"), (b"foobar", "mzxw6ytboi")] {
            assert_eq!(base32(bytes), text);
        }
        assert_eq!(identity_of("master"), "apiserver-oodnacusc5bcuykzhczyk7a7zq");
    }

    #[test]
    fn leases_run_out() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().expect("a time");
        let lease = renewed(&Value::object(), "master", "me", now);
        assert_eq!(lease.str_at(&["spec", "renewTime"]), "2026-01-01T02:00:00.000000Z");
        let after = |seconds: i64| now + SignedDuration::from_secs(seconds);
        assert!(!is_expired(&lease, after(3600)) && is_expired(&lease, after(3601)));
        assert!(is_expired(&Value::object(), now));
        let other = renewed(&lease, "master", "another", after(10));
        assert_eq!((other.str_at(&["spec", "holderIdentity"]), is_expired(&other, after(3601))), ("me", false));
    }
}
