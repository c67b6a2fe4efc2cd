//! When the kubelet tidies up: eviction, log rotation and image garbage collection, as flags and as fields of the
//! configuration file. A flag comes before its field.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use jiff::SignedDuration;
use kubelet::{
    KubeletConfig,
    eviction::config::{EvictionConfig, Statements, pairs},
};
use serde::Deserialize;

use crate::flags::GoDuration;

/// What `argosy up` evicts at: a disk that is nine tenths full is ordinary on the machines it is for, as k3s sees it too.
pub const ONE_MACHINE_EVICTION_HARD: &str =
    "memory.available<100Mi,nodefs.available<5%,imagefs.available<5%,nodefs.inodesFree<5%,imagefs.inodesFree<5%";

#[derive(Args, Clone, Debug, Default)]
pub struct LimitFlags {
    /// What evicts pods at once: memory.available<100Mi,nodefs.available<10%
    #[arg(long, value_name = "SIGNAL<AMOUNT,...>")]
    eviction_hard: Option<String>,
    /// What evicts pods when it lasts
    #[arg(long, value_name = "SIGNAL<AMOUNT,...>")]
    eviction_soft: Option<String>,
    /// How long it may last: memory.available=1m30s
    #[arg(long, value_name = "SIGNAL=TIME,...")]
    eviction_soft_grace_period: Option<String>,
    /// What an eviction gains beyond the threshold: imagefs.available=2Gi
    #[arg(long, value_name = "SIGNAL=AMOUNT,...")]
    eviction_minimum_reclaim: Option<String>,
    /// How long a pressure condition stays after it was last seen [default: 5m0s]
    #[arg(long, value_name = "TIME")]
    eviction_pressure_transition_period: Option<GoDuration>,
    /// The most seconds of grace that a soft eviction gives a pod
    #[arg(long, value_name = "SECONDS")]
    eviction_max_pod_grace_period: Option<i64>,
    /// Size at which a container's log is rotated [default: 10Mi]
    #[arg(long, value_name = "QUANTITY")]
    container_log_max_size: Option<String>,
    /// How many log files a container may have [default: 5]
    #[arg(long, value_name = "COUNT")]
    container_log_max_files: Option<usize>,
    /// Percentage of disk usage from which on unused images are removed [default: 85]
    #[arg(long, value_name = "PERCENT")]
    image_gc_high_threshold: Option<u8>,
    /// Percentage of disk usage down to which they are removed [default: 80]
    #[arg(long, value_name = "PERCENT")]
    image_gc_low_threshold: Option<u8>,
    /// Age before which no unused image is removed [default: 2m0s]
    #[arg(long, value_name = "TIME")]
    minimum_image_ttl_duration: Option<GoDuration>,
}

/// The same as fields of KubeletConfiguration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitFields {
    eviction_hard: Option<BTreeMap<String, String>>,
    eviction_soft: BTreeMap<String, String>,
    eviction_soft_grace_period: BTreeMap<String, String>,
    eviction_minimum_reclaim: BTreeMap<String, String>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<i64>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<usize>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    image_maximum_gc_age: Option<String>,
}

/// Hard thresholds as a flag spells them.
pub fn hard_eviction(text: &str) -> anyhow::Result<EvictionConfig> {
    let statements = Statements { hard: Some(pairs(text, '<')?), ..Statements::default() };
    EvictionConfig::parse(&statements).context("--eviction-hard")
}

impl LimitFlags {
    /// Writes what flags and file say into a configuration.
    pub fn apply(&self, file: &LimitFields, config: &mut KubeletConfig) -> anyhow::Result<()> {
        config.eviction = self.eviction(file)?;
        if let Some(size) = self.container_log_max_size.as_ref().or(file.container_log_max_size.as_ref()) {
            let bytes = api::quantity::Quantity::parse(size).ok().and_then(|size| u64::try_from(size.value()).ok());
            config.container_log_max_size = bytes
                .filter(|bytes| *bytes > 0)
                .with_context(|| format!("--container-log-max-size: {size:?} is no size such as 10Mi"))?;
        }
        let files = self.container_log_max_files.or(file.container_log_max_files);
        config.container_log_max_files = files.unwrap_or(config.container_log_max_files);
        if config.container_log_max_files < 2 {
            bail!("--container-log-max-files must be 2 or more");
        }
        let images = &mut config.image_gc;
        let percent = |flag: Option<u8>, field, default| flag.or(field).unwrap_or(default);
        let (high, low) = (images.high_threshold_percent, images.low_threshold_percent);
        images.high_threshold_percent = percent(self.image_gc_high_threshold, file.image_gc_high_threshold_percent, high);
        images.low_threshold_percent = percent(self.image_gc_low_threshold, file.image_gc_low_threshold_percent, low);
        if images.high_threshold_percent > 100 || images.low_threshold_percent >= images.high_threshold_percent {
            bail!("--image-gc-low-threshold must be less than --image-gc-high-threshold, and that at most 100");
        }
        let min_age = duration(self.minimum_image_ttl_duration, file.image_minimum_gc_age.as_deref())?;
        images.min_age = min_age.unwrap_or(images.min_age);
        images.max_age = duration(None, file.image_maximum_gc_age.as_deref())?.unwrap_or(images.max_age);
        Ok(())
    }

    fn eviction(&self, file: &LimitFields) -> anyhow::Result<EvictionConfig> {
        let read = |flag: &Option<String>, separator, field: &BTreeMap<String, String>| match flag {
            Some(text) => pairs(text, separator),
            None => Ok(field.clone()),
        };
        let hard = self.eviction_hard.as_ref().map(|text| pairs(text, '<')).transpose()?;
        let statements = Statements {
            hard: hard.or_else(|| file.eviction_hard.clone()),
            soft: read(&self.eviction_soft, '<', &file.eviction_soft)?,
            soft_grace_period: read(&self.eviction_soft_grace_period, '=', &file.eviction_soft_grace_period)?,
            minimum_reclaim: read(&self.eviction_minimum_reclaim, '=', &file.eviction_minimum_reclaim)?,
        };
        let mut eviction = EvictionConfig::parse(&statements).context("eviction")?;
        let period =
            duration(self.eviction_pressure_transition_period, file.eviction_pressure_transition_period.as_deref())?;
        eviction.pressure_transition_period = period.unwrap_or(eviction.pressure_transition_period);
        let grace = self.eviction_max_pod_grace_period.or(file.eviction_max_pod_grace_period);
        eviction.max_pod_grace_seconds = grace.unwrap_or(eviction.max_pod_grace_seconds);
        Ok(eviction)
    }
}

fn duration(flag: Option<GoDuration>, field: Option<&str>) -> anyhow::Result<Option<SignedDuration>> {
    let parsed: Option<Duration> = match (flag, field) {
        (Some(flag), _) => Some(flag.0),
        (None, Some(text)) => Some(text.parse::<GoDuration>().map_err(anyhow::Error::msg)?.0),
        (None, None) => None,
    };
    parsed.map(|time| SignedDuration::try_from(time).context("too long a time")).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_comes_before_its_field() {
        let file: LimitFields = serde_json::from_str(
            r#"{"evictionHard": {"memory.available": "1Gi"}, "containerLogMaxSize": "1Mi", "imageGCHighThresholdPercent": 90,
                "imageMinimumGCAge": "1m", "evictionPressureTransitionPeriod": "30s"}"#,
        )
        .expect("fields");
        let flags = LimitFlags { container_log_max_size: Some("2Ki".into()), ..LimitFlags::default() };
        let mut config = KubeletConfig::default();
        flags.apply(&file, &mut config).expect("valid");
        assert_eq!(config.container_log_max_size, 2048);
        assert_eq!(config.image_gc.high_threshold_percent, 90);
        assert_eq!(config.image_gc.min_age, SignedDuration::from_mins(1));
        assert_eq!(config.eviction.pressure_transition_period, SignedDuration::from_secs(30));
        assert_eq!(config.eviction.thresholds.len(), 1);
        let flags = LimitFlags { eviction_hard: Some(String::new()), ..LimitFlags::default() };
        flags.apply(&file, &mut config).expect("valid");
        assert!(config.eviction.thresholds.is_empty(), "an empty list switches eviction off");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |flags: LimitFlags, wanted: &str| {
            let error = flags.apply(&LimitFields::default(), &mut KubeletConfig::default()).expect_err(wanted);
            assert!(format!("{error:#}").contains(wanted), "{error:#}");
        };
        let none = LimitFlags::default;
        refused(LimitFlags { eviction_hard: Some("sun<1".into()), ..none() }, "unsupported eviction signal sun");
        refused(LimitFlags { eviction_hard: Some("memory.available".into()), ..none() }, "memory.available");
        refused(LimitFlags { container_log_max_size: Some("much".into()), ..none() }, "--container-log-max-size");
        refused(LimitFlags { container_log_max_files: Some(1), ..none() }, "--container-log-max-files");
        refused(LimitFlags { image_gc_low_threshold: Some(90), ..none() }, "--image-gc-low-threshold");
        assert_eq!(hard_eviction(ONE_MACHINE_EVICTION_HARD).expect("valid").thresholds.len(), 5);
    }
}
