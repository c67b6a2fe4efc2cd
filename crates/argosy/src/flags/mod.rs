//! Values of flags in the forms that upstream's have, and what is said to a flag that only upstream knows.

mod upstream;

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use client::kinds::core::v1::Taint;

pub use upstream::check;

/// A duration as Go writes it: `1h30m`, `15s`, `100ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<GoDuration, String> {
        let bad = || format!("{text:?} is not a duration such as 30s or 1h30m");
        let mut total = 0.0;
        let mut rest = text;
        if text == "0" {
            return Ok(GoDuration(Duration::ZERO));
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let seconds = match &tail[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(bad()),
            };
            total += number.parse::<f64>().map_err(|_| bad())? * seconds;
            rest = &tail[unit..];
        }
        if text.is_empty() {
            return Err(bad());
        }
        Duration::try_from_secs_f64(total).map(GoDuration).map_err(|_| bad())
    }
}

/// `30000-32767`, or `30000+100`: that many from the first on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let bad = || format!("{text:?} is not a range of ports such as 30000-32767");
        let (from, to) = match (text.split_once('-'), text.split_once('+')) {
            (Some((from, to)), _) => (from.parse().ok(), to.parse().ok()),
            (None, Some((from, count))) => {
                let from: Option<u16> = from.parse().ok();
                (from, from.and_then(|from| from.checked_add(count.parse().ok()?)))
            }
            (None, None) => (text.parse().ok(), text.parse().ok()),
        };
        match (from, to) {
            (Some(from), Some(to)) if 0 < from && from <= to => Ok(PortRange(from..=to)),
            _ => Err(bad()),
        }
    }
}

/// `a=1,b=2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValues(pub BTreeMap<String, String>);

impl FromStr for KeyValues {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyValues, String> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        });
        pairs.collect::<Result<_, String>>().map(KeyValues)
    }
}

/// `KEY=VALUE:EFFECT`, the value may lack.
#[derive(Clone, Debug)]
pub struct TaintFlag(pub Taint);

impl FromStr for TaintFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<TaintFlag, String> {
        let bad = || format!("{text:?} is not KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute");
        let (pair, effect) = text.rsplit_once(':').ok_or_else(bad)?;
        let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value.to_owned())));
        if key.is_empty() || !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            return Err(bad());
        }
        Ok(TaintFlag(Taint { key: key.into(), value, effect: effect.into(), time_added: None }))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases = [("1h30m", Some(5_400_000)), ("100ms", Some(100)), ("1.5s", Some(1500)), ("0", Some(0))];
        for (text, ms) in cases {
            assert_eq!(text.parse::<GoDuration>().ok().map(|d| d.0), ms.map(Duration::from_millis), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d", "1 s", "1e400h"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn port_ranges_have_both_forms() {
        let parse = |text: &str| text.parse::<PortRange>().ok().map(|range| range.0);
        assert_eq!(parse("30000-32767"), Some(30_000..=32_767));
        assert_eq!(parse("30000+10"), Some(30_000..=30_010));
        assert_eq!(parse("80"), Some(80..=80));
        for text in ["", "0-1", "5-4", "1-70000", "65535+1", "a-b"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn taints_and_pairs_are_read_whole_or_not_at_all() {
        let taint = "a/b=c:NoExecute".parse::<TaintFlag>().expect("valid").0;
        assert_eq!(
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()),
            ("a/b", Some("c"), "NoExecute")
        );
        assert!("a".parse::<TaintFlag>().is_err());
        assert!("a:Never".parse::<TaintFlag>().is_err());
        assert_eq!("a=1,b=2".parse::<KeyValues>().expect("valid").0.len(), 2);
        assert!("a".parse::<KeyValues>().is_err());
    }
}
