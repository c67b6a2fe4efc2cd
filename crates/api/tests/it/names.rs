//! Names and times: what is taken, what is refused, and the texts of the refusals.

use api::{names, time};

#[test]
fn names_are_taken_or_refused() {
    type Check = fn(&str) -> names::Problems;
    let long = "a".repeat(64);
    let cases: [(Check, &[&str], &[&str]); 11] = [
        (names::dns1123_label, &["a", "0", "a-b", "a1"], &["", "A", "-a", "a-", "a.b", "a_b", &long]),
        (names::dns1123_subdomain, &["a", "a.b", "1.2", &long], &["", ".", "a..b", "a.", "A.b", "a_b"]),
        (names::dns1035_label, &["a", "a-1"], &["1a", "", "A", &long]),
        (names::wildcard_dns1123_subdomain, &["*.a.b"], &["*", "*.", "a.b", "*.*.a", "*a"]),
        (names::qualified_name, &["a", "A_b.c-d", "x.y/a"], &["", "a/", "/a", "a/b/c", "-a", "X/a", &long]),
        (names::label_value, &["", "a", "A.b_c"], &["-", "a b", "a/b", &long]),
        (names::path_segment_name, &["a:b", "A B", ""], &[".", "..", "a/b", "a%b"]),
        (names::port_name, &["http", "a-1"], &["", "1", "-a", "a--b", "Http", "abcdefghijklmnop"]),
        (names::env_var_name, &["A", "a.b", "-x", "_"], &["", "1a", "a b", "..", "..a", "."]),
        (names::config_map_key, &["a", "A.b", "_"], &["", "a b", "..", ".", "..x"]),
        (names::c_identifier, &["_a1"], &["", "1", "a-b"]),
    ];
    for (check, good, bad) in cases {
        for text in good {
            assert_eq!(check(text), names::Problems::new(), "{text}");
        }
        for text in bad {
            assert!(!check(text).is_empty(), "{text:?} was taken");
        }
    }
}

#[test]
fn refusals_have_upstreams_texts() {
    let text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    assert_eq!(names::dns1123_label("A"), [text]);
    assert_eq!(names::dns1123_label("a.b"), ["must not contain dots"]);
    assert_eq!(names::dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert_eq!(names::label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    let text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    assert_eq!(names::dns1123_subdomain("A"), [text]);
    assert_eq!(names::masked_prefix("web-"), "wea");
    let errors = names::annotations([("A.b/C", "x".repeat(300_000).as_str())], "metadata.annotations");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "metadata.annotations: Too long: may not be more than 262144 bytes");
}

#[test]
fn times() {
    let cases = [
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
        ("2024-01-01T00:00:00+02:00", "2023-12-31T22:00:00Z"),
        ("2024-01-01T00:00:00.999999999Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01T1:00:00Z", "2024-01-01T01:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ];
    for (text, expect) in cases {
        assert_eq!(time::parse(text).map(time::format).as_deref(), Ok(expect), "{text}");
    }
    let micro = time::parse_micro("2024-01-01T00:00:00.000120Z").unwrap();
    assert_eq!(time::format_micro(micro), "2024-01-01T00:00:00.000120Z");
    let layout = "2006-01-02T15:04:05Z07:00";
    let errors = [
        ("", format!("parsing time \"\" as \"{layout}\": cannot parse \"\" as \"2006\"")),
        ("2024-01-01", format!("parsing time \"2024-01-01\" as \"{layout}\": cannot parse \"\" as \"T\"")),
        ("2024-13-01T00:00:00Z", "parsing time \"2024-13-01T00:00:00Z\": month out of range".into()),
        ("2023-02-29T00:00:00Z", "parsing time \"2023-02-29T00:00:00Z\": day out of range".into()),
        (
            "2024-01-01T00:00:00",
            format!("parsing time \"2024-01-01T00:00:00\" as \"{layout}\": cannot parse \"\" as \"Z07:00\""),
        ),
        ("2024-01-01T00:00:00Zx", "parsing time \"2024-01-01T00:00:00Zx\": extra text: \"x\"".into()),
        (
            "2024-01-01T00:00:00+ä1:00",
            format!(
                "parsing time \"2024-01-01T00:00:00+ä1:00\" as \"{layout}\": cannot parse \"+ä1:00\" as \"Z07:00\""
            ),
        ),
    ];
    for (text, expect) in errors {
        assert_eq!(time::parse(text).expect_err(text).to_string(), expect);
    }
    assert!(time::parse_micro("2024-01-01T00:00:00Z").is_err());
}
