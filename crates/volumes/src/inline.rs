//! What a volume's own source says: the medium of an emptyDir, and plugins this node does not have. Pure.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};

use crate::{Cause, collect::Medium, resources::amount};

pub(crate) fn medium(source: Option<&EmptyDirVolumeSource>) -> Result<Medium, Cause> {
    match source.and_then(|source| source.medium.as_deref()).unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let limit = source.and_then(|source| source.size_limit.as_ref()).map(|limit| amount(limit).value());
            Ok(Medium::Memory { size_limit: limit.and_then(|limit| u64::try_from(limit).ok()) })
        }
        huge if huge.starts_with("HugePages") => Err(Cause::Unsupported(format!("emptyDir medium \"{huge}\""))),
        other => Err(Cause::Medium(other.to_owned())),
    }
}

/// The plugin of a volume this node has none for.
pub(crate) fn unsupported(volume: &Volume) -> Option<&'static str> {
    let kinds = [
        (volume.csi.is_some(), "kubernetes.io/csi"),
        (volume.nfs.is_some(), "kubernetes.io/nfs"),
        (volume.iscsi.is_some(), "kubernetes.io/iscsi"),
        (volume.fc.is_some(), "kubernetes.io/fc"),
        (volume.git_repo.is_some(), "kubernetes.io/git-repo"),
        (volume.flex_volume.is_some(), "kubernetes.io/flexvolume"),
        (volume.cephfs.is_some(), "kubernetes.io/cephfs"),
        (volume.rbd.is_some(), "kubernetes.io/rbd"),
        (volume.glusterfs.is_some(), "kubernetes.io/glusterfs"),
        (volume.portworx_volume.is_some(), "kubernetes.io/portworx-volume"),
        (volume.aws_elastic_block_store.is_some(), "kubernetes.io/aws-ebs"),
        (volume.azure_disk.is_some(), "kubernetes.io/azure-disk"),
        (volume.azure_file.is_some(), "kubernetes.io/azure-file"),
        (volume.cinder.is_some(), "kubernetes.io/cinder"),
        (volume.gce_persistent_disk.is_some(), "kubernetes.io/gce-pd"),
        (volume.vsphere_volume.is_some(), "kubernetes.io/vsphere-volume"),
        (volume.flocker.is_some(), "kubernetes.io/flocker"),
        (volume.photon_persistent_disk.is_some(), "kubernetes.io/photon-pd"),
        (volume.quobyte.is_some(), "kubernetes.io/quobyte"),
        (volume.scale_io.is_some(), "kubernetes.io/scaleio"),
        (volume.storageos.is_some(), "kubernetes.io/storageos"),
    ];
    kinds.iter().find(|(present, _)| *present).map(|(_, plugin)| *plugin)
}
