//! Eviction thresholds as flags and KubeletConfiguration give them (upstream `pkg/kubelet/eviction/helpers.go:
//! ParseThresholdConfig`). Pure.

use std::{collections::BTreeMap, fmt};

use api::quantity::{Format, Quantity};
use jiff::SignedDuration;

use super::plan::Condition;

/// What of the node can run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    MemoryAvailable,
    NodeFsAvailable,
    NodeFsInodesFree,
    ImageFsAvailable,
    ImageFsInodesFree,
    PidAvailable,
}

impl Signal {
    pub const ALL: [Signal; 6] = [
        Signal::MemoryAvailable,
        Signal::NodeFsAvailable,
        Signal::NodeFsInodesFree,
        Signal::ImageFsAvailable,
        Signal::ImageFsInodesFree,
        Signal::PidAvailable,
    ];

    /// As configurations spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory.available",
            Signal::NodeFsAvailable => "nodefs.available",
            Signal::NodeFsInodesFree => "nodefs.inodesFree",
            Signal::ImageFsAvailable => "imagefs.available",
            Signal::ImageFsInodesFree => "imagefs.inodesFree",
            Signal::PidAvailable => "pid.available",
        }
    }

    /// The resource that is reclaimed, by its name in messages.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory",
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => "ephemeral-storage",
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => "inodes",
            Signal::PidAvailable => "pids",
        }
    }

    pub fn condition(self) -> Condition {
        match self {
            Signal::MemoryAvailable => Condition::MemoryPressure,
            Signal::PidAvailable => Condition::PidPressure,
            _ => Condition::DiskPressure,
        }
    }

    pub fn is_disk(self) -> bool {
        self.condition() == Condition::DiskPressure
    }
}

/// An amount, or a part of the capacity (0.1 is 10%).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Quantity(Quantity),
    Part(f32),
}

impl Value {
    /// As an amount of what there is in all.
    pub fn of(self, capacity: Quantity) -> Quantity {
        match self {
            Value::Quantity(quantity) => quantity,
            // Upstream's arithmetic: a single's value in doubles, cut to an integer.
            Value::Part(part) => Quantity::new((capacity.value() as f64 * f64::from(part)) as i64, Format::BinarySI),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub value: Value,
    /// Zero: a hard threshold, which evicts at once.
    pub grace: SignedDuration,
    /// What is to be gained beyond the threshold before it counts as no longer met.
    pub min_reclaim: Option<Value>,
}

impl Threshold {
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// Eviction as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionConfig {
    pub thresholds: Vec<Threshold>,
    /// How long a pressure condition stays after it was last seen (evictionPressureTransitionPeriod).
    pub pressure_transition_period: SignedDuration,
    /// The most a pod evicted by a soft threshold gets (evictionMaxPodGracePeriod), in seconds.
    pub max_pod_grace_seconds: i64,
}

impl Default for EvictionConfig {
    fn default() -> EvictionConfig {
        let hard = [
            (Signal::MemoryAvailable, Value::Quantity(Quantity::new(100 << 20, Format::BinarySI))),
            (Signal::NodeFsAvailable, Value::Part(0.1)),
            (Signal::NodeFsInodesFree, Value::Part(0.05)),
            (Signal::ImageFsAvailable, Value::Part(0.15)),
            (Signal::ImageFsInodesFree, Value::Part(0.05)),
        ];
        let threshold = |(signal, value)| Threshold { signal, value, grace: SignedDuration::ZERO, min_reclaim: None };
        EvictionConfig {
            thresholds: hard.into_iter().map(threshold).collect(),
            pressure_transition_period: SignedDuration::from_mins(5),
            max_pod_grace_seconds: 0,
        }
    }
}

/// The four maps of a configuration (`evictionHard` and so on), signal to value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    /// `None`: the defaults. An empty map switches hard eviction off.
    pub hard: Option<BTreeMap<String, String>>,
    pub soft: BTreeMap<String, String>,
    pub soft_grace_period: BTreeMap<String, String>,
    pub minimum_reclaim: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvictionConfigError {
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    #[error("eviction threshold {signal} must be positive: {value}")]
    NotPositive { signal: String, value: String },
    #[error("eviction percentage threshold {signal} must be >= 0% and <= 100%: {value}")]
    Percentage { signal: String, value: String },
    #[error("{signal}: {value:?} is no quantity and no percentage")]
    Value { signal: String, value: String },
    #[error("invalid eviction grace period specified: {0}, must be a positive value")]
    GracePeriod(String),
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGracePeriod(String),
    #[error("malformed pair, expect string{separator}string: {text:?}")]
    Pair { separator: char, text: String },
}

/// The value of a flag such as `--eviction-hard=a<1,b<2` (separator `<`) or `--eviction-soft-grace-period=a=1m` (`=`).
pub fn pairs(text: &str, separator: char) -> Result<BTreeMap<String, String>, EvictionConfigError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once(separator) {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(EvictionConfigError::Pair { separator, text: part.to_owned() }),
        })
        .collect()
}

impl EvictionConfig {
    /// With upstream's defaults for what the statements leave out.
    pub fn parse(statements: &Statements) -> Result<EvictionConfig, EvictionConfigError> {
        let mut config = EvictionConfig::default();
        if let Some(hard) = &statements.hard {
            config.thresholds = thresholds(hard)?;
        }
        for mut threshold in thresholds(&statements.soft)? {
            let name = threshold.signal.as_str();
            let period = statements.soft_grace_period.get(name);
            let period = period.ok_or_else(|| EvictionConfigError::NoGracePeriod(name.to_owned()))?;
            threshold.grace = grace(period)?;
            config.thresholds.push(threshold);
        }
        for (name, text) in &statements.minimum_reclaim {
            let Some(signal) = signal(name)? else { continue };
            let value = value(name, text)?;
            let of_signal = config.thresholds.iter_mut().filter(|threshold| threshold.signal == signal);
            of_signal.for_each(|threshold| threshold.min_reclaim = Some(value));
        }
        Ok(config)
    }

    /// What hard thresholds keep from pods: the node's allocatable resources are less by it
    /// (`node_container_manager_linux.go: hardEvictionReservation`).
    pub fn reserved(&self, capacity: impl Fn(&str) -> Option<Quantity>) -> BTreeMap<String, Quantity> {
        let resource = |signal| match signal {
            Signal::MemoryAvailable => Some("memory"),
            Signal::NodeFsAvailable => Some("ephemeral-storage"),
            _ => None,
        };
        let hard = self.thresholds.iter().filter(|threshold| threshold.is_hard());
        hard.filter_map(|threshold| {
            let name = resource(threshold.signal)?;
            Some((name.to_owned(), threshold.value.of(capacity(name)?)))
        })
        .collect()
    }
}

/// `Ok(None)`: known upstream, but always the same as another here (images and containers share a file system).
fn signal(name: &str) -> Result<Option<Signal>, EvictionConfigError> {
    if ["containerfs.available", "containerfs.inodesFree", "allocatableMemory.available"].contains(&name) {
        tracing::warn!(signal = name, "eviction signal is ignored");
        return Ok(None);
    }
    let found = Signal::ALL.into_iter().find(|signal| signal.as_str() == name);
    found.map(Some).ok_or_else(|| EvictionConfigError::Signal(name.to_owned()))
}

fn thresholds(statements: &BTreeMap<String, String>) -> Result<Vec<Threshold>, EvictionConfigError> {
    let mut found = Vec::new();
    for (name, text) in statements {
        let Some(signal) = signal(name)? else { continue };
        // Switched off.
        if text == "0%" || text == "100%" {
            continue;
        }
        let value = value(name, text)?;
        if matches!(value, Value::Quantity(quantity) if !quantity.is_positive()) {
            return Err(EvictionConfigError::NotPositive { signal: name.clone(), value: text.clone() });
        }
        found.push(Threshold { signal, value, grace: SignedDuration::ZERO, min_reclaim: None });
    }
    Ok(found)
}

fn value(name: &str, text: &str) -> Result<Value, EvictionConfigError> {
    let bad = || EvictionConfigError::Value { signal: name.to_owned(), value: text.to_owned() };
    let Some(percent) = text.strip_suffix('%') else {
        return Quantity::parse(text).map(Value::Quantity).map_err(|_| bad());
    };
    let percent: f32 = percent.parse().map_err(|_| bad())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(EvictionConfigError::Percentage { signal: name.to_owned(), value: text.to_owned() });
    }
    Ok(Value::Part(percent / 100.0))
}

fn grace(text: &str) -> Result<SignedDuration, EvictionConfigError> {
    let bad = || EvictionConfigError::GracePeriod(text.to_owned());
    let period: SignedDuration = text.parse().map_err(|_| bad())?;
    if period.is_negative() { Err(bad()) } else { Ok(period) }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(hard: Option<&str>, soft: &str, grace: &str, reclaim: &str) -> Statements {
        Statements {
            hard: hard.map(|text| pairs(text, '<').expect("pairs")),
            soft: pairs(soft, '<').expect("pairs"),
            soft_grace_period: pairs(grace, '=').expect("pairs"),
            minimum_reclaim: pairs(reclaim, '=').expect("pairs"),
        }
    }

    #[test]
    fn reads_what_upstream_reads() {
        assert_eq!(EvictionConfig::parse(&Statements::default()), Ok(EvictionConfig::default()));
        let text = statements(
            Some("memory.available<1Gi,nodefs.available<0%,pid.available<100"),
            "nodefs.available<20%",
            "nodefs.available=1m30s",
            "nodefs.available=2%,memory.available=1Mi",
        );
        let config = EvictionConfig::parse(&text).expect("a configuration");
        let quantity = |text: &str| Value::Quantity(Quantity::parse(text).expect("quantity"));
        let expect = [
            (Signal::MemoryAvailable, quantity("1Gi"), 0, Some(quantity("1Mi"))),
            (Signal::PidAvailable, quantity("100"), 0, None),
            (Signal::NodeFsAvailable, Value::Part(0.2), 90, Some(Value::Part(0.02))),
        ];
        let expect = expect.map(|(signal, value, seconds, min_reclaim)| Threshold {
            signal,
            value,
            grace: SignedDuration::from_secs(seconds),
            min_reclaim,
        });
        assert_eq!(config.thresholds, expect);
        let reserved = config.reserved(|name| (name == "memory").then(|| Quantity::new(4 << 30, Format::BinarySI)));
        assert_eq!(reserved.into_iter().map(|(name, q)| format!("{name} {q}")).collect::<Vec<_>>(), ["memory 1Gi"]);
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for (text, expect) in [
            (statements(Some("memory<1"), "", "", ""), "unsupported eviction signal memory"),
            (statements(Some("memory.available<0"), "", "", ""), "must be positive"),
            (statements(Some("memory.available<101%"), "", "", ""), "<= 100%"),
            (statements(Some("memory.available<x"), "", "", ""), "no quantity"),
            (statements(None, "memory.available<1", "", ""), "grace period must be specified"),
            (statements(None, "memory.available<1", "memory.available=-1s", ""), "must be a positive value"),
        ] {
            let error = EvictionConfig::parse(&text).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
        assert!(pairs("memory.available", '<').is_err());
    }
}
