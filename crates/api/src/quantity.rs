//! `resource.Quantity`: an exact fixed-point number with a unit suffix (apimachinery `pkg/api/resource/quantity.go`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// Largest magnitude of a quantity written with a binary suffix; greater ones are capped, as upstream caps them.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;

/// Digits that upstream's fast path takes for a decimal number; it decides which texts are kept as they were written.
const FAST_DIGITS: usize = 18;

/// Digits of a binary number's fraction that are looked at; what lies behind them rounds up.
const FRACTION_DIGITS: usize = 18;

/// How a quantity is written: the kind of suffix that its text had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12M` is 12 * 10^6.
    #[default]
    DecimalSI,
    /// `12Mi` is 12 * 2^20.
    BinarySI,
    /// `12e6`.
    DecimalExponent,
}

/// An exact number of nano units. Equality and order look at the number alone, not at the format.
///
/// Magnitudes reach 1.7 * 10^29 (upstream has no bound); parsing more is an error, sums saturate.
#[derive(Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity, with upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A quantity's text, cut into its parts; `whole` has no leading zeros but at least one digit.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// What a suffix stands for: a power of ten or of two.
#[derive(Clone, Copy)]
enum Unit {
    Ten(i32, Format),
    Two(u32),
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSI };

    /// Reads the text of a quantity. Parts below a nano round away from zero.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let parts = Parts::scan(text)?;
        parts.quantity(Unit::of(parts.suffix)?)
    }

    /// The text as upstream writes it back after reading it: unchanged where it counts as canonical already (which upstream
    /// takes loosely: `1.500` stays `1.500`), else in canonical form.
    pub fn canonical(text: &str) -> Result<Cow<'_, str>, QuantityError> {
        let parts = Parts::scan(text)?;
        let unit = Unit::of(parts.suffix)?;
        let quantity = parts.quantity(unit)?;
        if parts.is_kept(unit) { Ok(Cow::Borrowed(text)) } else { Ok(Cow::Owned(quantity.to_string())) }
    }

    pub const fn new(value: i64, format: Format) -> Quantity {
        Quantity { nanos: value as i128 * NANO, format }
    }

    /// `value` thousandths.
    pub const fn milli(value: i64, format: Format) -> Quantity {
        Quantity { nanos: value as i128 * 1_000_000, format }
    }

    pub fn format(self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero. Saturates.
    pub fn value(self) -> i64 {
        saturate(divide_up(self.nanos, NANO))
    }

    /// Thousandths, rounded away from zero. Saturates.
    pub fn milli_value(self) -> i64 {
        saturate(divide_up(self.nanos, 1_000_000))
    }

    /// The number, if it is whole and fits.
    pub fn as_i64(self) -> Option<i64> {
        (self.nanos % NANO == 0).then(|| i64::try_from(self.nanos / NANO).ok()).flatten()
    }

    /// The nearest float; only for display and ratios.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The number times `factor`, in this quantity's format. Saturates.
    pub fn times(self, factor: i64) -> Quantity {
        Quantity { nanos: self.nanos.saturating_mul(factor.into()), format: self.format }
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    /// Rounded away from zero to whole thousandths, as API validation and `RoundUp(resource.Milli)` want it.
    pub fn round_up_to_milli(self) -> Quantity {
        Quantity { nanos: divide_up(self.nanos, 1_000_000).saturating_mul(1_000_000), format: self.format }
    }

    fn combine(self, other: Quantity, nanos: i128) -> Quantity {
        Quantity { nanos, format: if self.is_zero() { other.format } else { self.format } }
    }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// Division that rounds away from zero. `by` is positive.
fn divide_up(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    match number % by {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

/// The text's leading part up to the first byte that `is_part` refuses, and what follows.
fn split(text: &str, is_part: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len()))
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

impl<'a> Parts<'a> {
    fn scan(text: &'a str) -> Result<Parts<'a>, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (_zeros, significant) = split(unsigned, |byte| byte == b'0');
        let (whole, rest) = split(significant, is_digit);
        // An absent number reads as zero, as it does upstream.
        let whole = if whole.is_empty() { "0" } else { whole };
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split(rest, is_digit),
            None => ("", rest),
        };
        let (_, exponent) = split(suffix, |byte| b"eEinumkKMGTP".contains(&byte));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if !exponent.bytes().all(is_digit) {
            return Err(QuantityError::Format);
        }
        Ok(Parts { negative, whole, fraction, suffix })
    }

    fn quantity(&self, unit: Unit) -> Result<Quantity, QuantityError> {
        let (nanos, format) = match unit {
            Unit::Ten(exponent, format) => (self.decimal_nanos(exponent)?, format),
            Unit::Two(exponent) => {
                let nanos = self.binary_nanos(exponent).min(BINARY_MAX);
                let below_one = nanos > 0 && nanos < NANO;
                (nanos, if below_one { Format::DecimalSI } else { Format::BinarySI })
            }
        };
        Ok(Quantity { nanos: if self.negative { -nanos } else { nanos }, format })
    }

    fn decimal_nanos(&self, exponent: i32) -> Result<i128, QuantityError> {
        let digits = [self.whole, self.fraction].concat();
        if digits.bytes().all(|digit| digit == b'0') {
            return Ok(0);
        }
        let places = i64::try_from(self.fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let shift = i64::from(exponent) + 9 - places;
        let dropped = usize::try_from(-shift).unwrap_or(0).min(digits.len());
        let (kept, lost) = digits.split_at(digits.len() - dropped);
        let kept: i128 = if kept.is_empty() { 0 } else { kept.parse().map_err(|_| QuantityError::Numeric)? };
        let rounded = kept + i128::from(lost.bytes().any(|digit| digit != b'0'));
        let scale = u32::try_from(shift).unwrap_or(0);
        10i128.checked_pow(scale).and_then(|power| rounded.checked_mul(power)).ok_or(QuantityError::Numeric)
    }

    fn binary_nanos(&self, exponent: u32) -> i128 {
        let Ok(whole) = self.whole.parse::<i64>() else { return BINARY_MAX };
        let whole = (i128::from(whole) << exponent).saturating_mul(NANO);
        let (head, tail) = self.fraction.split_at(self.fraction.len().min(FRACTION_DIGITS));
        let fraction: i128 = head.parse().unwrap_or(0) + i128::from(tail.bytes().any(|digit| digit != b'0'));
        let scaled = fraction << exponent;
        let places = head.len() as u32;
        let fraction = match places.checked_sub(9) {
            Some(excess) => divide_up(scaled, 10i128.pow(excess)),
            None => scaled.saturating_mul(10i128.pow(9 - places)),
        };
        whole.saturating_add(fraction)
    }

    /// Whether upstream keeps the text as it is (the shortcut for canonical numbers in `ParseQuantity`).
    fn is_kept(&self, unit: Unit) -> bool {
        let digits = self.whole.len() + self.fraction.len();
        match unit {
            Unit::Ten(exponent, _) => {
                let last = [self.whole, self.fraction].concat();
                let scale = i64::from(exponent) - self.fraction.len() as i64;
                digits <= FAST_DIGITS
                    && scale >= -9
                    && scale % 3 == 0
                    && !last.ends_with("000")
                    && !last.starts_with('0')
            }
            Unit::Two(exponent) => {
                let taken = digits + exponent as usize * 3 / 10 + 1;
                self.fraction.is_empty() && taken <= 15 && self.whole.parse().is_ok_and(|number: i64| number % 8 != 0)
            }
        }
    }
}

impl Unit {
    fn of(suffix: &str) -> Result<Unit, QuantityError> {
        let decimal = |exponent| Ok(Unit::Ten(exponent, Format::DecimalSI));
        match suffix {
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "" => decimal(0),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => Ok(Unit::Two(10)),
            "Mi" => Ok(Unit::Two(20)),
            "Gi" => Ok(Unit::Two(30)),
            "Ti" => Ok(Unit::Two(40)),
            "Pi" => Ok(Unit::Two(50)),
            "Ei" => Ok(Unit::Two(60)),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
                let exponent = exponent.parse().map_err(|_| QuantityError::Suffix)?;
                Ok(Unit::Ten(exponent, Format::DecimalExponent))
            }
        }
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the greatest suffix that loses nothing (`CanonicalizeBytes`). Numbers that no binary
    /// suffix fits are decimal ones, so that the form is its own canonical form; upstream writes 192000 for 187.5Ki, and 192k
    /// once that has been read again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySI && self.nanos % (1024 * NANO) == 0 {
            let (mut number, mut power) = (self.nanos / NANO, 0);
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut number, mut thousands) = (self.nanos, 0);
        let most = if self.format == Format::DecimalExponent { usize::MAX } else { 9 };
        while number % 1000 == 0 && thousands < most {
            number /= 1000;
            thousands += 1;
        }
        match self.format {
            Format::DecimalExponent if thousands == 3 => write!(f, "{number}"),
            Format::DecimalExponent => write!(f, "{number}e{}", thousands as i64 * 3 - 9),
            _ => write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][thousands]),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The sum in this quantity's format, or in the other's where this one is zero.
impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.combine(other, self.nanos.saturating_add(other.nanos))
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self.combine(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity { nanos: self.nanos.saturating_neg(), format: self.format }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(iter: I) -> Quantity {
        iter.fold(Quantity::ZERO, Add::add)
    }
}
