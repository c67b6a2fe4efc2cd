//! Image references as the CRI takes them.

/// `image` with `:latest` where it has neither tag nor digest; `None` where it is no reference.
pub fn with_default_tag(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let (algorithm, hex) = digest.split_once(':')?;
        if algorithm.is_empty() || hex.len() < 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
    }
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[slash..].find(':') {
        Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
        None => (name, None),
    };
    let valid_tag = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    });
    if !valid_tag || !is_path(path) {
        return None;
    }
    Some(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

/// `[registry[:port]/]component/component`, components in lower case.
fn is_path(path: &str) -> bool {
    let mut components = path.split('/').peekable();
    let first_is_registry = path.contains('/') && components.peek().is_some_and(|first| is_registry(first));
    if first_is_registry {
        components.next();
    }
    components.all(|component| {
        let inner =
            component.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
        let ends = component
            .bytes()
            .next()
            .into_iter()
            .chain(component.bytes().last())
            .all(|byte| byte.is_ascii_alphanumeric());
        !component.is_empty() && inner && ends
    })
}

pub(super) fn is_registry(first: &str) -> bool {
    (first.contains(['.', ':']) || first == "localhost")
        && first.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_and_bad_names_refused() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for (image, wanted) in [
            ("busybox", Some("busybox:latest")),
            ("busybox:1.36", Some("busybox:1.36")),
            ("localhost:5000/x/y", Some("localhost:5000/x/y:latest")),
            ("registry.k8s.io/pause:3.10", Some("registry.k8s.io/pause:3.10")),
            (digest.as_str(), Some(digest.as_str())),
            ("", None),
            ("Busybox", None),
            ("busybox:", None),
            ("bad image", None),
            ("INVALID//x", None),
            ("x@sha256:zz", None),
        ] {
            assert_eq!(with_default_tag(image).as_deref(), wanted, "{image:?}");
        }
    }
}
