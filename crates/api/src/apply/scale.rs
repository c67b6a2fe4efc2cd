//! Between the entries of a workload and those of its scale: who owns the replicas (`managedfields/scalehandler.go`).

use super::{
    managed::{Managed, ManagedError},
    path::Path,
    set::Set,
};
use crate::value::Value;

const SCALE_VERSION: &str = "autoscaling/v1";
const REPLICAS_OF_SCALE: [&str; 2] = ["spec", "replicas"];

/// Translates for one object. Paths are those of the replicas in the object, the same in all versions.
pub struct ScaleHandler<'a> {
    /// `metadata.managedFields` of the object.
    pub parent: Option<&'a Value>,
    /// The version through which the scale is written, as `apps/v1`.
    pub api_version: &'a str,
    pub replicas: &'a [&'a str],
    /// Whether a version is still served; entries of others are dropped.
    pub knows: &'a dyn Fn(&str) -> bool,
}

impl ScaleHandler<'_> {
    fn stored(&self) -> Result<Managed, ManagedError> {
        let mut managed = Managed::stored(self.parent.cloned().unwrap_or_default())?;
        managed.entries.retain(|entry| (self.knows)(&entry.api_version));
        Ok(managed)
    }

    /// The entries that own the replicas, as the scale's.
    pub fn to_subresource(&self) -> Result<Vec<Value>, ManagedError> {
        let path = Path::of(self.replicas);
        let mut managed = Managed::default();
        for mut entry in self.stored()?.entries {
            if entry.set()?.has(&path) {
                entry.api_version = SCALE_VERSION.into();
                entry.put(Set::from_iter([Path::of(&REPLICAS_OF_SCALE)]));
                managed.entries.push(entry);
            }
        }
        Ok(managed.into_list())
    }

    /// The object's entries after the scale was written: who lost the replicas there loses them here.
    pub fn to_parent(&self, scale: Option<&Value>) -> Result<Vec<Value>, ManagedError> {
        let path = Path::of(self.replicas);
        let mut scale = Managed::given(scale.cloned().unwrap_or_default())?;
        let mut managed = Managed::default();
        for mut entry in self.stored()?.entries {
            let set = entry.set()?;
            if set.has(&path) {
                // An applier is the same in any version; an updater was translated to the scale's.
                let mine = scale.entries.iter().position(|other| {
                    other.manager == entry.manager
                        && other.operation == entry.operation
                        && other.subresource == entry.subresource
                });
                match mine {
                    Some(at) => {
                        scale.entries.remove(at);
                    }
                    None => entry.put(set.difference(&Set::from_iter([path.clone()]))),
                }
            }
            managed.entries.push(entry);
        }
        for mut entry in scale.entries {
            if !entry.set()?.has(&Path::of(&REPLICAS_OF_SCALE)) {
                continue;
            }
            entry.api_version = self.api_version.into();
            let mut set = Set::from_iter([path.clone()]);
            // Upstream does not note when someone took the replicas who owned nothing before.
            entry.time = None;
            if let Some(at) = managed.position(&entry) {
                let same = managed.entries.remove(at);
                set = set.union(&same.set()?);
                entry.time = same.time;
            }
            entry.put(set);
            managed.entries.push(entry);
        }
        managed.drop_empty();
        Ok(managed.into_list())
    }
}
