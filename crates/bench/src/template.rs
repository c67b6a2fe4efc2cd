//! Requests prebuilt as bytes, in which only digits change: an object's number and the value written into it.

use bytes::Bytes;
use http::Method;
use memchr::memmem;

/// In a path or body: the number of the object, eight digits in the end.
pub const NUMBER: &str = "@@@@@@@@";
/// In a path or body: the value written, eight digits in the end.
pub const VALUE: &str = "########";
pub const DIGITS: usize = 8;

/// A request as it is for every object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub content_type: Option<&'static str>,
    pub body: String,
}

/// Text with the places where digits go.
#[derive(Clone, Debug)]
pub struct Slots {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    values: Vec<usize>,
}

impl Slots {
    pub fn new(text: &str) -> Slots {
        let places = |marker: &str| memmem::find_iter(text.as_bytes(), marker).collect();
        Slots { numbers: places(NUMBER), values: places(VALUE), bytes: text.as_bytes().to_vec() }
    }

    /// The text with these digits, at most eight of each.
    pub fn fill(&mut self, number: u64, value: u64) -> &[u8] {
        for (places, mut digits) in [(&self.numbers, number), (&self.values, value)] {
            let mut text = [b'0'; DIGITS];
            for digit in text.iter_mut().rev() {
                *digit = b'0' + (digits % 10) as u8;
                digits /= 10;
            }
            for place in places {
                self.bytes[*place..place + DIGITS].copy_from_slice(&text);
            }
        }
        &self.bytes
    }

    /// The same as bytes of their own.
    pub fn filled(&mut self, number: u64, value: u64) -> Bytes {
        Bytes::copy_from_slice(self.fill(number, value))
    }
}

/// What every request to one server says of itself.
#[derive(Clone, Debug)]
pub struct Common {
    /// `host:port`.
    pub authority: String,
    /// The whole `Authorization` header.
    pub authorization: Option<String>,
    /// Media type asked for.
    pub accept: String,
}

impl Template {
    /// Head and body as HTTP/1.1 has them on the wire.
    pub fn http1(&self, common: &Common) -> Slots {
        let Template { method, path, content_type, body } = self;
        let Common { authority, accept, .. } = common;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: {accept}\r\nUser-Agent: argosy-bench\r\n"
        );
        if let Some(authorization) = &common.authorization {
            text += &format!("Authorization: {authorization}\r\n");
        }
        if let Some(content_type) = content_type {
            text += &format!("Content-Type: {content_type}\r\n");
        }
        if !body.is_empty() || self.method == Method::POST {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        Slots::new(&format!("{text}\r\n{body}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        Common { authority: "h:1".into(), authorization: Some("Bearer t".into()), accept: "application/json".into() }
    }

    #[test]
    fn digits_go_where_their_markers_were_and_lengths_stay() {
        let template = Template {
            method: Method::PUT,
            path: format!("/o/a-{NUMBER}?x={VALUE}"),
            content_type: Some("application/json"),
            body: format!("{{\"name\":\"a-{NUMBER}\",\"seq\":\"{VALUE}\"}}"),
        };
        let mut slots = template.http1(&common());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let first = text(slots.fill(7, 12_345_678));
        assert_eq!(
            first,
            "PUT /o/a-00000007?x=12345678 HTTP/1.1\r\nHost: h:1\r\nAccept: application/json\r\n\
             User-Agent: argosy-bench\r\nAuthorization: Bearer t\r\nContent-Type: application/json\r\n\
             Content-Length: 38\r\n\r\n{\"name\":\"a-00000007\",\"seq\":\"12345678\"}"
        );
        let second = text(slots.fill(99_999_999, 0));
        assert_eq!(second, first.replace("12345678", "00000000").replace("00000007", "99999999"));
    }

    #[test]
    fn a_request_without_body_has_no_length() {
        let get = Template { method: Method::GET, path: "/o".into(), content_type: None, body: String::new() };
        let bytes = get.http1(&common()).fill(0, 0).to_vec();
        assert!(!String::from_utf8_lossy(&bytes).contains("Content"));
        assert!(bytes.ends_with(b"Authorization: Bearer t\r\n\r\n"));
    }
}
