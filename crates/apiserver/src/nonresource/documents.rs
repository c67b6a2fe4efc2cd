//! Discovery and OpenAPI documents: made on first use and kept, compressed where they are large.

use std::{collections::HashMap, sync::Arc};

use api::{ResourceTable, Status, discovery, openapi, status::Reason};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use net::Body;
use parking_lot::Mutex;

use crate::{
    Server,
    negotiate::{self, Accept, Form, Format, JSON, Offer},
    request::Query,
    rest::Answer,
};

/// Documents above this size are kept compressed.
const PLAIN_MAX: usize = 64 << 10;

const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

const OPENAPI_V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients before 2022 call it: they take either name as an answer.
const OPENAPI_V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// What has been made.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    documents: HashMap<Key, Document>,
    /// Of OpenAPI documents of version 3, by their keys: the index tells them all, few are ever asked for.
    hashes: HashMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    path: String,
    format: Format,
    aggregated: bool,
}

#[derive(Clone)]
struct Document {
    body: Bytes,
    gzip: bool,
    etag: String,
    content_type: &'static str,
    /// Only of OpenAPI documents.
    modified: Option<Timestamp>,
}

impl Documents {
    /// Forgets what tells of resources that come and go.
    pub(crate) fn forget(&self) {
        let mut made = self.made.lock();
        made.documents.retain(|key, _| key.path.strip_prefix("/openapi/v3/").is_some_and(stays));
        made.hashes.retain(|key, _| stays(key));
    }
}

/// Whether an OpenAPI document of version 3 tells of built-in resources only.
fn stays(key: &str) -> bool {
    key.strip_prefix("apis/").is_none_or(|rest| {
        let group = rest.split('/').next().unwrap_or_default();
        ResourceTable::builtin().group(group).is_some()
    })
}

pub(super) fn serve(server: &Server, path: &str, query: &Query, request: &Request<Body>) -> Answer {
    let key = key(path, request.headers())?;
    let document = document(server, key.clone())?;
    let mut caching = Caching::Ask;
    if key.aggregated {
        caching = Caching::Public;
    } else if path.starts_with("/openapi/v3/")
        && let Some(hash) = query.get("hash").filter(|hash| !hash.is_empty())
    {
        if hash != document.etag {
            return Response::builder()
                .status(StatusCode::MOVED_PERMANENTLY)
                .header(header::LOCATION, format!("{path}?hash={}", document.etag))
                .header(header::VARY, "Accept")
                .body(net::empty())
                .map_err(Status::internal);
        }
        caching = Caching::Forever;
    }
    answer(&document, caching, server.clock.now(), request)
}

/// What a client may do with a document that it has got.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Caching {
    /// Ask every time whether it is still good.
    Ask,
    Public,
    /// The document of this hash never changes (kube-openapi `pkg/handler3/handler.go`).
    Forever,
}

/// Which document a request means.
fn key(path: &str, headers: &HeaderMap) -> Result<Key, Status> {
    if path == "/openapi/v2" {
        let format = openapi_format(headers, &[OPENAPI_V2_PROTOBUF, OPENAPI_V2_PROTOBUF_OLD]);
        let format = format.ok_or_else(|| Status::not_acceptable(&[JSON, OPENAPI_V2_PROTOBUF]))?;
        return Ok(Key { path: path.to_owned(), format, aggregated: false });
    }
    if path.starts_with("/openapi/") {
        let accepted = openapi_format(headers, &[]);
        // The index is JSON, whatever is asked for.
        if path != "/openapi/v3" && accepted.is_none() {
            return Err(Status::not_acceptable(&[JSON]));
        }
        return Ok(Key { path: path.to_owned(), format: Format::Json, aggregated: false });
    }
    let offer = if matches!(path, "/api" | "/apis") { Offer::DISCOVERY } else { Offer::OBJECTS };
    let is_discovery = path.starts_with("/api");
    let plain = Accept { format: Format::Json, form: Form::Object, pretty: false };
    let accept = if is_discovery { Accept::negotiate(headers, offer)? } else { plain };
    Ok(Key { path: path.to_owned(), format: accept.format, aggregated: accept.form == Form::Discovery })
}

/// The format of an OpenAPI document; `protobuf` are the names that protobuf has for it. `None`: not one that is accepted
/// (kube-openapi `pkg/handler/handler.go`).
fn openapi_format(headers: &HeaderMap, protobuf: &[&str]) -> Option<Format> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.trim().is_empty() {
        return Some(Format::Json);
    }
    let quality = |clause: &str| {
        clause.split(';').find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0)
    };
    let mut clauses: Vec<&str> = accept.split(',').collect();
    clauses.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    let format = |clause: &&str| match clause.split(';').next().unwrap_or_default().trim() {
        JSON | "*/*" | "application/*" => Some(Format::Json),
        name if protobuf.contains(&name) => Some(Format::Protobuf),
        _ => None,
    };
    clauses.iter().find_map(format)
}

fn document(server: &Server, key: Key) -> Result<Document, Status> {
    let known = server.documents.made.lock().documents.get(&key).cloned();
    if let Some(document) = known {
        return Ok(document);
    }
    let table = server.resources.load_full();
    let made = if key.format == Format::Json {
        make(server, &table, &key)?
    } else {
        convert(&document(server, Key { format: Format::Json, ..key.clone() })?, &key)?
    };
    keep(server, &table, |kept| kept.documents.insert(key, made.clone()));
    Ok(made)
}

/// Made of a table that is not the newest any more, it answers this request and no other.
fn keep<T>(server: &Server, table: &Arc<ResourceTable>, insert: impl FnOnce(&mut Made) -> Option<T>) {
    let mut made = server.documents.made.lock();
    if Arc::ptr_eq(table, &server.resources.load()) {
        insert(&mut made);
    }
}

/// A document as JSON.
fn make(server: &Server, table: &Arc<ResourceTable>, key: &Key) -> Result<Document, Status> {
    if let Some(rest) = key.path.strip_prefix("/openapi/") {
        let json = openapi_document(server, table, rest)?;
        let etag = digest(&json);
        return pack(json, etag, JSON, Some(server.clock.now()));
    }
    let value = match &*key.path {
        "/api" if key.aggregated => discovery::aggregated(table, true),
        "/apis" if key.aggregated => discovery::aggregated(table, false),
        "/api" => discovery::core_versions(
            table,
            &format!("{}:{}", server.config.advertise_address, server.config.secure_port),
        ),
        "/apis" => discovery::groups(table),
        path => match path.split('/').collect::<Vec<_>>()[..] {
            ["", "api", version] => discovery::resources(table, "", version).ok_or_else(Status::no_such_resource)?,
            ["", "apis", group] => discovery::group(table, group).ok_or_else(Status::no_such_resource)?,
            ["", "apis", group, version] => {
                discovery::resources(table, group, version).ok_or_else(Status::no_such_resource)?
            }
            _ => {
                return Err(Status::failure(Reason::NotFound, "the server could not find the requested resource")
                    .with_details(Default::default()));
            }
        },
    };
    let json = value.to_json();
    let etag = digest(&json);
    pack(json, etag, content_type(Format::Json, key.aggregated), None)
}

/// The same document in another format.
fn convert(document: &Document, key: &Key) -> Result<Document, Status> {
    let json = document.plain()?;
    if key.path == "/openapi/v2" {
        let bytes = openapi::v2_protobuf(&json).map_err(Status::internal)?;
        // The tag is that of the JSON: as upstream says, `Vary` keeps the two apart.
        return pack(bytes, document.etag.clone(), OPENAPI_V2_PROTOBUF, document.modified);
    }
    let bytes = negotiate::encode(key.format, json)?;
    let etag = digest(&bytes);
    pack(bytes.into(), etag, content_type(key.format, key.aggregated), None)
}

fn content_type(format: Format, aggregated: bool) -> &'static str {
    match format {
        Format::Json if aggregated => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Format::Yaml if aggregated => "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Format::Protobuf if aggregated => {
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
        format => format.content_type(),
    }
}

fn openapi_document(server: &Server, table: &Arc<ResourceTable>, rest: &str) -> Result<Vec<u8>, Status> {
    match rest {
        "v2" => Ok(openapi::v2(table)),
        "v3" => Ok(openapi::v3_index(table, |key| hash(server, table, key)).to_json()),
        _ => rest.strip_prefix("v3/").and_then(|key| openapi::v3(table, key)).ok_or_else(Status::no_such_resource),
    }
}

/// What tells a client that keeps a document of version 3 whether it is still good: the document itself, as it is said to
/// never change under its hash.
fn hash(server: &Server, table: &Arc<ResourceTable>, key: &str) -> String {
    if let Some(hash) = server.documents.made.lock().hashes.get(key) {
        return hash.clone();
    }
    let hash = digest(&openapi::v3(table, key).unwrap_or_default());
    keep(server, table, |kept| kept.hashes.insert(key.to_owned(), hash.clone()));
    hash
}

fn pack(
    bytes: Vec<u8>,
    etag: String,
    content_type: &'static str,
    modified: Option<Timestamp>,
) -> Result<Document, Status> {
    let gzip = bytes.len() > PLAIN_MAX;
    let body = if gzip { compress(&bytes)? } else { Bytes::from(bytes) };
    Ok(Document { body, gzip, etag, content_type, modified })
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha512};
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn compress(bytes: &[u8]) -> Result<Bytes, Status> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).map_err(Status::internal)?;
    encoder.finish().map(Bytes::from).map_err(Status::internal)
}

impl Document {
    fn plain(&self) -> Result<Bytes, Status> {
        use std::io::Read;
        if !self.gzip {
            return Ok(self.body.clone());
        }
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&*self.body).read_to_end(&mut out).map_err(Status::internal)?;
        Ok(out.into())
    }

    /// Whether the client's copy is still good; the tag decides where it names one.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(tags) = text(header::IF_NONE_MATCH) {
            return tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == self.etag);
        }
        let since = text(header::IF_MODIFIED_SINCE).and_then(http_date);
        self.modified.zip(since).is_some_and(|(modified, since)| modified.as_second() <= since.as_second())
    }
}

fn http_date(text: &str) -> Option<Timestamp> {
    let parsed = strtime::parse(HTTP_DATE, text).ok()?.to_datetime().ok()?;
    Some(parsed.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn answer(document: &Document, caching: Caching, now: Timestamp, request: &Request<Body>) -> Answer {
    let headers = request.headers();
    let mut response = Response::builder()
        .header(header::ETAG, format!("\"{}\"", document.etag))
        .header(header::VARY, "Accept")
        .header(header::CONTENT_TYPE, document.content_type);
    response = match caching {
        Caching::Ask => response.header(header::CACHE_CONTROL, "no-cache, private"),
        Caching::Public => response.header(header::CACHE_CONTROL, "public"),
        Caching::Forever => response.header(header::CACHE_CONTROL, "public, immutable").header(
            header::EXPIRES,
            (now + jiff::SignedDuration::from_hours(365 * 24)).strftime(HTTP_DATE).to_string(),
        ),
    };
    if let Some(modified) = document.modified {
        response = response.header(header::LAST_MODIFIED, modified.strftime(HTTP_DATE).to_string());
    }
    if document.is_known_to(headers) {
        return response.status(StatusCode::NOT_MODIFIED).body(net::empty()).map_err(Status::internal);
    }
    let takes_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.contains("gzip"));
    let body = if document.gzip && takes_gzip {
        response = response.header(header::CONTENT_ENCODING, "gzip");
        document.body.clone()
    } else {
        document.plain()?
    };
    response.body(net::full(body)).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openapi_v2_is_json_or_protobuf() {
        for (accept, expected) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("application/json", Some(Format::Json)),
            ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", Some(Format::Protobuf)),
            ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf,application/json", Some(Format::Protobuf)),
            (
                "application/json;q=0.5,application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
                Some(Format::Protobuf),
            ),
            ("text/html", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            let names = [OPENAPI_V2_PROTOBUF, OPENAPI_V2_PROTOBUF_OLD];
            assert_eq!(openapi_format(&headers, &names), expected, "{accept}");
        }
    }

    #[test]
    fn dates_are_written_and_read() {
        let time: Timestamp = "2026-05-04T03:02:01Z".parse().unwrap();
        let text = time.strftime(HTTP_DATE).to_string();
        assert_eq!((text.as_str(), http_date(&text)), ("Mon, 04 May 2026 03:02:01 GMT", Some(time)));
    }
}
