//! The `Warning` headers of an answer.

use std::collections::HashSet;

use http::{HeaderValue, Response};
use net::Body;
use parking_lot::Mutex;

/// Characters of all warnings of a response; where they are more, each is cut, and those that still find no room are left
/// out (`pkg/endpoints/filters/warning.go`).
const WARNINGS_MAX: usize = 4096;
const CUT_WARNING_MAX: usize = 256;

/// What a request's answer tells besides.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub(crate) fn add(&self, texts: impl IntoIterator<Item = String>) {
        self.0.lock().extend(texts);
    }

    /// Adds `Warning` headers (RFC 7234 299), each text once.
    pub(crate) fn tell(&self, response: Response<Body>) -> Response<Body> {
        let warnings = self.0.lock();
        if warnings.is_empty() { response } else { with_headers(response, &warnings) }
    }
}

fn with_headers(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    let mut seen = HashSet::new();
    let said: Vec<&String> = warnings.iter().filter(|text| seen.insert(*text)).collect();
    let all: usize = said.iter().map(|text| text.chars().count()).sum();
    let most = if all > WARNINGS_MAX { CUT_WARNING_MAX } else { WARNINGS_MAX };
    let mut written = 0;
    for warning in said {
        if written >= WARNINGS_MAX {
            break;
        }
        written += warning.chars().take(most).count();
        let text: String = warning
            .chars()
            .take(most)
            .flat_map(|c| if c == '"' || c == '\\' { vec!['\\', c] } else { vec![c] })
            .filter(|c| !c.is_control())
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}
