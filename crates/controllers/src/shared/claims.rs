//! Claims of volumes.

use client::kinds::core::v1::PersistentVolumeClaim;

/// The VolumeAttributesClasses that a claim asks for, has, or is on its way to.
pub fn attributes_classes(claim: &PersistentVolumeClaim) -> Vec<String> {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let on_its_way = status.and_then(|status| status.modify_volume_status.as_ref());
    let names = [
        spec.and_then(|spec| spec.volume_attributes_class_name.as_ref()),
        status.and_then(|status| status.current_volume_attributes_class_name.as_ref()),
        on_its_way.and_then(|modified| modified.target_volume_attributes_class_name.as_ref()),
    ];
    names.into_iter().flatten().filter(|name| !name.is_empty()).cloned().collect()
}
