//! Content negotiation: what a client wants an answer to look like, and what it sent.

use api::{Model, Status, json, protobuf, yaml};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// The form of the answer: the object itself, or one that is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    PartialMetadata,
    /// The aggregated discovery document, version 2.
    Discovery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub form: Form,
    pub pretty: bool,
}

/// What an endpoint can answer with, besides JSON and YAML of the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its types are messages too: those of this API are, those of custom resources are not.
    pub protobuf: bool,
    /// It has the discovery document in two forms; without, the object as its metadata.
    pub discovery: bool,
    /// It has the object as a Table, which what is only answered, a review, has not.
    pub table: bool,
}

impl Offer {
    pub const OBJECTS: Offer = Offer { protobuf: true, discovery: false, table: true };
    pub const DISCOVERY: Offer = Offer { protobuf: true, discovery: true, table: false };

    fn media_types(self) -> &'static [&'static str] {
        if self.protobuf { &[JSON, YAML, PROTOBUF] } else { &[JSON, YAML] }
    }

    fn includes(self, accept: &Accept) -> bool {
        let is_protobuf = accept.format == Format::Protobuf;
        let form = match accept.form {
            Form::Object => true,
            // A table's cells are of any type, which messages have no word for.
            Form::Table => self.table && !is_protobuf,
            Form::PartialMetadata => !self.discovery,
            Form::Discovery => self.discovery,
        };
        form && (self.protobuf || !is_protobuf)
    }
}

impl Accept {
    /// The first of the client's wishes that can be met (apiserver `pkg/endpoints/handlers/negotiation`).
    pub fn negotiate(headers: &HeaderMap, offer: Offer) -> Result<Accept, Status> {
        Accept::choose(headers.get(header::ACCEPT), offer)
    }

    /// The same, of the header `Accept`.
    pub fn choose(accept: Option<&HeaderValue>, offer: Offer) -> Result<Accept, Status> {
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.trim().is_empty() {
            return Ok(Accept { format: Format::Json, form: Form::Object, pretty: false });
        }
        let mut wishes: Vec<(f32, Accept)> =
            accept.split(',').filter_map(wish).filter(|(_, accept)| offer.includes(accept)).collect();
        // Stable: among equals the order of the header counts.
        wishes.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        wishes.first().map(|(_, accept)| *accept).ok_or_else(|| Status::not_acceptable(offer.media_types()))
    }
}

fn wish(clause: &str) -> Option<(f32, Accept)> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "*/*" | "application/*" | JSON => Format::Json,
        YAML | "application/x-yaml" | "text/yaml" => Format::Yaml,
        PROTOBUF => Format::Protobuf,
        _ => return None,
    };
    let (mut form, mut quality, mut pretty) = (Form::Object, 1.0, false);
    let (mut version, mut group) = ("v1", "meta.k8s.io");
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", "Table")) => form = Form::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => form = Form::PartialMetadata,
            Some(("as", "APIGroupDiscoveryList")) => form = Form::Discovery,
            Some(("as", _)) => return None,
            Some(("v", value)) => version = value,
            Some(("g", value)) => group = value,
            Some(("q", value)) => quality = value.parse().ok()?,
            Some(("pretty", value)) => pretty = value == "1" || value == "true",
            _ => {}
        }
    }
    let is_known = match form {
        Form::Object => true,
        Form::Table | Form::PartialMetadata => group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1"),
        Form::Discovery => group == "apidiscovery.k8s.io" && version == "v2",
    };
    is_known.then_some((quality, Accept { format, form, pretty }))
}

/// Bytes of an answer in a format, from its JSON.
pub fn encode(format: Format, json: Bytes) -> Result<Bytes, Status> {
    match format {
        Format::Json => Ok(json),
        Format::Yaml => {
            let tree: serde_json::Value = serde_json::from_slice(&json).map_err(Status::internal)?;
            serde_saphyr::to_string(&tree).map(Bytes::from).map_err(Status::internal)
        }
        Format::Protobuf => {
            let tree = json::parse(&json).map_err(Status::internal)?;
            protobuf::encode(Model::builtin(), &tree).map(Bytes::from).map_err(Status::internal)
        }
    }
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => JSON,
            Format::Yaml => YAML,
            Format::Protobuf => PROTOBUF,
        }
    }
}

/// A request's body as a tree, with what there is to say of its text.
pub fn decode_body(headers: &HeaderMap, body: &[u8]) -> Result<json::Parsed, Status> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(JSON);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "*/*" | JSON => parse_json(body),
        YAML | "application/x-yaml" | "text/yaml" => parse_yaml(body),
        PROTOBUF => {
            let value = protobuf::decode(Model::builtin(), None, body)
                .map_err(|error| Status::bad_request(format!("error decoding the request body: {error}")))?;
            Ok(json::Parsed { value, repeats: Default::default() })
        }
        _ => Err(Status::unsupported_media_type(&[JSON, YAML, PROTOBUF])),
    }
}

pub fn parse_json(body: &[u8]) -> Result<json::Parsed, Status> {
    // kubectl and others send YAML without saying so: upstream's decoder recognizes JSON by its first byte.
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(Status::bad_request("the request body is empty")),
        Some(b'{' | b'[') => json::parse_noting_repeats(body)
            .map_err(|error| Status::bad_request(format!("error decoding the request body: {error}"))),
        Some(_) => Err(Status::bad_request(
            "couldn't get version/kind; json parse error: the request body is not a JSON object",
        )),
    }
}

fn parse_yaml(body: &[u8]) -> Result<json::Parsed, Status> {
    yaml::parse(body).map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(offer: Offer, accept: &str) -> Option<(Format, Form)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Accept::negotiate(&headers, offer).ok().map(|accept| (accept.format, accept.form))
    }

    #[test]
    fn wishes_are_met_in_order() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let metadata = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        for (accept, expected) in [
            ("application/json", Some((Format::Json, Form::Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Format::Protobuf, Form::Object))),
            ("application/vnd.kubernetes.protobuf", Some((Format::Protobuf, Form::Object))),
            ("application/vnd.kubernetes.protobuf;stream=watch", Some((Format::Protobuf, Form::Object))),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/json", Some((Format::Json, Form::Object))),
            ("*/*", Some((Format::Json, Form::Object))),
            ("application/yaml", Some((Format::Yaml, Form::Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Format::Json, Form::Table)),
            ),
            (&table.replace("json", "vnd.kubernetes.protobuf"), None),
            (
                &format!("{},application/json", table.replace("json", "vnd.kubernetes.protobuf")),
                Some((Format::Json, Form::Object)),
            ),
            (&format!("application/json;{metadata}"), Some((Format::Json, Form::PartialMetadata))),
            (
                &format!("application/vnd.kubernetes.protobuf;{metadata}"),
                Some((Format::Protobuf, Form::PartialMetadata)),
            ),
            ("application/json;as=Unknown;g=meta.k8s.io;v=v1,application/json", Some((Format::Json, Form::Object))),
            ("application/json;q=0.5,application/yaml", Some((Format::Yaml, Form::Object))),
            ("text/html", None),
        ] {
            assert_eq!(negotiate(Offer::OBJECTS, accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_has_no_messages_is_json() {
        let offer = Offer { protobuf: false, ..Offer::OBJECTS };
        let json = Some((Format::Json, Form::Object));
        assert_eq!(negotiate(offer, "application/vnd.kubernetes.protobuf,application/json"), json);
        assert_eq!(negotiate(offer, "application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn only_version_2_of_the_aggregated_document_is_served() {
        let clause =
            |media: &str, version: &str| format!("{media};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let (v2, v2beta1) = (clause(JSON, "v2"), clause(JSON, "v2beta1"));
        for (accept, expected) in [
            (format!("{v2},{v2beta1},application/json"), Some((Format::Json, Form::Discovery))),
            (format!("{v2beta1},application/json"), Some((Format::Json, Form::Object))),
            (format!("{},{v2}", clause(PROTOBUF, "v2")), Some((Format::Protobuf, Form::Discovery))),
            (JSON.to_owned(), Some((Format::Json, Form::Object))),
        ] {
            assert_eq!(negotiate(Offer::DISCOVERY, &accept), expected, "{accept}");
        }
        assert_eq!(negotiate(Offer::OBJECTS, &v2), None);
    }
}
