//! What an operation does, in a few words.

use super::operation::{Operation, Response};

/// The description of the operation at `path`.
pub(super) fn describe(operation: &Operation, path: &str) -> String {
    let kind = operation.kind.as_ref().map_or("", |kind| &*kind.kind);
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let at = parts.iter().position(|part| *part == "{name}");
    let subresource = at.and_then(|at| parts.get(at + 1)).copied().unwrap_or_default();
    let of = |article: &str| match subresource {
        "" => format!("{article} {kind}"),
        name => format!("the {name} of {}", at.map_or("", |at| parts[at - 1])),
    };
    match operation.action {
        Some("list") => format!("Lists objects of kind {kind}, or watches them."),
        Some("watchlist") => format!("Watches objects of kind {kind}; superseded by the list's parameter watch."),
        Some("watch") => {
            format!("Watches one object of kind {kind}; superseded by the list's parameters watch and fieldSelector.")
        }
        Some("get") => format!("Reads {}.", of("one")),
        Some("put") => format!("Replaces {}.", of("one")),
        Some("patch") => format!("Changes parts of {}.", of("one")),
        Some("post") => format!("Creates {}.", of("one")),
        Some("delete") => format!("Deletes {}.", of("one")),
        Some("deletecollection") => format!("Deletes objects of kind {kind}, all or those that are selected."),
        Some("connect") => format!("Connects to {}.", of("one")),
        _ => match operation.response {
            Response::Document(_) => "What tokens of service accounts are verified with.".to_owned(),
            _ => "What this server has at this path.".to_owned(),
        },
    }
}
