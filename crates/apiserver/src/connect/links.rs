//! Links in answers of proxied backends, led through the proxy again: the `Location` of redirects, and the attributes of
//! HTML that hold URLs (apimachinery `pkg/util/proxy/transport.go`).

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{Compression, read, write};
use futures_util::stream;
use html5gum::{
    Span, Tokenizer,
    emitters::callback::{CallbackEmitter, CallbackEvent},
};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use net::Body;

/// Larger pages are passed on as they are.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// The attributes that hold URLs, by element.
const ATTRIBUTES: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// What makes a link one to the backend, and what is put before its path.
pub(super) struct Links {
    /// The host that the client asked for, with its port.
    pub host: String,
    /// The backend's, with its port.
    pub backend: String,
    /// The proxy's path, without a slash at its end.
    pub prefix: String,
}

impl Links {
    /// `answer` with its links led through the proxy.
    pub(super) async fn rewrite(&self, mut answer: Response<Body>) -> Response<Body> {
        if let Some(location) = answer.headers().get(header::LOCATION) {
            let rewritten = location.to_str().ok().and_then(|url| self.through_proxy(url));
            if let Some(value) = rewritten.and_then(|url| HeaderValue::from_str(&url).ok()) {
                answer.headers_mut().insert(header::LOCATION, value);
            }
            return answer;
        }
        let Some(encoding) = encoding_of_html(answer.headers()) else { return answer };
        let (mut parts, body) = answer.into_parts();
        let page = match page(body).await {
            Ok(page) if !page.is_empty() => page,
            Ok(_) => return Response::from_parts(parts, net::empty()),
            Err(body) => return Response::from_parts(parts, body),
        };
        let rewritten = match encoding.decoded(&page).and_then(|html| encoding.encoded(&self.rewrite_html(&html))) {
            Ok(rewritten) => rewritten.into(),
            Err(error) => {
                tracing::debug!(%error, "a proxied page is not of the encoding that it names");
                page
            }
        };
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, net::full(rewritten))
    }

    /// The URL for the client's side of the proxy; `None` where it stays as it is: another host's, or relative.
    fn through_proxy(&self, url: &str) -> Option<String> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            _ => ("", url),
        };
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let is_foreign = !host.is_empty() && host != self.backend && host != self.host;
        let is_opaque = host.is_empty() && !scheme.is_empty();
        if is_foreign || is_opaque || !path.starts_with('/') {
            return None;
        }
        let origin = if host.is_empty() || host == self.backend { "" } else { &url[..url.len() - path.len()] };
        let prefix = if path.starts_with(&self.prefix) { "" } else { &self.prefix };
        Some(format!("{origin}{prefix}{path}"))
    }

    fn rewrite_html(&self, html: &[u8]) -> Vec<u8> {
        let (mut urls, mut named): (&[&str], bool) = (&[], false);
        let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| {
            match event {
                CallbackEvent::OpenStartTag { name } => {
                    let found = ATTRIBUTES.iter().find(|(element, _)| element.as_bytes() == name);
                    urls = found.map_or(&[], |(_, attributes)| attributes);
                }
                CallbackEvent::AttributeName { name } => named = urls.iter().any(|url| url.as_bytes() == name),
                CallbackEvent::AttributeValue { value } if named => {
                    let rewritten = self.through_proxy(std::str::from_utf8(value).ok()?)?;
                    return Some((span, rewritten));
                }
                _ => {}
            }
            None
        });
        // What stands in a script or style is no tag.
        emitter.naively_switch_states(true);
        let mut out = Vec::with_capacity(html.len() + html.len() / 8);
        let mut copied = 0;
        for found in Tokenizer::new_with_emitter(html, emitter) {
            let Ok((span, url)) = found;
            let is_quoted = matches!(html.get(span.start.wrapping_sub(1)), Some(b'"' | b'\''));
            out.extend_from_slice(&html[copied..span.start]);
            let escaped = escape(&url);
            let value = if is_quoted { escaped } else { format!("\"{escaped}\"") };
            out.extend_from_slice(value.as_bytes());
            copied = span.end;
        }
        out.extend_from_slice(&html[copied..]);
        out
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// For an attribute in quotes of either kind.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How the page is encoded that these are the headers of; `None` where it is no HTML, or encoded in another way.
fn encoding_of_html(headers: &HeaderMap) -> Option<Encoding> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let is_html = media_type == "text/html";
    is_html.then(|| Encoding::named(text(header::CONTENT_ENCODING))).flatten()
}

/// The whole body; where it is too large or breaks off, a body that says the same.
async fn page(mut body: Body) -> Result<Bytes, Body> {
    let mut chunks = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let is_bad = frame.is_err();
        size += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        chunks.push(frame);
        if is_bad || size > PAGE_BYTES_MAX {
            let rest = stream::unfold(body, |mut body| async { Some((body.frame().await?, body)) });
            let whole = futures_util::StreamExt::chain(stream::iter(chunks), rest);
            return Err(StreamBody::new(whole).boxed_unsync());
        }
    }
    let mut page = Vec::with_capacity(size);
    for frame in chunks.into_iter().flatten() {
        page.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    Ok(page.into())
}

/// Of a page's bytes.
#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    Gzip,
    Deflate,
}

impl Encoding {
    fn named(name: &str) -> Option<Encoding> {
        match name {
            "" => Some(Encoding::Plain),
            "gzip" => Some(Encoding::Gzip),
            "deflate" => Some(Encoding::Deflate),
            _ => None,
        }
    }

    fn decoded(self, page: &[u8]) -> io::Result<Vec<u8>> {
        let reader: Box<dyn Read + '_> = match self {
            Encoding::Plain => Box::new(page),
            Encoding::Gzip => Box::new(read::GzDecoder::new(page)),
            Encoding::Deflate => Box::new(read::DeflateDecoder::new(page)),
        };
        let mut html = Vec::new();
        reader.take(PAGE_BYTES_MAX as u64 + 1).read_to_end(&mut html)?;
        if html.len() > PAGE_BYTES_MAX {
            return Err(io::Error::other("a page beyond all bounds"));
        }
        Ok(html)
    }

    fn encoded(self, html: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoding::Plain => Ok(html.to_vec()),
            Encoding::Gzip => {
                let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(html)?;
                encoder.finish()
            }
            Encoding::Deflate => {
                let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(html)?;
                encoder.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { host: "api:6443".into(), backend: "10.0.0.1:80".into(), prefix: "/api/v1/p/proxy".into() }
    }

    #[test]
    fn urls_of_the_backend_go_through_the_proxy() {
        for (url, expected) in [
            ("/a/b?x=1#y", "/api/v1/p/proxy/a/b?x=1#y"),
            ("/a/", "/api/v1/p/proxy/a/"),
            ("http://10.0.0.1:80/a", "/api/v1/p/proxy/a"),
            ("//10.0.0.1:80/a", "/api/v1/p/proxy/a"),
            ("https://api:6443/a", "https://api:6443/api/v1/p/proxy/a"),
            ("/api/v1/p/proxy/a", "/api/v1/p/proxy/a"),
        ] {
            assert_eq!(links().through_proxy(url).as_deref(), Some(expected), "{url}");
        }
        for url in ["a/b", "#x", "?x", "", "http://elsewhere/a", "mailto:a@b", "javascript:/x/", "http://10.0.0.1:80"] {
            assert_eq!(links().through_proxy(url), None, "{url}");
        }
    }

    #[test]
    fn only_attributes_that_hold_urls_change() {
        for (html, expected) in [
            (r#"<a href="/x">/x</a>"#, r#"<a href="/api/v1/p/proxy/x">/x</a>"#),
            ("<A HREF='/x' class=/x>", "<A HREF='/api/v1/p/proxy/x' class=/x>"),
            ("<img src=/x alt=/x><p src=/x>", "<img src=\"/api/v1/p/proxy/x\" alt=/x><p src=/x>"),
            (r#"<a href="/x?a=1&amp;b=2">"#, r#"<a href="/api/v1/p/proxy/x?a=1&amp;b=2">"#),
            ("<!-- <a href=/x> --><a href=x>", "<!-- <a href=/x> --><a href=x>"),
            (r#"<script src="/s">"<a href=/x>"</script>"#, r#"<script src="/api/v1/p/proxy/s">"<a href=/x>"</script>"#),
            ("<a href=\"/x", "<a href=\"/x"),
            ("\u{e4}<a href=\"/\u{e4}\">", "\u{e4}<a href=\"/api/v1/p/proxy/\u{e4}\">"),
        ] {
            let rewritten = links().rewrite_html(html.as_bytes());
            assert_eq!(String::from_utf8_lossy(&rewritten), expected);
        }
    }

    #[test]
    fn encoded_pages_come_out_encoded() {
        for encoding in [Encoding::Plain, Encoding::Gzip, Encoding::Deflate] {
            let page = encoding.encoded(b"<a>").expect("encoded");
            assert_eq!(encoding.decoded(&page).expect("decoded"), b"<a>");
        }
        assert!(Encoding::Gzip.decoded(b"plain").is_err());
    }
}
