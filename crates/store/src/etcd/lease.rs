//! Leases for time to live. As upstream's apiserver/pkg/storage/etcd3/lease_manager.go: writes with nearly the same time to
//! live share a lease, since leases are dear to etcd, so that a key may live 5% (at most a minute) longer than asked.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{client::Client, proto, signed};
use crate::Result;

const REUSE_MAX: Duration = Duration::from_secs(60);
const REUSE_PER_TTL: u32 = 20;
const OBJECTS_MAX: usize = 1000;

pub(super) struct Leases {
    client: Arc<Client>,
    /// The newest for each time to live, of which there are few: what is short-lived must not end the sharing of what is not.
    shared: Mutex<HashMap<Duration, Lease>>,
}

#[derive(Clone, Debug)]
struct Lease {
    id: i64,
    expires: Instant,
    objects: usize,
}

impl Leases {
    pub fn new(client: Arc<Client>) -> Leases {
        Leases { client, shared: Mutex::default() }
    }

    /// A lease for one more key that is to live `ttl`.
    pub async fn lease(&self, ttl: Duration) -> Result<i64> {
        let mut shared = self.shared.lock().await;
        let now = Instant::now();
        let granted = granted(ttl);
        shared.retain(|_, lease| lease.expires > now);
        if let Some(lease) = shared.get_mut(&granted).filter(|lease| lease.fits(now, ttl)) {
            lease.objects += 1;
            return Ok(lease.id);
        }
        let request = proto::LeaseGrantRequest { ttl: signed(granted.as_secs()) };
        // Granting twice costs etcd an unused lease for a while and nobody else anything.
        let answer: proto::LeaseGrantResponse =
            self.client.read("/etcdserverpb.Lease/LeaseGrant", request, self.client.options.timeouts.request).await?;
        shared.insert(granted, Lease { id: answer.id, expires: now + granted, objects: 1 });
        Ok(answer.id)
    }

    /// The lease is no more.
    pub fn forget(&self, id: i64) {
        if let Ok(mut shared) = self.shared.try_lock() {
            shared.retain(|_, lease| lease.id != id);
        }
    }
}

/// Whole seconds, at least one, and the time in which others may share the lease.
fn granted(ttl: Duration) -> Duration {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = Duration::from_secs(seconds.max(1));
    seconds + Duration::from_secs(reuse(seconds).as_secs())
}

fn reuse(ttl: Duration) -> Duration {
    (ttl / REUSE_PER_TTL).min(REUSE_MAX)
}

impl Lease {
    /// Lives long enough for `ttl`, and not much longer.
    fn fits(&self, now: Instant, ttl: Duration) -> bool {
        let left = self.expires.saturating_duration_since(now);
        left >= ttl && left <= granted(ttl) && self.objects < OBJECTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_is_shared_by_what_lives_about_as_long() {
        let now = Instant::now();
        let lease = |left: u64, objects: usize| Lease { id: 1, expires: now + Duration::from_secs(left), objects };
        for (left, objects, ttl, fits) in [
            (3660, 1, 3600, true),
            (3600, 999, 3600, true),
            (3600, 1000, 3600, false),
            (3599, 1, 3600, false),
            (3661, 1, 3600, false),
            (105, 1, 100, true),
            (106, 1, 100, false),
        ] {
            assert_eq!(lease(left, objects).fits(now, Duration::from_secs(ttl)), fits, "{left} {objects} {ttl}");
        }
        for (ttl_ms, seconds) in [(1, 1), (1000, 1), (1001, 2), (100_000, 105), (3_600_000, 3660)] {
            assert_eq!(granted(Duration::from_millis(ttl_ms)), Duration::from_secs(seconds));
        }
    }
}
