//! Resource quantities as exact numbers (upstream `k8s.io/apimachinery/pkg/api/resource`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

/// A quantity in billionths, the finest unit the API knows; rounding is always up, as upstream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    nanos: i128,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': {0:?}"
)]
pub struct InvalidQuantity(pub String);

impl Amount {
    pub const ZERO: Amount = Amount { nanos: 0 };

    pub fn from_units(units: i64) -> Amount {
        Amount {
            nanos: i128::from(units) * NANO,
        }
    }

    pub fn from_milli(milli: i64) -> Amount {
        Amount {
            nanos: i128::from(milli) * (NANO / 1000),
        }
    }

    /// Whole units, rounded up (`Quantity.Value`).
    pub fn value(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO))
    }

    /// Thousandths, rounded up (`Quantity.MilliValue`).
    pub fn milli_value(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO / 1000))
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    pub fn parse(text: &str) -> Result<Amount, InvalidQuantity> {
        parse(text).ok_or_else(|| InvalidQuantity(text.to_owned()))
    }
}

impl TryFrom<&Quantity> for Amount {
    type Error = InvalidQuantity;

    fn try_from(quantity: &Quantity) -> Result<Amount, InvalidQuantity> {
        Amount::parse(&quantity.0)
    }
}

/// The amount of a quantity the API server has validated; one that is not a number counts as nothing.
pub fn amount(quantity: &Quantity) -> Amount {
    Amount::parse(&quantity.0).unwrap_or_default()
}

fn ceil_div(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn parse(text: &str) -> Option<Amount> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (multiplier, exponent) = scale(suffix)?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mantissa: i128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    // value = mantissa * multiplier * 10^(exponent - fraction digits), kept in 10^-9.
    let power = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let product = mantissa.checked_mul(multiplier)?;
    let nanos = if power >= 0 {
        product.checked_mul(10_i128.checked_pow(u32::try_from(power).ok()?)?)?
    } else {
        match 10_i128.checked_pow(power.unsigned_abs()) {
            Some(by) => ceil_div(product, by),
            None => i128::from(product != 0),
        }
    };
    Some(Amount {
        nanos: if negative { -nanos } else { nanos },
    })
}

/// A suffix as (multiplier, decimal exponent).
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (
            1,
            suffix
                .strip_prefix(['e', 'E'])?
                .parse()
                .ok()
                .filter(|e: &i32| e.abs() <= 27)?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_upstream_parses() {
        for (text, value, milli) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1500m", 2, 1500),
            ("1.5", 2, 1500),
            (".5", 1, 500),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("64Mi", 67_108_864, 67_108_864_000),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("2E", 2_000_000_000_000_000_000, i64::MAX),
            ("-1", -1, -1000),
            ("1n", 1, 1),
            ("100k", 100_000, 100_000_000),
        ] {
            let amount = Amount::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                (amount.value(), amount.milli_value()),
                (value, milli),
                "{text}"
            );
        }
        for text in ["", "x", "1.2.3", "1Kib", "e3", "-", "1 Gi", "1e999"] {
            assert!(Amount::parse(text).is_err(), "{text:?} must not parse");
        }
    }
}
