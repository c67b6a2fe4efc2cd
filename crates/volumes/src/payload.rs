//! What goes into the files of a configMap, secret, downwardAPI or projected volume. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    Cause,
    downward::{FieldError, resource_field_of_pod, volume_field},
};

/// The API's default of `defaultMode`.
pub const DEFAULT_MODE: u32 = 0o644;

/// Relative path to file.
pub type Payload = BTreeMap<String, File>;

#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The user that all the pod's containers run as, for files only it may read.
    pub owner: Option<u32>,
}

impl std::fmt::Debug for File {
    /// Never the content: it may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, mode {:04o}", self.data.len(), self.mode)
    }
}

impl File {
    pub fn new(data: impl Into<Vec<u8>>, mode: u32) -> File {
        File { data: data.into(), mode, owner: None }
    }
}

/// The mode bits of an API value.
pub fn mode(value: Option<i32>) -> Option<u32> {
    value.and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o7777)
}

/// `configmap.MakePayload`. `None` is an optional config map that does not exist.
pub fn config_map(
    object: Option<&ConfigMap>,
    items: &[KeyToPath],
    default_mode: u32,
    optional: bool,
) -> Result<Payload, Cause> {
    let data = object.and_then(|o| o.data.as_ref());
    let binary = object.and_then(|o| o.binary_data.as_ref());
    let mut all: BTreeMap<&str, &[u8]> = BTreeMap::new();
    all.extend(binary.into_iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice())));
    all.extend(data.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes())));
    select(&all, items, default_mode, optional, Cause::ConfigKey)
}

/// `secret.MakePayload`. `None` is an optional secret that does not exist.
pub fn secret(
    object: Option<&Secret>,
    items: &[KeyToPath],
    default_mode: u32,
    optional: bool,
) -> Result<Payload, Cause> {
    let data = object.and_then(|o| o.data.as_ref());
    let all = data.into_iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice())).collect();
    select(&all, items, default_mode, optional, Cause::SecretKey)
}

fn select(
    all: &BTreeMap<&str, &[u8]>,
    items: &[KeyToPath],
    default_mode: u32,
    optional: bool,
    missing: fn(String) -> Cause,
) -> Result<Payload, Cause> {
    if items.is_empty() {
        return Ok(all.iter().map(|(key, data)| ((*key).to_owned(), File::new(*data, default_mode))).collect());
    }
    let mut payload = Payload::new();
    for item in items {
        match all.get(item.key.as_str()) {
            Some(data) => {
                let mode = mode(item.mode).unwrap_or(default_mode);
                payload.insert(item.path.clone(), File::new(*data, mode));
            }
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(payload)
}

/// `downwardapi.CollectData`.
pub fn downward_api(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<Payload, Cause> {
    let (mut payload, mut errors) = (Payload::new(), Vec::new());
    for item in items {
        let value: Result<String, FieldError> = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => volume_field(pod, &field.field_path),
            (None, Some(resource)) => resource_field_of_pod(pod, resource, allocatable),
            (None, None) => Ok(String::new()),
        };
        match value {
            Ok(value) => {
                let mode = mode(item.mode).unwrap_or(default_mode);
                payload.insert(item.path.clone(), File::new(value, mode));
            }
            Err(error) => errors.push(error.into()),
        }
    }
    match Cause::join(errors) {
        Some(cause) => Err(cause),
        None => Ok(payload),
    }
}
