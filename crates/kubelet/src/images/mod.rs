//! Images for containers: pull policy, secrets, back-off, one pull of an image at a time (upstream
//! `pkg/kubelet/images/image_manager.go`).

pub mod auth;
pub mod gc;
pub mod reference;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use client::kinds::core::v1::{Container, Pod};
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::{AuthConfig, Image, PodSandboxConfig};
use parking_lot::Mutex;
use volumes::ObjectSource;

use crate::{
    cri::{Runtime, RuntimeError},
    plan::{BackOff, backoff},
};

/// Why a container has no image; `reason` is its waiting reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Timestamp,
}

/// Events a pull gives rise to: warning or not, reason, message.
pub type Note<'a> = &'a (dyn Fn(bool, &str, String) + Send + Sync);

/// The images of this node. One per kubelet.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    objects: Arc<dyn ObjectSource>,
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// By pod UID and image: upstream's back-off key.
    failed: Mutex<HashMap<(String, String), Failed>>,
}

#[derive(Clone)]
struct Failed {
    back_off: BackOff,
    at: Timestamp,
    message: String,
}

impl Images {
    pub fn new(runtime: Arc<dyn Runtime>, objects: Arc<dyn ObjectSource>) -> Images {
        Images { runtime, objects, pulls: Mutex::default(), failed: Mutex::default() }
    }

    /// The container's image, pulled if its policy asks for that.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &PodSandboxConfig,
        now: Timestamp,
        note: Note<'_>,
    ) -> Result<Image, ImageError> {
        let given = container.image.as_deref().unwrap_or_default();
        let Some(image) = reference::with_default_tag(given) else {
            let message = format!(
                "Failed to apply default image tag {given:?}: couldn't parse image name {given:?}: invalid reference format"
            );
            note(true, "InspectFailed", message.clone());
            return Err(ImageError { reason: "InvalidImageName", message, retry_at: later(now, 60) });
        };
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        if policy != "Always" {
            match self.runtime.image_status(&image).await {
                Ok(Some(present)) => {
                    note(false, "Pulled", format!("Container image {given:?} already present on machine"));
                    return Ok(present);
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image {given:?} is not present with pull policy of Never");
                    note(true, "ErrImageNeverPull", message.clone());
                    return Err(ImageError { reason: "ErrImageNeverPull", message, retry_at: later(now, 10) });
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image {given:?}: {error}");
                    note(true, "InspectFailed", message.clone());
                    return Err(ImageError { reason: "ImageInspectError", message, retry_at: later(now, 10) });
                }
            }
        }
        self.pull(pod, &image, sandbox, now, note).await
    }

    /// The images of the volumes that a container mounts, by the volumes' names (`kubelet_pods.go: getImageVolumes`).
    pub async fn ensure_volumes(
        &self,
        pod: &Pod,
        container: &Container,
        sandbox: &PodSandboxConfig,
        now: Timestamp,
        note: Note<'_>,
    ) -> Result<BTreeMap<String, String>, ImageError> {
        let mut found = BTreeMap::new();
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for (volume, source) in volumes.filter_map(|volume| Some((volume, volume.image.as_ref()?))) {
            if !container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name) {
                continue;
            }
            let wanted = Container {
                image: source.reference.clone(),
                image_pull_policy: source.pull_policy.clone(),
                ..Container::default()
            };
            found.insert(volume.name.clone(), self.ensure(pod, &wanted, sandbox, now, note).await?.id);
        }
        Ok(found)
    }

    async fn pull(
        &self,
        pod: &Pod,
        image: &str,
        sandbox: &PodSandboxConfig,
        now: Timestamp,
        note: Note<'_>,
    ) -> Result<Image, ImageError> {
        let key = (pod.metadata.uid.clone().unwrap_or_default(), image.to_owned());
        let known = self.failed.lock().get(&key).cloned();
        if let Some(known) = &known
            && let Some(until) = backoff::until(Some(&known.back_off), known.at, now)
        {
            let message = format!("Back-off pulling image {image:?}");
            note(false, "BackOff", message.clone());
            let message = format!("{message}: ErrImagePull: {}", known.message);
            return Err(ImageError { reason: "ImagePullBackOff", message, retry_at: until });
        }
        let waiting = Instant::now();
        let lock = self.pulls.lock().entry(image.to_owned()).or_default().clone();
        let alone = lock.lock().await;
        note(false, "Pulling", format!("Pulling image {image:?}"));
        let pulling = Instant::now();
        let outcome = self.pull_with_secrets(pod, image, sandbox).await;
        drop(alone);
        self.pulls.lock().retain(|name, lock| name != image || Arc::strong_count(lock) > 2);
        match outcome {
            Ok(present) => {
                self.failed.lock().remove(&key);
                let (took, all) = (print(pulling.elapsed()), print(waiting.elapsed()));
                let size = present.size;
                note(
                    false,
                    "Pulled",
                    format!(
                        "Successfully pulled image {image:?} in {took} ({all} including waiting). Image size: {size} bytes."
                    ),
                );
                Ok(present)
            }
            Err(error) => {
                let message = error.to_string();
                note(true, "Failed", format!("Failed to pull image {image:?}: {message}"));
                let back_off = backoff::next(known.as_ref().map(|known| &known.back_off), now, now);
                self.failed.lock().insert(key, Failed { back_off, at: now, message: message.clone() });
                // Soon enough that the back-off shows as such, as upstream's next sync makes it.
                Err(ImageError { reason: "ErrImagePull", message, retry_at: later(now, 2) })
            }
        }
    }

    /// With each of the pod's credentials for this registry in turn, else without any.
    async fn pull_with_secrets(
        &self,
        pod: &Pod,
        image: &str,
        sandbox: &PodSandboxConfig,
    ) -> Result<Image, RuntimeError> {
        let mut tries: Vec<Option<AuthConfig>> = self.credentials(pod, image).await.into_iter().map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut last = None;
        for auth in tries {
            match self.runtime.pull_image(image, auth, Some(sandbox)).await {
                Ok(_) => {
                    return self.runtime.image_status(image).await?.ok_or_else(|| RuntimeError::NotFound {
                        message: format!("image {image:?} was pulled but is not there"),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(RuntimeError::NotFound { message: image.to_owned() }))
    }

    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<AuthConfig> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.clone()).unwrap_or_default();
        let mut found = Vec::new();
        for name in names {
            match self.objects.get_secret(namespace, &name.name).await {
                Ok(secret) => found.extend(auth::for_image(&secret, image)),
                // Upstream goes on without it too: another secret, or none, may do.
                Err(error) => tracing::warn!(namespace, secret = name.name, %error, "cannot read image pull secret"),
            }
        }
        found
    }

    /// Forgets what failed for a pod that is gone.
    pub fn forget_pod(&self, uid: &str) {
        self.failed.lock().retain(|(pod, _), _| pod != uid);
    }
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

/// Go's way to print a duration, to the millisecond.
fn print(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis < 1000 => format!("{millis}ms"),
        millis => format!("{}.{:03}s", millis / 1000, millis % 1000),
    }
}
