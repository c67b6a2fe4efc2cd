//! One of several equal processes leads, by holding a coordination Lease (client-go `tools/leaderelection`).

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Api, Client, Clock, Result, SystemClock, TransportError,
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    kinds::coordination::v1::{Lease, LeaseSpec},
};

/// Which Lease is fought for, by whom, and how fast.
pub struct LeaderElection {
    pub namespace: String,
    pub name: String,
    /// Unlike that of every other candidate: host name and something unique.
    pub identity: String,
    /// How long others wait, after the last renewal they saw, before they take over.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry_period: Duration,
}

/// Why [`LeaderElection::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderEnd {
    /// Told to. If it led, what it ran has ended and the lease is free.
    Cancelled,
    /// The lease could not be renewed: another may lead already. A component ends its process then, as upstream's do.
    Lost,
    /// What the leader ran ended by itself; the lease is free.
    Finished,
}

/// The lease as this candidate last saw it, and when it saw that by its own clock: other machines' clocks are not
/// trusted.
struct Observed {
    lease: Option<Lease>,
    at: Instant,
}

struct Candidate<'a> {
    election: &'a LeaderElection,
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    observed: Observed,
}

impl LeaderElection {
    /// client-go's defaults: 15 s, 10 s, 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        LeaderElection {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits for the lease, then runs `lead` while it is held. The token given to `lead` is cancelled when it is lost or
    /// when `cancel` is; on `cancel` the lease is held until `lead` ends, then released.
    pub async fn run<F, Fut>(&self, client: &Client, cancel: CancellationToken, lead: F) -> LeaderEnd
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut candidate = Candidate {
            election: self,
            api: client.namespaced(&self.namespace),
            clock: Arc::new(SystemClock),
            observed: Observed { lease: None, at: Instant::now() },
        };
        tokio::select! {
            () = cancel.cancelled() => return LeaderEnd::Cancelled,
            () = candidate.acquire() => {}
        }
        tracing::info!(lease = self.name, identity = self.identity, "became leader");
        let leading = cancel.child_token();
        let lead = lead(leading.clone());
        tokio::pin!(lead);
        tokio::select! {
            () = &mut lead => {}
            () = candidate.renew() => {
                tracing::error!(lease = self.name, identity = self.identity, "lost the lease");
                leading.cancel();
                // Others take over after the lease's duration: until then there is time to end in order.
                let left = self.lease_duration.saturating_sub(self.renew_deadline);
                if tokio::time::timeout(left, lead).await.is_err() {
                    tracing::warn!(lease = self.name, "did not end in time after the lease was lost");
                }
                return LeaderEnd::Lost;
            }
        }
        if let Err(error) = candidate.release().await {
            tracing::warn!(lease = self.name, %error, "cannot release the lease");
        }
        if cancel.is_cancelled() { LeaderEnd::Cancelled } else { LeaderEnd::Finished }
    }
}

impl Candidate<'_> {
    async fn acquire(&mut self) {
        loop {
            match self.try_acquire_or_renew().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.election.name, %error, "cannot acquire the lease"),
            }
            // client-go's jitter factor of 1.2: candidates do not all come at once.
            tokio::time::sleep(self.election.retry_period.mul_f64(1.0 + rand::random_range(0.0..1.2))).await;
        }
    }

    /// Comes back when the lease could not be renewed for as long as the renew deadline.
    async fn renew(&mut self) {
        let mut renewed = Instant::now();
        let mut next = renewed + self.election.retry_period;
        loop {
            let deadline = renewed + self.election.renew_deadline;
            tokio::time::sleep_until(next.min(deadline)).await;
            let started = Instant::now();
            if started >= deadline {
                return;
            }
            next = started + self.election.retry_period;
            match tokio::time::timeout_at(deadline, self.try_acquire_or_renew()).await {
                Ok(Ok(true)) => renewed = started,
                Ok(Err(error)) => tracing::warn!(lease = self.election.name, %error, "cannot renew the lease"),
                Ok(Ok(false)) | Err(_) => return,
            }
        }
    }

    /// Whether this candidate holds the lease now.
    async fn try_acquire_or_renew(&mut self) -> Result<bool> {
        // The leader renews what it wrote last without reading it first; a conflict tells that it was not alone.
        if self.is_held()
            && self.is_valid()
            && let Some(lease) = &self.observed.lease
        {
            let renewed = self.claim(lease);
            match self.api.update(&renewed).await {
                Ok(lease) => {
                    self.observe(lease);
                    return Ok(true);
                }
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let Some(lease) = self.api.find(&self.election.name).await? else {
            let lease = self.api.create(&self.claim(&Lease::default())).await;
            return self.written(lease);
        };
        if self.observed.lease.as_ref().and_then(|seen| seen.spec.as_ref()) != lease.spec.as_ref() {
            self.observed.at = Instant::now();
        }
        self.observed.lease = Some(lease);
        if !self.is_free() && !self.is_held() && self.is_valid() {
            return Ok(false);
        }
        let claim = self.claim(self.observed.lease.as_ref().unwrap_or(&Lease::default()));
        let lease = self.api.update(&claim).await;
        self.written(lease)
    }

    /// Another was faster where the write met a conflict.
    fn written(&mut self, lease: Result<Lease>) -> Result<bool> {
        match lease {
            Ok(lease) => {
                self.observe(lease);
                Ok(true)
            }
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, lease: Lease) {
        self.observed = Observed { lease: Some(lease), at: Instant::now() };
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.observed.lease.as_ref()?.spec.as_ref()
    }

    fn holder(&self) -> &str {
        self.spec().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    fn is_held(&self) -> bool {
        self.holder() == self.election.identity
    }

    fn is_free(&self) -> bool {
        self.holder().is_empty()
    }

    /// Whether the holder may still count on the lease: by the duration that the holder wrote.
    fn is_valid(&self) -> bool {
        let seconds = self.spec().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.observed.at + duration > Instant::now()
    }

    /// `lease` as this candidate writes it to take or to keep it.
    fn claim(&self, lease: &Lease) -> Lease {
        let now = MicroTime(self.clock.now());
        let old = lease.spec.clone().unwrap_or_default();
        let keeps = old.holder_identity.as_deref() == Some(&self.election.identity);
        let transitions = match (&old.holder_identity, keeps) {
            (_, true) => old.lease_transitions.unwrap_or(0),
            (None, false) if lease.spec.is_none() => 0,
            (_, false) => old.lease_transitions.unwrap_or(0).saturating_add(1),
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.election.lease_duration.as_secs()).unwrap_or(i32::MAX).max(1),
            ),
            acquire_time: if keeps { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..old
        };
        let metadata = ObjectMeta {
            name: Some(self.election.name.clone()),
            namespace: Some(self.election.namespace.clone()),
            ..lease.metadata.clone()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Writes that nobody holds the lease, so that the next need not wait for its end. A renewal that was cut short may
    /// still arrive meanwhile, hence more than one try.
    async fn release(&mut self) -> Result<()> {
        let release = async {
            for _ in 0..3 {
                let Some(mut lease) = self.api.find(&self.election.name).await? else { return Ok(()) };
                let old = lease.spec.take().unwrap_or_default();
                if old.holder_identity.as_deref() != Some(&self.election.identity) {
                    return Ok(());
                }
                let now = MicroTime(self.clock.now());
                lease.spec = Some(LeaseSpec {
                    holder_identity: Some(String::new()),
                    lease_duration_seconds: Some(1),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    ..old
                });
                match self.api.update(&lease).await {
                    Err(error) if error.is_conflict() => {}
                    result => return result.map(drop),
                }
            }
            Ok(())
        };
        tokio::time::timeout(self.election.renew_deadline, release).await.unwrap_or_else(|_| {
            let server = format!("lease {}/{}", self.election.namespace, self.election.name);
            Err(TransportError { server, source: "no answer in time".into() }.into())
        })
    }
}
