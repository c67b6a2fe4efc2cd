//! `$(VAR)` in commands, arguments and values (upstream third_party/forked/golang/expansion).

/// Replaces `$(NAME)` by what `lookup` knows; what it does not know stays as it is written. `$$` is a dollar sign.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|body| body.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The first name in `text` that `lookup` does not know: subPathExpr must not have any.
pub fn first_undefined(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
    let missing = std::cell::RefCell::new(None);
    expand(text, |name| {
        let value = lookup(name);
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    missing.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_upstreams_table() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "B" => Some("$(A)".to_owned()),
            _ => None,
        };
        for (text, wanted) in [
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$(B)", "$(A)"),
            ("$(NO)", "$(NO)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("cost: 5$", "cost: 5$"),
            ("", ""),
        ] {
            assert_eq!(expand(text, lookup), wanted, "{text}");
        }
        assert_eq!(first_undefined("$(A)/$(NO)/$(NEVER)", lookup).as_deref(), Some("NO"));
        assert_eq!(first_undefined("$(A)/$$(NO)", lookup), None);
    }
}
