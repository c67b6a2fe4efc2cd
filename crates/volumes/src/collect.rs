//! First step: what each volume of a pod turns out to need, with its content. Asks the [`ObjectSource`]; touches no disk.

use std::{collections::BTreeMap, path::PathBuf};

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ClusterTrustBundleProjection, PersistentVolumeClaim, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection,
        Volume, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    Cause, ObjectSource, SourceError, TokenQuery, VolumeError,
    inline::{medium, unsupported},
    layout::Plugin,
    payload::{self, DEFAULT_MODE, File, Payload},
    tokens::TokenCache,
};

const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";

/// One volume, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    EmptyDir {
        medium: Medium,
    },
    HostPath {
        path: PathBuf,
        kind: String,
        read_only: bool,
    },
    /// Content the kubelet writes.
    Files {
        plugin: Plugin,
        payload: Payload,
    },
    /// A directory of this node that a PersistentVolume names.
    Local {
        volume: String,
        path: PathBuf,
        read_only: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    /// `size_limit` in bytes, as the volume asks; the plan bounds it by pod and node.
    Memory {
        size_limit: Option<u64>,
    },
}

pub(crate) struct Collector<'a> {
    pub source: &'a dyn ObjectSource,
    pub tokens: &'a TokenCache,
    pub now: Timestamp,
}

/// Whether a volume's content comes from the API and may change while the pod runs.
pub fn is_refreshed(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

impl Collector<'_> {
    /// All volumes that `wanted` chooses (but images, which the container runtime mounts), in the pod's order; every failure is reported, not only the first.
    pub(crate) async fn pod(
        &self,
        pod: &Pod,
        wanted: fn(&Volume) -> bool,
    ) -> (BTreeMap<String, Resolved>, Vec<VolumeError>) {
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .filter(|volume| volume.image.is_none() && wanted(volume));
        let all = join_all(volumes.map(|volume| async move { (volume.name.clone(), self.volume(pod, volume).await) }));
        let (mut resolved, mut errors) = (BTreeMap::new(), Vec::new());
        for (name, result) in all.await {
            match result {
                Ok(volume) => drop(resolved.insert(name, volume)),
                Err(error) => errors.push(error),
            }
        }
        (resolved, errors)
    }

    async fn volume(&self, pod: &Pod, volume: &Volume) -> Result<Resolved, VolumeError> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claim(pod, &claim.claim_name, claim.read_only.unwrap_or(false), false).await;
        }
        if volume.ephemeral.is_some() {
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            return self.claim(pod, &format!("{pod_name}-{}", volume.name), false, true).await;
        }
        self.inline(pod, volume).await.map_err(|cause| VolumeError::set_up(&volume.name, cause))
    }

    async fn inline(&self, pod: &Pod, volume: &Volume) -> Result<Resolved, Cause> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(source) = &volume.host_path {
            let kind = source.type_.clone().unwrap_or_default();
            return Ok(Resolved::HostPath { path: source.path.clone().into(), kind, read_only: false });
        }
        if let Some(source) = &volume.config_map {
            let optional = source.optional.unwrap_or(false);
            let object = optional_object(self.source.get_config_map(namespace, &source.name).await, optional)?;
            let mode = payload::mode(source.default_mode).unwrap_or(DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::config_map(object.as_deref(), items, mode, optional)?;
            return Ok(Resolved::Files { plugin: Plugin::ConfigMap, payload });
        }
        if let Some(source) = &volume.secret {
            let optional = source.optional.unwrap_or(false);
            let name = source.secret_name.as_deref().unwrap_or_default();
            let object = optional_object(self.source.get_secret(namespace, name).await, optional)?;
            let mode = payload::mode(source.default_mode).unwrap_or(DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::secret(object.as_deref(), items, mode, optional)?;
            return Ok(Resolved::Files { plugin: Plugin::Secret, payload });
        }
        if let Some(source) = &volume.downward_api {
            let mode = payload::mode(source.default_mode).unwrap_or(DEFAULT_MODE);
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::downward_api(pod, items, mode, &self.source.node_allocatable())?;
            return Ok(Resolved::Files { plugin: Plugin::DownwardApi, payload });
        }
        if let Some(source) = &volume.projected {
            let payload = self.projected(pod, source).await?;
            return Ok(Resolved::Files { plugin: Plugin::Projected, payload });
        }
        match (unsupported(volume), &volume.empty_dir) {
            (Some(plugin), _) => Err(Cause::UnsupportedPlugin(plugin)),
            // A volume that names no source is an emptyDir, as the API's default has it.
            (None, source) => Ok(Resolved::EmptyDir { medium: medium(source.as_ref())? }),
        }
    }

    async fn projected(&self, pod: &Pod, source: &ProjectedVolumeSource) -> Result<Payload, Cause> {
        let mode = payload::mode(source.default_mode).unwrap_or(DEFAULT_MODE);
        let allocatable = self.source.node_allocatable();
        let sources = source.sources.iter().flatten();
        let parts = join_all(sources.map(|part| self.projection(pod, part, mode, &allocatable))).await;
        let (mut payload, mut errors) = (Payload::new(), Vec::new());
        for part in parts {
            match part {
                // Later sources win, as upstream.
                Ok(files) => payload.extend(files),
                Err(cause) => errors.push(cause),
            }
        }
        Cause::join(errors).map_or(Ok(payload), Err)
    }

    async fn projection(
        &self,
        pod: &Pod,
        part: &VolumeProjection,
        mode: u32,
        allocatable: &BTreeMap<String, Quantity>,
    ) -> Result<Payload, Cause> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(secret) = &part.secret {
            let optional = secret.optional.unwrap_or(false);
            let object = optional_object(self.source.get_secret(namespace, &secret.name).await, optional)?;
            payload::secret(object.as_deref(), secret.items.as_deref().unwrap_or_default(), mode, optional)
        } else if let Some(map) = &part.config_map {
            let optional = map.optional.unwrap_or(false);
            let object = optional_object(self.source.get_config_map(namespace, &map.name).await, optional)?;
            payload::config_map(object.as_deref(), map.items.as_deref().unwrap_or_default(), mode, optional)
        } else if let Some(downward) = &part.downward_api {
            payload::downward_api(pod, downward.items.as_deref().unwrap_or_default(), mode, allocatable)
        } else if let Some(token) = &part.service_account_token {
            let file = self.token(pod, token, mode).await?;
            Ok([(token.path.clone(), file)].into())
        } else if let Some(bundle) = &part.cluster_trust_bundle {
            let file = private(pod, self.trust_bundle(bundle).await?, mode);
            Ok([(bundle.path.clone(), file)].into())
        } else if part.pod_certificate.is_some() {
            Err(Cause::Unsupported("PodCertificate projection".into()))
        } else {
            Ok(Payload::new())
        }
    }

    async fn token(&self, pod: &Pod, source: &ServiceAccountTokenProjection, mode: u32) -> Result<File, Cause> {
        let meta = &pod.metadata;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let query = TokenQuery {
            namespace: meta.namespace.clone().unwrap_or_default(),
            service_account: account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into()),
            audiences: source.audience.iter().filter(|audience| !audience.is_empty()).cloned().collect(),
            expiration_seconds: source.expiration_seconds,
            pod_name: meta.name.clone().unwrap_or_default(),
            pod_uid: meta.uid.clone().unwrap_or_default(),
        };
        Ok(private(pod, self.tokens.get(self.source, &query, self.now).await?.into_bytes(), mode))
    }

    async fn trust_bundle(&self, source: &ClusterTrustBundleProjection) -> Result<Vec<u8>, Cause> {
        let found = match (&source.name, &source.signer_name) {
            (Some(name), _) => self.source.trust_bundle_by_name(name).await,
            (None, Some(signer)) => self.source.trust_bundles_by_signer(signer, source.label_selector.as_ref()).await,
            (None, None) => {
                let text = "ClusterTrustBundle projection without name or signerName";
                return Err(Cause::Unsupported(text.into()));
            }
        };
        Ok(optional_object(found, source.optional.unwrap_or(false))?.unwrap_or_default())
    }

    async fn claim(&self, pod: &Pod, name: &str, read_only: bool, owned: bool) -> Result<Resolved, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.bound_volume(pod, namespace, name, read_only, owned).await.map_err(|cause| VolumeError::Claim {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            cause,
        })
    }

    async fn bound_volume(
        &self,
        pod: &Pod,
        namespace: &str,
        name: &str,
        read_only: bool,
        owned: bool,
    ) -> Result<Resolved, Cause> {
        let claim = self.source.get_persistent_volume_claim(namespace, name).await?;
        if owned && !is_owned_by(&claim, pod) {
            return Err(Cause::ForeignClaim(pod.metadata.name.clone().unwrap_or_default()));
        }
        // While it has the finalizer it waits for its pods, and one of them is this: a restarted kubelet comes here again.
        let is_protected = claim.metadata.finalizers.iter().flatten().any(|name| name == PVC_PROTECTION);
        if claim.metadata.deletion_timestamp.is_some() && !is_protected {
            return Err(Cause::BeingDeleted);
        }
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let volume_name = volume_name.filter(|name| bound && !name.is_empty()).ok_or(Cause::NotBound)?;
        let volume = self.source.get_persistent_volume(volume_name).await?;
        let spec = volume.spec.clone().unwrap_or_default();
        let claimed_by = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_deref());
        if claimed_by != claim.metadata.uid.as_deref() {
            return Err(Cause::ForeignVolume(volume_name.to_owned()));
        }
        if spec.volume_mode.as_deref() == Some("Block") {
            return Err(Cause::Unsupported("volumeMode Block".into()));
        }
        if let Some(local) = spec.local {
            return Ok(Resolved::Local { volume: volume_name.to_owned(), path: local.path.into(), read_only });
        }
        if let Some(host) = spec.host_path {
            let kind = host.type_.unwrap_or_default();
            return Ok(Resolved::HostPath { path: host.path.into(), kind, read_only });
        }
        Err(match (spec.csi, spec.nfs, spec.iscsi, spec.fc) {
            (Some(_), ..) => Cause::UnsupportedPlugin("kubernetes.io/csi"),
            (_, Some(_), ..) => Cause::UnsupportedPlugin("kubernetes.io/nfs"),
            (_, _, Some(_), _) => Cause::UnsupportedPlugin("kubernetes.io/iscsi"),
            (.., Some(_)) => Cause::UnsupportedPlugin("kubernetes.io/fc"),
            _ => Cause::Unsupported(format!("the type of PersistentVolume \"{volume_name}\"")),
        })
    }
}

/// An ephemeral volume's claim must be the pod's own: a claim of the same name that someone else made is not used.
fn is_owned_by(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref())
}

/// `Ok(None)` where an optional object does not exist.
fn optional_object<T>(found: Result<T, SourceError>, optional: bool) -> Result<Option<T>, SourceError> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(error) if optional && error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file only the pod's user may read, where the pod says who that is: fsGroup adds the group afterwards.
fn private(pod: &Pod, data: Vec<u8>, mode: u32) -> File {
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|context| context.fs_group);
    let owner = fs_user(pod);
    let mode = if owner.is_some() || group.is_some() { 0o600 } else { mode };
    File { data, mode, owner }
}

/// The one user that all containers run as (`volumeutil.FsUserFrom`); `None` where they differ or one does not say.
fn fs_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let pod_user = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let contexts = plain.map(|c| c.security_context.as_ref());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| c.security_context.as_ref());
    let mut users = contexts.chain(ephemeral).map(|context| context.and_then(|c| c.run_as_user).or(pod_user));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}
