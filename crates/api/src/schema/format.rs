//! Formats of texts and numbers (kube-openapi `pkg/validation/strfmt`). Those that are not known are ignored.

use std::{net::IpAddr, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;

use crate::names;

const TEXT: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Upstream knows formats with and without their dashes.
fn normal(format: &str) -> String {
    format.replace('-', "")
}

/// Whether values of a type are checked against the format (apiextensions-apiserver `formats.go`).
pub fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        _ if format.is_empty() => false,
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => TEXT.contains(&&*normal(format)),
    }
}

macro_rules! regexes {
    ($($name:ident = $text:expr;)*) => {$(
        // The expressions are constants, and a test matches each.
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($text).ok());
    )*};
}

regexes! {
    UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    MAC = r"^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5,7}|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2,3})$";
    HOSTNAME = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    EMAIL = r#"^([^<>"]*<)?[^\s@<>"(),:;]+@[^\s@<>"(),:;]+>?$"#;
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    HEX_COLOR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$";
    CREDIT_CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";
    OBJECT_ID = r"^[0-9a-fA-F]{24}$";
    DURATION = r"^(([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|[-+]?[0-9]+(\.[0-9]+)? ?(ns|nano(second)?s?|us|µs|micro(second)?s?|ms|milli(second)?s?|s|sec(ond)?s?|m|min(ute)?s?|h|hr|hours?|d|days?|w|wk|weeks?)|0)$";
}

fn is_match(regex: &Option<Regex>, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

pub(super) fn matches(format: &str, text: &str) -> bool {
    let regex: &Option<Regex> = match &*normal(format) {
        "uuid" => &UUID,
        "uuid3" => &UUID3,
        "uuid4" => &UUID4,
        "uuid5" => &UUID5,
        "mac" => &MAC,
        "email" => &EMAIL,
        "ssn" => &SSN,
        "hexcolor" => &HEX_COLOR,
        "rgbcolor" => &RGB_COLOR,
        "bsonobjectid" => &OBJECT_ID,
        "duration" => &DURATION,
        "hostname" => {
            return text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && is_match(&HOSTNAME, text);
        }
        "creditcard" => return is_match(&CREDIT_CARD, &digits(text)) && luhn(&digits(text)),
        "isbn" => return isbn10(text) || isbn13(text),
        "isbn10" => return isbn10(text),
        "isbn13" => return isbn13(text),
        "ipv4" => return text.contains('.') && address(text).is_some(),
        "ipv6" => return text.contains(':') && address(text).is_some(),
        "cidr" => return cidr(text),
        "uri" => return uri(text),
        "byte" => return !text.is_empty() && STANDARD.decode(text).is_ok(),
        "date" => return text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => return text.contains('T') && text.parse::<jiff::Timestamp>().is_ok(),
        "k8sshortname" => return names::dns1123_label(text).is_empty(),
        "k8slongname" => return names::dns1123_subdomain(text).is_empty(),
        _ => return true,
    };
    is_match(regex, text)
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn luhn(digits: &str) -> bool {
    let sum: u32 =
        digits.chars().rev().filter_map(|digit| digit.to_digit(10)).enumerate().fold(0, |sum, (index, digit)| {
            let doubled = if index % 2 == 1 { digit * 2 } else { digit };
            sum + doubled / 10 + doubled % 10
        });
    sum.is_multiple_of(10)
}

fn isbn10(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let is_shaped = text.len() == 10 && text[..9].bytes().all(|byte| byte.is_ascii_digit());
    let value = |c: char| if c == 'X' { Some(10) } else { c.to_digit(10) };
    is_shaped
        && text
            .chars()
            .zip(1..)
            .map(|(c, place)| value(c).map(|digit| digit * place))
            .sum::<Option<u32>>()
            .is_some_and(|sum| sum % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let sum = text
        .chars()
        .zip([1, 3].into_iter().cycle())
        .map(|(c, factor)| c.to_digit(10).map(|digit| digit * factor))
        .sum::<Option<u32>>();
    text.len() == 13 && sum.is_some_and(|sum| sum % 10 == 0)
}

/// Leading zeros in the numbers of an IPv4 address are tolerated, as upstream does.
fn address(text: &str) -> Option<IpAddr> {
    let plain = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        part => part.to_owned(),
    };
    let text =
        if text.contains(':') { text.to_owned() } else { text.split('.').map(plain).collect::<Vec<_>>().join(".") };
    text.parse().ok()
}

fn cidr(text: &str) -> bool {
    let Some((host, bits)) = text.split_once('/') else { return false };
    let max = if host.contains(':') { 128 } else { 32 };
    address(host).is_some()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

/// A request URI: absolute, or a path from the root.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    match text.split_once(':') {
        _ if text.starts_with('/') => true,
        Some((scheme, rest)) => {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
                && !rest.is_empty()
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_right_from_wrong() {
        for (format, right, wrong) in [
            ("uuid", "01234567-89AB-cdef-0123-456789abcdef", "x"),
            ("uuid3", "01234567-89ab-3def-0123-456789abcdef", "01234567-89ab-4def-0123-456789abcdef"),
            ("uuid4", "01234567-89ab-4def-8123-456789abcdef", "01234567-89ab-4def-0123-456789abcdef"),
            ("uuid5", "01234567-89ab-5def-8123-456789abcdef", "01234567-89ab-4def-8123-456789abcdef"),
            ("mac", "01:23:45:67:89:ab", "01:23:45"),
            ("email", "a@example.com", "a.example.com"),
            ("hostname", "a.example.com", "a..b"),
            ("ssn", "123-45-6789", "12-345-6789"),
            ("hexcolor", "#ff00aa", "#ff00a"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("bsonobjectid", "0123456789abcdef01234567", "0123"),
            ("duration", "22ns", "22 parsecs"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("ipv4", "010.0.0.1", "10.0.0.256"),
            ("ipv6", "fe80::1", "fe80:::1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("uri", "https://example.com/a?b", "example"),
            ("byte", "aGk=", "aGk"),
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-02-28T01:02:03Z", "2026-02-28"),
            ("k8s-short-name", "a-b", "A.b"),
            ("k8s-long-name", "a.b", "A.b"),
        ] {
            assert!(is_known("string", format), "{format}");
            assert!(matches(format, right), "{format} {right}");
            assert!(!matches(format, wrong), "{format} {wrong}");
        }
        assert!(!is_known("string", "crontab") && !is_known("integer", "date") && is_known("integer", "int32"));
    }
}
