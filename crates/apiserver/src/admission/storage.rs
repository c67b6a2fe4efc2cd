//! Admission of volumes, claims and ingresses: their default classes, which claims may grow, and the finalizers that keep
//! storage while it is in use.

use api::{Status, Value, quantity::Quantity};
use async_trait::async_trait;

use super::{Operation, Plugin, Review, amounts};

/// The newest of the classes that one of `annotations` marks as default; of equally old ones the first by name.
fn default_class(review: &Review<'_>, storage: &str, annotations: &[&str]) -> Option<String> {
    let shelf = review.server.cache.shelf_at(storage).filter(|shelf| !shelf.is_empty())?;
    let snapshot = shelf.snapshot();
    let is_default =
        |class: &Value| annotations.iter().any(|name| class.str_at(&["metadata", "annotations", name]) == "true");
    let classes = snapshot.objects.values().map(|class| class.tree()).filter(is_default);
    // Timestamps of the API order as texts. The names run upwards, so the first of the newest must not be replaced.
    let newest = classes.reduce(|best, class| {
        let created = |class: &Value| class.str_at(&["metadata", "creationTimestamp"]).to_owned();
        if created(&class) > created(&best) { class } else { best }
    });
    newest.map(|class| class.str_at(&["metadata", "name"]).to_owned())
}

const BETA_CLASS: [&str; 3] = ["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"];

/// Upstream `plugin/pkg/admission/storage/storageclass/setdefault`.
pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        // An empty name is a choice, too: no class.
        if object.at(&BETA_CLASS).is_some() || object.at(&["spec", "storageClassName"]).is_some() {
            return Ok(());
        }
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        if let Some(name) = default_class(review, "storageclasses", &marks) {
            object.set(&["spec", "storageClassName"], name);
        }
        Ok(())
    }
}

/// Upstream `plugin/pkg/admission/network/defaultingressclass`.
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create || !review.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let old_way = ["metadata", "annotations", "kubernetes.io/ingress.class"];
        if object.at(&["spec", "ingressClassName"]).is_some() || object.at(&old_way).is_some() {
            return Ok(());
        }
        if let Some(name) = default_class(review, "ingressclasses", &["ingressclass.kubernetes.io/is-default-class"]) {
            object.set(&["spec", "ingressClassName"], name);
        }
        Ok(())
    }
}

/// Volumes and claims wait for their users before they go
/// (upstream `plugin/pkg/admission/storage/storageobjectinuseprotection`).
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if review.operation != Operation::Create {
            return Ok(());
        }
        let finalizer = match (&*review.resource.group, &*review.resource.plural, review.subresource) {
            ("", "persistentvolumes", "") => "kubernetes.io/pv-protection",
            ("", "persistentvolumeclaims", "") => "kubernetes.io/pvc-protection",
            ("storage.k8s.io", "volumeattributesclasses", "") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        let Some(metadata) = object.make_object(&["metadata"]) else { return Ok(()) };
        let finalizers = metadata.entry_or_insert_with("finalizers", || Value::Array(Vec::new()));
        let Some(finalizers) = finalizers.as_array_mut() else { return Ok(()) };
        if !finalizers.iter().any(|present| present.as_str() == Some(finalizer)) {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}

/// Claims grow once they are bound, where their class lets them
/// (upstream `plugin/pkg/admission/storage/persistentvolume/resize`).
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if review.operation != Operation::Update || !review.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(old) = review.old else { return Ok(()) };
        let size = |claim: &Value| {
            let asked = claim.at(&["spec", "resources", "requests", "storage"]);
            asked.and_then(amounts::quantity).unwrap_or(Quantity::ZERO)
        };
        if size(object) <= size(old) {
            return Ok(());
        }
        if old.str_at(&["status", "phase"]) != "Bound" {
            return Err(review.forbidden("Only bound persistent volume claims can be expanded"));
        }
        if !may_grow(review, object, old) {
            return Err(review.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}

fn may_grow(review: &Review<'_>, claim: &Value, old: &Value) -> bool {
    fn class(claim: &Value) -> &str {
        match claim.str_at(&BETA_CLASS) {
            "" => claim.str_at(&["spec", "storageClassName"]),
            class => class,
        }
    }
    let name = class(claim);
    if name.is_empty() || name != class(old) {
        return false;
    }
    let class = review.server.cache.shelf_at("storageclasses").and_then(|shelf| shelf.get(name));
    class.is_some_and(|class| class.tree().get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true))
}
