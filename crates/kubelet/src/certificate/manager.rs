//! Keeps one certificate fresh for as long as the kubelet runs (client-go `certificate_manager.go`).

use std::{sync::Arc, time::Duration};

use client::{Client, Clock};
use jiff::SignedDuration;
use rcgen::KeyPair;
use tokio::sync::watch;

use super::{
    CertificateError, Facts, Template,
    deadline::{Rotation, rotation},
    request,
    store::CertificateStore,
};

/// How often names are compared and the clock is looked at: it may jump, and machines sleep.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// While there is no certificate and nothing to ask for one with.
const CHECK_MISSING: Duration = Duration::from_millis(250);
/// Upstream's `certificateWaitTimeout`.
const WAIT_LIMIT: Duration = Duration::from_secs(15 * 60);
const BACK_OFF_MIN: Duration = Duration::from_secs(2);
const BACK_OFF_MAX: Duration = Duration::from_secs(32);

/// The certificate that is wanted now; `None` while that is not known.
pub type TemplateSource = Box<dyn Fn() -> Option<Template> + Send + Sync>;

pub struct CertificateManager {
    pub client: Client,
    pub store: CertificateStore,
    pub template: TemplateSource,
    pub clock: Arc<dyn Clock>,
    /// Told `true` once there is a certificate that can be used.
    pub ready: watch::Sender<bool>,
}

impl CertificateManager {
    /// Never ends by itself.
    pub async fn run(self) {
        let mut jitter: f64 = rand::random();
        let mut back_off = BACK_OFF_MIN;
        loop {
            let Some(template) = (self.template)() else {
                self.tell(self.store.current().ok().flatten().as_ref());
                tokio::time::sleep(CHECK_MISSING).await;
                continue;
            };
            match self.check(&template, jitter).await {
                Ok(Some(pause)) => tokio::time::sleep(pause).await,
                Ok(None) => (jitter, back_off) = (rand::random(), BACK_OFF_MIN),
                Err(error) => {
                    let signer = template.purpose.signer_name();
                    tracing::error!(signer, %error, "cannot replace a certificate; trying again");
                    tokio::time::sleep(back_off.mul_f64(1.0 + 0.1 * rand::random::<f64>())).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// Replaces the certificate if it is time (`None`), or says when to look again.
    async fn check(&self, template: &Template, jitter: f64) -> Result<Option<Duration>, CertificateError> {
        let current = self.store.current()?;
        self.tell(current.as_ref());
        let now = self.clock.now();
        match rotation(current.as_ref(), template, jitter, now) {
            Rotation::At(deadline) => {
                let left = deadline.duration_since(now).max(SignedDuration::from_millis(10));
                Ok(Some(left.unsigned_abs().min(CHECK_EVERY)))
            }
            Rotation::Now(reason) => {
                let signer = template.purpose.signer_name();
                tracing::info!(signer, ?reason, "asking for a certificate");
                if let Some(facts) = self.replace(template).await? {
                    tracing::info!(signer, until = %facts.not_after, "has a new certificate");
                    self.tell(Some(&facts));
                }
                Ok(None)
            }
        }
    }

    /// With a new key each time; `None` where something else is wanted by now.
    async fn replace(&self, template: &Template) -> Result<Option<Facts>, CertificateError> {
        let key = KeyPair::generate()?;
        let submitted = request::submit(&self.client, template, &key, None).await?;
        let issued = tokio::select! {
            issued = request::wait(&self.client, &submitted, WAIT_LIMIT) => issued?,
            // The node may have got other names while nobody answered.
            () = self.changed(template) => return Ok(None),
        };
        self.store.update(&issued, &key, self.clock.now()).map(Some)
    }

    async fn changed(&self, template: &Template) {
        while (self.template)().is_none_or(|now| now == *template) {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    fn tell(&self, current: Option<&Facts>) {
        if current.is_some_and(|facts| self.clock.now() < facts.not_after) {
            self.ready.send_replace(true);
        }
    }
}
