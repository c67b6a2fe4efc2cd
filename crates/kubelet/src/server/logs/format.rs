//! One line of a log in CRI format (upstream `staging/src/k8s.io/cri-client/pkg/logs/logs.go: parseCRILog`). Pure.
//!
//! ```text
//! 2016-10-06T00:17:09.669794202Z stdout P log content 1
//! 2016-10-06T00:17:09.669794203Z stderr F log content 2
//! ```

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    /// The time as the runtime wrote it.
    pub time_text: &'a str,
    pub stream: Stream,
    /// With its line feed, unless the line goes on in the next record.
    pub content: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("timestamp is not found")]
    NoTime,
    #[error("unexpected timestamp format")]
    BadTime,
    #[error("unexpected stream type")]
    Stream,
    #[error("log tag is not found")]
    NoTag,
}

/// `line` with or without its line feed.
pub fn parse(line: &[u8]) -> Result<Record<'_>, FormatError> {
    let (time_text, rest) = split(line).ok_or(FormatError::NoTime)?;
    let time_text = std::str::from_utf8(time_text).map_err(|_| FormatError::BadTime)?;
    let time: Timestamp = time_text.parse().map_err(|_| FormatError::BadTime)?;
    let (stream, rest) = split(rest).ok_or(FormatError::Stream)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return Err(FormatError::Stream),
    };
    let (tags, mut content) = split(rest).ok_or(FormatError::NoTag)?;
    // Further tags may follow after a colon one day.
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    if partial {
        content = content.strip_suffix(b"\n").unwrap_or(content);
    }
    Ok(Record { time, time_text, stream, content })
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

/// A time with exactly nine digits of fraction, as `timestamps=true` prints it: the runtime drops trailing zeros.
pub fn fixed_time(text: &str) -> String {
    let zone = text.rfind(['Z', '+', '-']).filter(|at| text[*at..].starts_with('Z') || *at > 10).unwrap_or(text.len());
    let (instant, zone) = text.split_at(zone);
    let (seconds, fraction) = instant.split_once('.').unwrap_or((instant, ""));
    format!("{seconds}.{fraction:0<9}{zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let time = "2016-10-06T00:17:09.669794202Z";
        for (line, expect) in [
            (format!("{time} stdout F hello world\n"), Ok((Stream::Stdout, "hello world\n"))),
            (format!("{time} stderr P hel\n"), Ok((Stream::Stderr, "hel"))),
            (format!("{time} stderr P:x hel\n"), Ok((Stream::Stderr, "hel"))),
            (format!("{time} stdout F \n"), Ok((Stream::Stdout, "\n"))),
            (format!("{time} stdout F no line feed"), Ok((Stream::Stdout, "no line feed"))),
            ("x".to_owned(), Err(FormatError::NoTime)),
            ("yesterday stdout F x\n".to_owned(), Err(FormatError::BadTime)),
            (format!("{time} stdin F x\n"), Err(FormatError::Stream)),
            (format!("{time} stdout\n"), Err(FormatError::Stream)),
            (format!("{time} stdout F\n"), Err(FormatError::NoTag)),
        ] {
            let got = parse(line.as_bytes());
            let got = got.map(|record| (record.stream, std::str::from_utf8(record.content).expect("text")));
            assert_eq!(got, expect, "{line:?}");
        }
    }

    #[test]
    fn times() {
        for (text, expect) in [
            ("2016-10-06T00:17:09.669794202Z", "2016-10-06T00:17:09.669794202Z"),
            ("2016-10-06T00:17:09.66Z", "2016-10-06T00:17:09.660000000Z"),
            ("2016-10-06T00:17:09Z", "2016-10-06T00:17:09.000000000Z"),
            ("2016-10-06T00:17:09.5+02:00", "2016-10-06T00:17:09.500000000+02:00"),
            ("2016-10-06T00:17:09-07:00", "2016-10-06T00:17:09.000000000-07:00"),
        ] {
            assert_eq!(fixed_time(text), expect);
        }
    }
}
