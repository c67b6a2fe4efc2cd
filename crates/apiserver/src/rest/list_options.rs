//! What lists and watches are asked with, and which combinations are refused
//! (apimachinery `pkg/apis/meta/internalversion/validation`).

use std::time::Duration;

use api::{Status, status::FieldError};

use crate::request::Query;

const MATCH: &str = "resourceVersionMatch";
const NOT_OLDER: &str = "NotOlderThan";

/// The numbers among `metav1.ListOptions`; the rest is text that is read where it means something.
pub(super) struct ListOptions {
    /// 0: no limit.
    pub limit: usize,
    pub timeout: Option<Duration>,
}

impl ListOptions {
    pub(super) fn of_list(query: &Query) -> Result<ListOptions, Status> {
        let options = ListOptions::read(query)?;
        let (version, token) = (text(query, "resourceVersion"), text(query, "continue"));
        let mut errors = Vec::new();
        let matching = text(query, MATCH);
        if !matching.is_empty() {
            if version.is_empty() {
                errors.push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
            }
            if !token.is_empty() {
                errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
            }
            if !matches!(matching, "Exact" | NOT_OLDER) {
                errors.push(FieldError::not_supported(MATCH, matching, &["Exact", NOT_OLDER, ""]));
            }
            if matching == "Exact" && version == "0" {
                errors.push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
            }
        }
        if query.get("sendInitialEvents").is_some() {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        refuse(errors)?;
        if !token.is_empty() && !version.is_empty() && version != "0" {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        Ok(options)
    }

    pub(super) fn of_watch(query: &Query) -> Result<ListOptions, Status> {
        let options = ListOptions::read(query)?;
        let matching = text(query, MATCH);
        let sends = query.get("sendInitialEvents").is_some();
        let mut errors = Vec::new();
        if sends && matching != NOT_OLDER {
            errors.push(forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
        }
        if !matching.is_empty() {
            if !sends {
                let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(forbidden(detail));
            }
            if matching != NOT_OLDER {
                errors.push(FieldError::not_supported(MATCH, matching, &[NOT_OLDER]));
            }
            if !text(query, "continue").is_empty() {
                errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
            }
        }
        refuse(errors)?;
        Ok(options)
    }

    fn read(query: &Query) -> Result<ListOptions, Status> {
        let limit = number(query, "limit")?.unwrap_or(0);
        let timeout = number(query, "timeoutSeconds")?;
        Ok(ListOptions {
            limit: usize::try_from(limit).unwrap_or(0),
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        })
    }
}

fn text<'q>(query: &'q Query, name: &str) -> &'q str {
    query.get(name).unwrap_or_default()
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    };
    query.get(name).filter(|text| !text.is_empty()).map(parse).transpose()
}

fn forbidden(detail: &str) -> FieldError {
    FieldError::forbidden(MATCH, detail)
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors)) }
}
