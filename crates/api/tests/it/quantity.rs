//! Quantities: the texts that are read, their numbers, and the texts that are written.

use api::quantity::{Format, Quantity, QuantityError};
use proptest::prelude::*;

fn parse(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn canonical_form() {
    let cases = [
        ("0", "0"),
        ("0Mi", "0"),
        ("-0", "0"),
        ("-", "0"),
        ("1", "1"),
        ("-1", "-1"),
        ("100m", "100m"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Ki", "1Mi"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1000000", "1M"),
        ("123456789n", "123456789n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("12e6", "12e6"),
        ("12000e3", "12e6"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("100e-3", "100e-3"),
        ("0.001Ki", "1024m"),
        ("1.5Ki", "1536"),
        ("187.5Ki", "192k"),
        ("0.0001Ki", "102400u"),
        ("8Ei", "9223372036854775807"),
        ("100Ei", "9223372036854775807"),
        ("-100Ei", "-9223372036854775807"),
        ("1Ei", "1Ei"),
        ("512", "512"),
        ("1023Mi", "1023Mi"),
        ("1048576Ki", "1Gi"),
        ("0.000000001Ki", "1024n"),
        ("1.1Ki", "1126400m"),
        ("1000E", "1000E"),
        ("001", "1"),
        ("1e21", "1e21"),
        ("3.5k", "3500"),
        ("1u", "1u"),
        ("1024m", "1024m"),
        ("9223372036854775808", "9223372036854775808"),
    ];
    for (text, expect) in cases {
        assert_eq!(parse(text).to_string(), expect, "{text}");
    }
}

#[test]
fn texts_kept_as_written() {
    let cases = [
        ("1.500", "1.500"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1E3", "1E3"),
        ("+5", "+5"),
        ("12Ki", "12Ki"),
        ("8Ki", "8Ki"),
        ("1024Ki", "1Mi"),
        ("0.5", "500m"),
        ("007", "007"),
        ("0.0", "0"),
        ("100000m", "100"),
        ("0Gi", "0"),
        ("16Gi", "16Gi"),
    ];
    for (text, expect) in cases {
        assert_eq!(Quantity::canonical(text).as_deref(), Ok(expect), "{text}");
    }
}

#[test]
fn refused_texts() {
    use QuantityError::{Format, Numeric, Suffix};
    let cases = [
        ("", Format),
        ("1.1.M", Format),
        ("1+1.0M", Format),
        ("0.1mi", Suffix),
        ("0.1am", Format),
        ("aoeu", Format),
        (".5i", Suffix),
        ("1i", Suffix),
        ("-3.01i", Suffix),
        ("-3.01e-", Suffix),
        (" 1", Format),
        ("1 ", Format),
        ("1KiKi", Suffix),
        ("1e", Suffix),
        ("1e5.3", Format),
        ("1e40", Numeric),
        ("ä", Format),
    ];
    for (text, expect) in cases {
        assert_eq!(Quantity::parse(text).err(), Some(expect), "{text}");
    }
}

#[test]
fn numbers() {
    // text, value, milli value, as_i64
    let cases = [
        ("0", 0, 0, Some(0)),
        ("1", 1, 1000, Some(1)),
        ("100m", 1, 100, None),
        ("1.1", 2, 1100, None),
        ("-1.1", -2, -1100, None),
        ("1n", 1, 1, None),
        ("2Ki", 2048, 2_048_000, Some(2048)),
        ("1G", 1_000_000_000, 1_000_000_000_000, Some(1_000_000_000)),
        ("8Ei", i64::MAX, i64::MAX, Some(i64::MAX)),
        ("100E", i64::MAX, i64::MAX, None),
    ];
    for (text, value, milli, whole) in cases {
        let quantity = parse(text);
        assert_eq!((quantity.value(), quantity.milli_value(), quantity.as_i64()), (value, milli, whole), "{text}");
    }
}

#[test]
fn arithmetic_keeps_the_format_of_the_left_side_unless_it_is_zero() {
    let cases = [
        ("1Gi", "1Gi", "2Gi", "0"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("1Gi", "0", "1Gi", "1Gi"),
        ("1", "500m", "1500m", "500m"),
        ("1Gi", "1", "1073741825", "1073741823"),
        ("1k", "1Ki", "2024", "-24"),
        ("1e3", "1", "1001", "999"),
    ];
    for (a, b, sum, difference) in cases {
        assert_eq!((parse(a) + parse(b)).to_string(), sum, "{a} + {b}");
        assert_eq!((parse(a) - parse(b)).to_string(), difference, "{a} - {b}");
    }
    assert_eq!(["100m", "900m", "1"].map(parse).into_iter().sum::<Quantity>().to_string(), "2");
    assert_eq!(Quantity::new(1 << 30, Format::BinarySI).times(3).to_string(), "3Gi");
    assert_eq!(Quantity::milli(250, Format::DecimalSI).to_string(), "250m");
    assert_eq!(parse("1.0001").round_up_to_milli().to_string(), "1001m");
}

#[test]
fn order_is_by_number() {
    assert_eq!(parse("1Ki"), parse("1024"));
    assert!(parse("1k") < parse("1Ki") && parse("-1") < parse("1n") && parse("1Gi") > parse("1G"));
}

proptest! {
    #[test]
    fn format_then_parse_is_the_same_number(text in "[+-]?[0-9]{1,6}(\\.[0-9]{0,6})?(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9])") {
        let quantity = parse(&text);
        let canonical = quantity.to_string();
        prop_assert_eq!(parse(&canonical), quantity);
        prop_assert_eq!(parse(&canonical).to_string(), canonical);
    }

    #[test]
    fn sums_agree_with_integers(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
        let (x, y) = (Quantity::milli(a, Format::DecimalSI), Quantity::milli(b, Format::DecimalSI));
        prop_assert_eq!((x + y).milli_value(), a + b);
        prop_assert_eq!((x - y).milli_value(), a - b);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
    }

    #[test]
    fn no_text_panics(text in "[-+0-9.eEinumkKMGTP]{0,60}") {
        let _ = Quantity::parse(&text);
        let _ = Quantity::canonical(&text);
    }
}
