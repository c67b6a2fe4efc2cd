//! A node in a temporary directory: a table as object source, a hand-set clock, and the kernel's mounts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use volumes::{
    KernelMounter, Layout, Mounter, ObjectSource, SourceError, Token, TokenQuery, VolumeConfig, VolumeManager,
};

#[derive(Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    pub volumes: BTreeMap<String, PersistentVolume>,
    /// `Some`: token requests fail with this.
    pub token_failure: Option<&'static str>,
}

pub struct Table {
    objects: Mutex<Objects>,
    now: AtomicI64,
    pub tokens_issued: AtomicU32,
}

impl Table {
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("objects")
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now.load(Ordering::SeqCst)).expect("time")
    }

    pub fn advance(&self, by: SignedDuration) {
        self.now.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

fn find<T: Clone>(map: &BTreeMap<String, T>, resource: &'static str, name: &str) -> Result<Arc<T>, SourceError> {
    let found = map.get(name).cloned().map(Arc::new);
    found.ok_or_else(|| SourceError::NotFound { resource, name: name.to_owned() })
}

#[async_trait]
impl ObjectSource for Table {
    async fn get_config_map(&self, _namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError> {
        find(&self.objects().config_maps, "configmap", name)
    }

    async fn get_secret(&self, _namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        find(&self.objects().secrets, "secret", name)
    }

    async fn service_account_token(&self, query: &TokenQuery) -> Result<Token, SourceError> {
        if let Some(failure) = self.objects().token_failure {
            return Err(SourceError::Other(failure.into()));
        }
        let number = self.tokens_issued.fetch_add(1, Ordering::SeqCst) + 1;
        let lifetime = SignedDuration::from_secs(query.expiration_seconds.unwrap_or(3600));
        let token = format!("{}/{} {:?} #{number}", query.service_account, query.pod_uid, query.audiences);
        Ok(Token { token, expires: self.now() + lifetime })
    }

    async fn get_persistent_volume_claim(
        &self,
        _namespace: &str,
        name: &str,
    ) -> Result<Arc<PersistentVolumeClaim>, SourceError> {
        find(&self.objects().claims, "persistentvolumeclaim", name)
    }

    async fn get_persistent_volume(&self, name: &str) -> Result<Arc<PersistentVolume>, SourceError> {
        find(&self.objects().volumes, "persistentvolume", name)
    }

    fn node_allocatable(&self) -> BTreeMap<String, Quantity> {
        [("cpu".into(), Quantity("2".into())), ("memory".into(), Quantity("1Gi".into()))].into()
    }
}

/// Unmounts what a failed test left before its directory goes.
pub struct Node {
    pub manager: VolumeManager,
    pub table: Arc<Table>,
    pub dir: TempDir,
}

impl Node {
    pub fn new() -> Node {
        Node::with(Arc::new(KernelMounter))
    }

    pub fn with(mounter: Arc<dyn Mounter>) -> Node {
        let dir = tempfile::tempdir().expect("temporary directory");
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().expect("time");
        let table = Arc::new(Table {
            objects: Mutex::default(),
            now: AtomicI64::new(start.as_millisecond()),
            tokens_issued: AtomicU32::new(0),
        });
        let clock = table.clone();
        let manager = VolumeManager::new(VolumeConfig {
            layout: Layout::new(dir.path().join("kubelet")),
            source: table.clone(),
            mounter,
            tmpfs_no_swap: KernelMounter::supports_no_swap(),
            now: Arc::new(move || clock.now()),
        });
        Node { manager, table, dir }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The directory of a volume of pod `u1`.
    pub fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.path(&format!("kubelet/pods/u1/volumes/kubernetes.io~{plugin}/{name}"))
    }

    pub fn mounts(&self) -> BTreeMap<PathBuf, String> {
        KernelMounter.mounts_below(self.dir.path()).expect("mounts")
    }

    pub fn config_map(&self, name: &str, data: Value) {
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).expect("config map");
        self.table.objects().config_maps.insert(name.into(), map);
    }

    pub fn secret(&self, name: &str, data: Value) {
        let secret = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).expect("secret");
        self.table.objects().secrets.insert(name.into(), secret);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for point in self.mounts().into_keys().rev() {
            let _ = KernelMounter.unmount(&point);
        }
    }
}

/// Pod `web` with UID `u1` and these volumes; `spec` is laid over its spec.
pub fn pod(volumes: Value, spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c"}], "volumes": volumes},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("pod")
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// `mode owner:group` of a path, its permission bits in octal; symlinks are followed.
pub fn access(path: impl AsRef<Path>) -> String {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path.as_ref()).expect("metadata");
    format!("{:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("name")).collect();
    names.sort();
    names
}
