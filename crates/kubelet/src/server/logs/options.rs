//! What a request for logs asks for (PodLogOptions), from its query (upstream `server.go: getContainerLogs` and
//! `validation.go: validatePodLogOptions`). Pure.

use jiff::{SignedDuration, Timestamp};

use super::format::Stream;
use crate::server::uri::Query;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    /// The instance before the newest one.
    pub previous: bool,
    pub timestamps: bool,
    /// Only records at or after this time.
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// `None`: both.
    pub stream: Option<Stream>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not what the parameter's type allows: 400.
    #[error("{{\"message\": \"Unable to decode query.\"}}")]
    Decode { parameter: &'static str },
    /// Decoded, but not allowed: 422.
    #[error("{{\"message\": \"Invalid request.\"}}")]
    Invalid { parameter: &'static str },
}

impl LogOptions {
    /// `now` is what `sinceSeconds` counts back from.
    pub fn from_query(query: &Query, now: Timestamp) -> Result<LogOptions, OptionsError> {
        // The old name; "all" is the same as leaving it out.
        let tail = match query.first("tail").filter(|tail| !tail.is_empty()) {
            Some("all") => None,
            Some(tail) => Some(tail),
            None => query.first("tailLines"),
        };
        let since_seconds = integer("sinceSeconds", query.first("sinceSeconds"), 1)?;
        let since_time = match query.first("sinceTime").filter(|time| !time.is_empty()) {
            Some(time) => Some(time.parse().map_err(|_| OptionsError::Decode { parameter: "sinceTime" })?),
            None => None,
        };
        if since_seconds.is_some() && since_time.is_some() {
            return Err(OptionsError::Invalid { parameter: "sinceSeconds" });
        }
        let ago = since_seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(SignedDuration::from_secs);
        let since = match ago {
            // Longer ago than time goes back is everything.
            Some(ago) => now.checked_sub(ago).ok(),
            None => since_time,
        };
        let options = LogOptions {
            follow: boolean("follow", query.first("follow"))?,
            previous: boolean("previous", query.first("previous"))?,
            timestamps: boolean("timestamps", query.first("timestamps"))?,
            since,
            tail_lines: integer("tailLines", tail, 0)?,
            limit_bytes: integer("limitBytes", query.first("limitBytes"), 1)?,
            stream: match query.first("stream").unwrap_or_default() {
                "" | "All" => None,
                "Stdout" => Some(Stream::Stdout),
                "Stderr" => Some(Stream::Stderr),
                _ => {
                    return Err(OptionsError::Invalid { parameter: "stream" });
                }
            },
        };
        if options.stream.is_some() && options.tail_lines.is_some() {
            return Err(OptionsError::Invalid { parameter: "tailLines" });
        }
        Ok(options)
    }
}

/// As upstream's query decoding: empty is not given, "false" and "0" are no, everything else is yes.
fn boolean(_parameter: &'static str, value: Option<&str>) -> Result<bool, OptionsError> {
    Ok(match value {
        None => false,
        Some(value) => !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"),
    })
}

fn integer(parameter: &'static str, value: Option<&str>, least: i64) -> Result<Option<u64>, OptionsError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number: i64 = value.parse().map_err(|_| OptionsError::Decode { parameter })?;
    if number < least {
        return Err(OptionsError::Invalid { parameter });
    }
    Ok(u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("time");
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let decode = |parameter| Err(OptionsError::Decode { parameter });
        let invalid = |parameter| Err(OptionsError::Invalid { parameter });
        let base = LogOptions::default;
        for (query, expect) in [
            ("", Ok(base())),
            ("follow=true&previous=false", Ok(LogOptions { follow: true, ..base() })),
            ("sinceSeconds=60", Ok(LogOptions { since: time("2026-01-01T23:59:00Z"), ..base() })),
            ("sinceTime=2026-01-01T00%3A00%3A00Z", Ok(LogOptions { since: time("2026-01-01T00:00:00Z"), ..base() })),
            ("tailLines=0&timestamps=1", Ok(LogOptions { tail_lines: Some(0), timestamps: true, ..base() })),
            ("tail=all&tailLines=3", Ok(base())),
            ("tail=2", Ok(LogOptions { tail_lines: Some(2), ..base() })),
            ("stream=Stderr", Ok(LogOptions { stream: Some(Stream::Stderr), ..base() })),
            ("limitBytes=10", Ok(LogOptions { limit_bytes: Some(10), ..base() })),
            ("limitBytes=0", invalid("limitBytes")),
            ("tailLines=-1", invalid("tailLines")),
            ("tailLines=x", decode("tailLines")),
            ("sinceSeconds=0", invalid("sinceSeconds")),
            ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", invalid("sinceSeconds")),
            ("sinceTime=noon", decode("sinceTime")),
            ("stream=both", invalid("stream")),
            ("stream=Stdout&tailLines=1", invalid("tailLines")),
        ] {
            assert_eq!(LogOptions::from_query(&Query::parse(query), now), expect, "{query}");
        }
    }
}
