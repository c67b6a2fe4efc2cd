//! Label and field selectors: texts, errors, matching.

use std::collections::BTreeMap;

use api::selector::{FieldSelector, LabelSelector};
use proptest::prelude::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_terminator(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[test]
fn label_selectors_match() {
    let cases = [
        ("", "a=b", true),
        ("x", "x=", true),
        ("x", "y=1", false),
        ("!x", "y=1", true),
        ("! x", "x=1", false),
        ("x=a", "x=a", true),
        ("x==a", "x=b", false),
        ("x!=a", "x=b", true),
        ("x!=a", "y=1", true),
        ("x!=a", "x=a", false),
        ("x in (a,b)", "x=b", true),
        ("x in (a,b)", "", false),
        ("x notin (a,b)", "", true),
        ("x notin (a,b)", "x=a", false),
        ("x in (,a)", "x=", true),
        ("x in ()", "x=", true),
        ("x=", "x=", true),
        ("x>5", "x=6", true),
        ("x>5", "x=5", false),
        ("x<5", "x=4", true),
        ("x<5", "x=abc", false),
        ("x=a,y=b", "x=a,y=b", true),
        ("x=a,y=b", "x=a", false),
        ("in in (in,notin)", "in=notin", true),
    ];
    for (selector, set, expect) in cases {
        let parsed = LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        assert_eq!(parsed.matches(&labels(set)), expect, "{selector} on {set}");
    }
}

#[test]
fn label_selectors_print_sorted() {
    let cases = [
        ("y, x", "x,y"),
        ("x in (c,a,b)", "x in (a,b,c)"),
        ("x in (a,,b)", "x in (,a,b)"),
        ("!y,a == b", "a==b,!y"),
        ("x notin ()", "x notin ()"),
        ("a>1", "a>1"),
        ("x in (a,a)", "x in (a)"),
        ("", ""),
    ];
    for (text, expect) in cases {
        assert_eq!(LabelSelector::parse(text).map(|selector| selector.to_string()).as_deref(), Ok(expect), "{text}");
    }
}

#[test]
fn label_selector_errors_have_upstreams_texts() {
    let cases = [
        ("x=a||y=b", r#"unable to parse requirement: values[0][x]: Invalid value: "a||y": a valid label must be"#),
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        (",x", "found ',', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("x in (a,", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("x in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("/x", "unable to parse requirement: <nil>: Invalid value: \"/x\": prefix part must be non-empty"),
        (
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("x=(", "unable to parse requirement: found '(', expected: identifier"),
    ];
    for (text, expect) in cases {
        let error = LabelSelector::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
}

#[test]
fn label_selector_objects() {
    let object = api::json::parse(
        br#"{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"b","operator":"In","values":["x","y"]},{"key":"c","operator":"DoesNotExist"}]}"#,
    )
    .unwrap();
    let selector = LabelSelector::from_value(Some(&object)).unwrap();
    assert_eq!(selector.to_string(), "a=1,b in (x,y),!c");
    assert!(selector.matches(&labels("a=1,b=y")) && !selector.matches(&labels("a=1,b=y,c=2")));
    assert_eq!((selector.exact("a"), selector.exact("b")), (Some("1"), None));
    assert!(!LabelSelector::from_value(None).unwrap().matches(&labels("")));
    assert!(LabelSelector::from_value(Some(&api::Value::object())).unwrap().is_everything());
    let unknown = [("a", "Near", [].as_slice())];
    let error = LabelSelector::from_parts(&BTreeMap::new(), unknown).unwrap_err();
    assert_eq!(error.to_string(), "\"Near\" is not a valid label selector operator");
}

#[test]
fn field_selectors() {
    let cases = [
        ("", "a=1", true),
        ("a=1", "a=1", true),
        ("a==1", "a=1", true),
        ("a!=1", "a=1", false),
        ("a!=1", "", true),
        ("a=", "", true),
        ("a=1,b=2", "a=1,b=2", true),
        ("a=1,b=2", "a=1", false),
        (",a=1,", "a=1", true),
    ];
    for (selector, set, expect) in cases {
        let set = labels(set);
        let parsed = FieldSelector::parse(selector).unwrap();
        assert_eq!(parsed.matches(|key| set.get(key).map(String::as_str)), expect, "{selector}");
    }
    assert_eq!(FieldSelector::parse(r"a=x\,y\=z\\").unwrap().exact("a"), Some(r"x,y=z\"));
    let errors = [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ];
    for (text, expect) in errors {
        assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), expect);
    }
}

proptest! {
    #[test]
    fn printed_label_selectors_parse_to_themselves(text in "[!a-c]{0,2}( in | notin |=|==|!=|>|<)?[(a-c,)1-3]{0,6}(,x|,!y)?") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn field_values_survive_escaping(value in "[a,=\\\\!]{0,8}") {
        let selector = FieldSelector::equal("f", &value);
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }
}
