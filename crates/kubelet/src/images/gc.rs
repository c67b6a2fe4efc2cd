//! Which images to remove, and when (upstream `pkg/kubelet/images/image_gc_manager.go`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::{Container, Image};

/// Upstream's imageGCHighThresholdPercent, imageGCLowThresholdPercent, imageMinimumGCAge and imageMaximumGCAge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageGcPolicy {
    /// Disk usage from which on images are removed; 100 never removes any.
    pub high_threshold_percent: u8,
    /// Disk usage down to which they are removed.
    pub low_threshold_percent: u8,
    pub min_age: SignedDuration,
    /// Unused images older than this go whatever the disk says; zero: none do.
    pub max_age: SignedDuration,
}

impl Default for ImageGcPolicy {
    fn default() -> ImageGcPolicy {
        ImageGcPolicy {
            high_threshold_percent: 85,
            low_threshold_percent: 80,
            min_age: SignedDuration::from_mins(2),
            max_age: SignedDuration::ZERO,
        }
    }
}

/// What is known of an image over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub first_detected: Timestamp,
    pub last_used: Option<Timestamp>,
    pub size_bytes: u64,
    /// A container has it, the runtime pins it, or no registry could give it back.
    pub kept: bool,
}

/// All images of the node by id.
pub type Ledger = BTreeMap<String, ImageRecord>;

/// The file system that holds the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
}

/// What is to be gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// As much as the thresholds say.
    Thresholds(Disk),
    /// Everything that is unused: the node is short of disk.
    Everything,
}

/// Images to remove. Those of `space` are tried in their order until `bytes` are freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPlan {
    pub too_old: Vec<String>,
    pub space: Vec<(String, u64)>,
    pub bytes: u64,
    /// Of the image file system, before.
    pub usage_percent: u64,
}

/// Takes down what is there now. `kept_names`: beginnings of names whose images always stay.
pub fn observe(ledger: &mut Ledger, images: &[Image], containers: &[Container], kept_names: &[String], now: Timestamp) {
    let in_use: BTreeSet<&str> = containers
        .iter()
        .flat_map(|container| {
            let given = container.image.as_ref().map(|image| image.image.as_str());
            [Some(container.image_ref.as_str()), Some(container.image_id.as_str()), given]
        })
        .flatten()
        .filter(|name| !name.is_empty())
        .collect();
    ledger.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        let mut names = image.repo_tags.iter().chain(&image.repo_digests);
        let used = in_use.contains(image.id.as_str()) || names.clone().any(|name| in_use.contains(name.as_str()));
        let record = ledger.entry(image.id.clone()).or_insert(ImageRecord {
            first_detected: now,
            last_used: None,
            size_bytes: 0,
            kept: false,
        });
        record.size_bytes = image.size;
        record.kept = used || image.pinned || names.any(|name| is_kept(name, kept_names));
        if used {
            record.last_used = Some(now);
        }
    }
}

/// Named as one that stays, or a sandbox image: runtimes before CRI's `pinned` (containerd 1.6) do not say which that is.
fn is_kept(name: &str, kept_names: &[String]) -> bool {
    let repository = name.split('@').next().unwrap_or(name);
    let last = repository.rsplit('/').next().unwrap_or(repository);
    last.split(':').next() == Some("pause") || kept_names.iter().any(|kept| name.starts_with(kept.as_str()))
}

/// `since`: when this kubelet began to watch images; nothing is too old before a whole `max_age` has passed since.
pub fn plan(ledger: &Ledger, need: Need, policy: &ImageGcPolicy, since: Timestamp, now: Timestamp) -> GcPlan {
    let mut order: Vec<(&String, &ImageRecord)> = ledger.iter().filter(|(_, record)| !record.kept).collect();
    order.sort_by_key(|(_, record)| (record.last_used, record.first_detected));
    let mut plan = GcPlan::default();
    let age = |at: Timestamp| now.duration_since(at);
    if policy.max_age.is_positive() && age(since) > policy.max_age && need != Need::Everything {
        let (old, rest): (Vec<_>, Vec<_>) = order.into_iter().partition(|(_, record)| {
            // One that was never used is as old as it is known.
            age(record.last_used.unwrap_or(record.first_detected)) > policy.max_age
        });
        plan.too_old = old.into_iter().map(|(id, _)| id.clone()).collect();
        order = rest;
    }
    plan.bytes = match need {
        Need::Everything => u64::MAX,
        Need::Thresholds(disk) => {
            let capacity = u128::from(disk.capacity_bytes.max(1));
            let available = u128::from(disk.available_bytes.min(disk.capacity_bytes));
            let usage = 100 - available * 100 / capacity;
            plan.usage_percent = u64::try_from(usage).unwrap_or(100);
            if usage < u128::from(policy.high_threshold_percent) {
                return plan;
            }
            let target = capacity * u128::from(100 - policy.low_threshold_percent.min(100)) / 100;
            u64::try_from(target.saturating_sub(available)).unwrap_or(u64::MAX)
        }
    };
    let old_enough = order.into_iter().filter(|(_, record)| age(record.first_detected) >= policy.min_age);
    plan.space = old_enough.map(|(id, record)| (id.clone(), record.size_bytes)).collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_cri::v1::ImageSpec;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn image(id: &str, tag: &str, size: u64) -> Image {
        Image { id: id.into(), repo_tags: vec![tag.into()], size, ..Image::default() }
    }

    fn container(image: &str) -> Container {
        Container { image: Some(ImageSpec { image: image.into(), ..ImageSpec::default() }), ..Container::default() }
    }

    fn ledger() -> Ledger {
        let images = [
            image("pause", "registry.k8s.io/pause:3.9", 1),
            image("own", "localhost/argosy/argosy:1", 1),
            image("used-once", "example.com/once:1", 10),
            image("never-used", "example.com/never:1", 20),
            image("running", "example.com/running:1", 40),
        ];
        let kept = ["localhost/argosy/".to_owned()];
        let mut ledger = Ledger::new();
        observe(&mut ledger, &images, &[container("used-once"), container("running")], &kept, at(0));
        let mut images = images.to_vec();
        images.push(image("new", "example.com/new:1", 80));
        images.push(Image { pinned: true, ..image("pinned", "example.com/pinned:1", 1) });
        observe(&mut ledger, &images, &[container("example.com/running:1")], &kept, at(99));
        ledger
    }

    #[test]
    fn plans() {
        let policy = ImageGcPolicy::default();
        let aged = ImageGcPolicy { max_age: SignedDuration::from_mins(60), ..policy.clone() };
        let disk = |available| Need::Thresholds(Disk { capacity_bytes: 1000, available_bytes: available });
        // Never used goes before used long ago; what is in use, pinned, the sandbox's, our own or new stays.
        let candidates = ["never-used", "used-once"];
        for (name, need, policy, now, too_old, space, bytes) in [
            ("enough room", disk(160), &policy, 100, &[][..], &[][..], 0),
            ("at the high threshold", disk(150), &policy, 100, &[], &candidates[..], 50),
            ("full", disk(0), &policy, 100, &[], &candidates, 200),
            ("later the new one is old enough", disk(0), &policy, 101, &[], &["never-used", "new", "used-once"], 200),
            ("short of disk", Need::Everything, &policy, 100, &[], &candidates, u64::MAX),
            ("too old", disk(900), &aged, 100, &candidates, &[], 0),
            ("watched for too short a time", disk(900), &aged, 60, &[], &[], 0),
        ] {
            let plan = plan(&ledger(), need, policy, at(0), at(now));
            let names: Vec<&str> = plan.space.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(plan.too_old, too_old, "{name}");
            assert_eq!((names.as_slice(), plan.bytes), (space, bytes), "{name}");
        }
    }
}
