//! LIST: a sequence of shared byte chunks out of one immutable view.

use std::{ops::Bound, sync::Arc};

use api::{Status, Value, json, protobuf};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::Revision;

use super::{Answer, Call, list_options::ListOptions, read::parse_version, respond, store_status};
use crate::{
    cache::{Object, Shelf, Snapshot},
    filter::Filter,
    negotiate::{Form, Format},
};

/// Pieces above this size are shared with the cache, smaller ones are copied together.
const COPY_MAX: usize = 4 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// A body out of many pieces.
#[derive(Default)]
struct Chunks {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Chunks {
    fn copy(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        if self.open.len() >= CHUNK_BYTES {
            self.close();
        }
    }

    fn share(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_MAX {
            return self.copy(&bytes);
        }
        self.close();
        self.done.push(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
    }

    fn into_response(mut self, format: Format) -> Response<net::Body> {
        self.close();
        let body = match self.done.len() {
            1 => net::full(self.done.swap_remove(0)),
            _ => {
                StreamBody::new(stream::iter(self.done.into_iter().map(|chunk| Ok(Frame::data(chunk))))).boxed_unsync()
            }
        };
        respond::streamed(format.content_type(), body)
    }
}

/// Where a paged list goes on: behind `after`, in the state of `revision`.
#[derive(Debug, PartialEq)]
struct Continue {
    revision: Revision,
    after: String,
}

impl Continue {
    fn encode(&self) -> String {
        let text = serde_json::json!({"v": "meta.k8s.io/v1", "rv": self.revision.0, "start": self.after}).to_string();
        URL_SAFE_NO_PAD.encode(text)
    }

    fn decode(token: &str) -> Option<Continue> {
        let text = URL_SAFE_NO_PAD.decode(token).ok()?;
        let tree: serde_json::Value = serde_json::from_slice(&text).ok()?;
        if tree.get("v")?.as_str()? != "meta.k8s.io/v1" {
            return None;
        }
        Some(Continue { revision: Revision(tree.get("rv")?.as_u64()?), after: tree.get("start")?.as_str()?.to_owned() })
    }
}

/// A page of a list.
struct Page {
    objects: Vec<Arc<Object>>,
    revision: Revision,
    next: Option<Continue>,
    remaining: u64,
}

impl Call<'_> {
    pub(super) async fn list(&self) -> Answer {
        let filter = Filter::new(self.query, &self.resource, &self.info.name)?;
        let page = self.page(&filter).await?;
        match self.accept.form {
            Form::Object if self.accept.format == Format::Json => Ok(self.stream(page)),
            Form::Object if self.accept.format == Format::Protobuf => self.stream_protobuf(page),
            Form::Table => self.table(page),
            form => self.whole(page, form),
        }
    }

    async fn page(&self, filter: &Filter) -> Result<Page, Status> {
        let shelf = self.server.cache.shelf(&self.resource).ok_or_else(Status::no_such_resource)?;
        let limit = ListOptions::of_list(self.query)?.limit;
        let token = self.query.get("continue").unwrap_or_default();
        let version = self.query.get("resourceVersion").unwrap_or_default();
        let matching = self.query.get("resourceVersionMatch").unwrap_or_default();
        let (snapshot, after) = if token.is_empty() {
            match (version, matching) {
                ("", _) => self.server.cache.wait_until_current().await?,
                ("0", _) => {}
                _ => self.wait_for_version(version).await?,
            }
            let snapshot = self.server.cache.view(&shelf);
            // A limit without a word on the match means the very version, as it did before there was such a word.
            let is_exact = matching == "Exact" || matching.is_empty() && limit > 0 && !matches!(version, "" | "0");
            if is_exact && parse_version(version)? != snapshot.revision {
                let gone = || Status::expired("The resourceVersion for the provided list is too old.");
                (self.view_at(&shelf, parse_version(version)?, gone).await?, None)
            } else {
                (snapshot, None)
            }
        } else {
            let at = Continue::decode(token)
                .ok_or_else(|| Status::bad_request("continue key is not valid: it was not made by this server"))?;
            // Another server may have begun this list.
            self.wait_for_version(&at.revision.to_string()).await?;
            (self.view_at(&shelf, at.revision, too_old).await?, Some(at.after))
        };
        let page = cut(&snapshot, &self.namespace_prefix(), after.as_deref(), limit, filter);
        if page.next.is_some() {
            self.server.pages.keep(&shelf, &snapshot);
        }
        Ok(page)
    }

    /// The objects as they were at `revision`: from what is kept, else from the store's history.
    async fn view_at(&self, shelf: &Shelf, revision: Revision, gone: fn() -> Status) -> Result<Snapshot, Status> {
        if let Some(view) = self.server.pages.at(shelf, revision) {
            return Ok(view);
        }
        match self.server.cache.view_at(shelf, revision).await {
            Ok(view) => {
                self.server.pages.keep(shelf, &view);
                Ok(view)
            }
            Err(store::Error::Compacted { .. }) => Err(gone()),
            Err(error) => Err(store_status(error)),
        }
    }

    fn head(&self, page: &Page) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        let kind = &self.resource.kind;
        head.extend_from_slice(
            format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":",
                self.resource.list_kind(),
                kind.api_version()
            )
            .as_bytes(),
        );
        json::write(&list_meta(page), &mut head);
        head
    }

    fn stream(&self, page: Page) -> Response<net::Body> {
        let mut chunks = Chunks::default();
        chunks.copy(&self.head(&page));
        chunks.copy(b",\"items\":[");
        for (index, object) in page.objects.iter().enumerate() {
            chunks.copy(if index == 0 { b"{" } else { b",{" });
            chunks.share(object.item_of(&self.resource));
        }
        chunks.copy(b"]}\n");
        chunks.into_response(Format::Json)
    }

    /// The same in protobuf, out of the objects' own messages.
    fn stream_protobuf(&self, page: Page) -> Answer {
        let messages: Result<Vec<Bytes>, _> =
            page.objects.iter().map(|object| object.message(&self.resource)).collect();
        let messages = messages.map_err(Status::internal)?;
        let heads: Vec<Vec<u8>> = messages.iter().map(|message| protobuf::item_head(message.len())).collect();
        let size = messages.iter().zip(&heads).map(|(message, head)| message.len() + head.len()).sum();
        let meta_type =
            self.server.model.find("meta.v1.ListMeta").ok_or_else(|| Status::internal("no type ListMeta"))?;
        let meta = protobuf::message(self.server.model, meta_type, &list_meta(&page)).map_err(Status::internal)?;
        let kind = &self.resource.kind;
        let mut chunks = Chunks::default();
        chunks.copy(&protobuf::list_head(&kind.api_version(), &self.resource.list_kind(), &meta, size));
        for (head, message) in heads.iter().zip(messages) {
            chunks.copy(head);
            chunks.share(message);
        }
        chunks.copy(protobuf::LIST_TAIL);
        Ok(chunks.into_response(Format::Protobuf))
    }

    fn table(&self, page: Page) -> Answer {
        let trees: Vec<Value> = page.objects.iter().map(|object| object.tree()).collect();
        let rows = crate::table::Rows::List { meta: list_meta(&page) };
        let table = self.as_table(&trees, rows);
        respond::respond_json(StatusCode::OK, self.accept.format, table.to_json().into())
    }

    /// A list that is made as a whole: as YAML, or of metadata alone.
    fn whole(&self, page: Page, form: Form) -> Answer {
        let mut out = BytesMut::new();
        if form == Form::PartialMetadata {
            out.put_slice(b"{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
            out.put_slice(&list_meta(&page).to_json());
        } else {
            out.put_slice(&self.head(&page));
        }
        out.put_slice(b",\"items\":[");
        for (index, object) in page.objects.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            match form {
                Form::PartialMetadata => out.put_slice(&respond::partial(&object.tree()).to_json()),
                _ => out.put_slice(&object.as_version(&self.resource)),
            }
        }
        out.put_slice(b"]}\n");
        respond::respond_json(StatusCode::OK, self.accept.format, out.freeze())
    }
}

fn list_meta(page: &Page) -> Value {
    let mut meta = Value::object();
    meta.set(&["resourceVersion"], page.revision.to_string());
    if let Some(next) = &page.next {
        meta.set(&["continue"], next.encode());
        if page.remaining > 0 {
            meta.set(&["remainingItemCount"], page.remaining as i64);
        }
    }
    meta
}

fn too_old() -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
    )
}

/// Up to `limit` (0: all) matching objects under `prefix`, behind `after`.
fn cut(snapshot: &Snapshot, prefix: &str, after: Option<&str>, limit: usize, filter: &Filter) -> Page {
    let start: Bound<&str> = match after {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let mut page = Page { objects: Vec::new(), revision: snapshot.revision, next: None, remaining: 0 };
    let in_range =
        snapshot.objects.range::<_, str>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
    for (_, object) in in_range {
        if limit > 0 && page.objects.len() == limit {
            if page.next.is_none() {
                let after = page.objects.last().map(|last| last.key.to_string()).unwrap_or_default();
                page.next = Some(Continue { revision: snapshot.revision, after });
            }
            // How many remain is told only where no selector makes it expensive, as upstream.
            if !filter.is_everything() {
                break;
            }
            page.remaining += 1;
            continue;
        }
        if filter.matches(object) {
            page.objects.push(object.clone());
        }
    }
    page
}
