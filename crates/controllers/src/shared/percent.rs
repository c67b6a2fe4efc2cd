//! IntOrString against a total (apimachinery `intstr.GetScaledValueFromIntOrPercent`).

use client::apimachinery::pkg::util::intstr::IntOrString;

/// A number as it is, `N%` of `total` rounded up or down; a text that is no percentage is 0.
pub fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let product = percent * i64::from(total);
            let whole = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            whole.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_asked() {
        let cases =
            [("25%", 10, true, 3), ("25%", 10, false, 2), ("0%", 5, true, 0), ("100%", 7, false, 7), ("x", 7, true, 0)];
        for (text, total, up, expect) in cases {
            assert_eq!(scaled(Some(&IntOrString::String(text.into())), total, up), expect, "{text} of {total}");
        }
        assert_eq!(scaled(Some(&IntOrString::Int(4)), 10, true), 4);
    }
}
