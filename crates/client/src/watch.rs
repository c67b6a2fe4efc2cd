//! The stream of a watch: one JSON object per event, decoded once.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use net::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, Kind, Page, Result, TransportError, WatchEvent, WatchEvents};

/// Turns a response body into events. Frames are separated by newlines, as the API server writes them.
pub(crate) fn events<K: Kind>(body: Body) -> WatchEvents<K> {
    let frames = Frames { body, buffer: BytesMut::new(), ended: false };
    stream::unfold(frames, |mut frames| async move {
        match frames.next().await {
            Ok(Some(frame)) => Some((event::<K>(&frame), frames)),
            Ok(None) => None,
            Err(error) => {
                frames.ended = true;
                Some((Err(error), frames))
            }
        }
    })
    .boxed()
}

struct Frames {
    body: Body,
    buffer: BytesMut,
    ended: bool,
}

impl Frames {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let frame = self.buffer.split_to(end);
                self.buffer.advance(1);
                if frame.is_empty() {
                    continue;
                }
                return Ok(Some(frame.freeze()));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => return Err(TransportError { server: "watch".into(), source }.into()),
                None => self.ended = true,
            }
        }
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

fn event<K: Kind>(frame: &[u8]) -> Result<WatchEvent<K>> {
    let bad = |error: serde_json::Error| Error::Decode { what: "watch event".into(), message: error.to_string() };
    let frame: Frame = serde_json::from_slice(frame).map_err(bad)?;
    let object = frame.object.get().as_bytes();
    match frame.kind {
        "ADDED" => Ok(WatchEvent::Added(K::decode(object).map_err(bad)?)),
        "MODIFIED" => Ok(WatchEvent::Modified(K::decode(object).map_err(bad)?)),
        "DELETED" => Ok(WatchEvent::Deleted(K::decode(object).map_err(bad)?)),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_slice(object).map_err(bad)?;
            Ok(WatchEvent::Bookmark {
                initial_events_end: bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end"),
                resource_version: bookmark.metadata.resource_version,
            })
        }
        "ERROR" => Err(Error::Status(Box::new(serde_json::from_slice(object).map_err(bad)?))),
        other => Err(Error::Decode { what: "watch event".into(), message: format!("unknown type {other:?}") }),
    }
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

/// A list's items one by one: their slices are decoded with the kind's one decoder. List items carry no kind and
/// apiVersion of their own where they come from upstream's server; the decoder does not ask for them. An item that cannot be
/// read is logged and left out: it must not keep a component from all the others.
pub(crate) fn decode_list<K: Kind>(json: &[u8]) -> Result<Page<K>> {
    let bad = |error: serde_json::Error| Error::Decode { what: format!("{}List", K::KIND), message: error.to_string() };
    let list: List = serde_json::from_slice(json).map_err(bad)?;
    let read = |item: &&RawValue| {
        let read = K::decode(item.get().as_bytes());
        read.inspect_err(|error| {
            let start: String = item.get().chars().take(200).collect();
            tracing::error!(kind = K::KIND, %error, object = start, "an object cannot be read and is left out");
        })
        .ok()
    };
    let items = list.items.unwrap_or_default().iter().filter_map(read).collect();
    let token = list.metadata.continue_token;
    Ok(Page {
        items,
        resource_version: list.metadata.resource_version,
        continue_token: (!token.is_empty()).then_some(token),
    })
}
