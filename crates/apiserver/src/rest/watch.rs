//! WATCH: the log of a shelf, filtered, as a stream of frames that all watchers share.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use api::Status;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::Revision;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Answer, Call, frames::Transform, list_options::ListOptions, read::parse_version, respond};
use crate::{
    Server,
    cache::{Event, EventKind, WatchCursor},
    filter::Filter,
};

/// Events handed to the connection at once.
const BATCH: usize = 128;
/// Bookmarks come about once a minute, as from upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Where a watch begins.
enum Start {
    /// With everything there is, as ADDED events; then a bookmark if the list was asked for as a stream.
    Everything {
        end_bookmark: bool,
    },
    After(Revision),
}

impl Call<'_> {
    pub(super) async fn watch(&self) -> Answer {
        // Left to us: 30 to 60 minutes, spread so that watches do not all end at once.
        let asked = ListOptions::of_watch(self.query)?.timeout.filter(|timeout| !timeout.is_zero());
        let timeout = asked.unwrap_or_else(|| Duration::from_secs(rand::random_range(1800..3600)));
        let filter = Filter::new(self.query, &self.resource, &self.info.name)?;
        let shelf = self.server.cache.shelf(&self.resource).ok_or_else(Status::no_such_resource)?;
        let start = self.start().await?;
        let mut backlog: VecDeque<Bytes> = VecDeque::new();
        let mut transform = Transform::of(self);
        let cursor = match start {
            Start::After(revision) => shelf.watch_after(revision),
            Start::Everything { end_bookmark } => {
                let view = self.server.cache.view(&shelf);
                let prefix = self.namespace_prefix();
                let present = view.under(&prefix);
                for (_, object) in present.filter(|(_, object)| filter.matches(object)) {
                    backlog.push_back(transform.object("ADDED", object));
                }
                if end_bookmark {
                    backlog.push_back(transform.bookmark(view.revision, true));
                }
                shelf.watch_after(view.revision)
            }
        };
        let cursor = match cursor {
            Ok(cursor) => Some(cursor),
            Err(expired) => {
                // A watch that cannot begin says so in its stream, as upstream's does.
                backlog.push_back(transform.error(&Status::expired(expired.to_string())));
                None
            }
        };
        let deadline = Instant::now() + timeout;
        let bookmarks = self.query.flag("allowWatchBookmarks");
        let watch = Watch {
            server: self.server.clone(),
            own_version: self.resource.is_storage_version(),
            namespace: if self.resource.namespaced { self.info.namespace.clone() } else { String::new() },
            filter,
            transform,
            backlog,
            cursor,
            deadline,
            bookmarks,
            wakes: Box::pin(sleep_until(next_wake(deadline, bookmarks))),
            ends: Box::pin(self.server.watches.clone().cancelled_owned()),
        };
        Ok(watch.into_response())
    }

    async fn start(&self) -> Result<Start, Status> {
        let version = self.query.get("resourceVersion").unwrap_or_default();
        let streamed = self.query.flag("sendInitialEvents");
        match version {
            "" => self.server.cache.wait_until_current().await?,
            "0" => {}
            _ => self.wait_for_version(version).await?,
        }
        if streamed || ((version.is_empty() || version == "0") && self.query.get("sendInitialEvents").is_none()) {
            return Ok(Start::Everything { end_bookmark: streamed && self.query.flag("allowWatchBookmarks") });
        }
        match version {
            "" | "0" => Ok(Start::After(self.server.cache.revision())),
            version => Ok(Start::After(parse_version(version)?)),
        }
    }
}

struct Watch {
    server: Arc<Server>,
    /// The watcher asked for the version that objects are stored as.
    own_version: bool,
    /// Empty for all namespaces.
    namespace: String,
    filter: Filter,
    transform: Transform,
    backlog: VecDeque<Bytes>,
    /// `None`: nothing comes behind the backlog.
    cursor: Option<WatchCursor>,
    deadline: Instant,
    /// Asked for.
    bookmarks: bool,
    /// At the deadline, or earlier for a bookmark. Kept, as is `ends`: a timer and a wait of its own for every event
    /// would cost more than the event does.
    wakes: Pin<Box<Sleep>>,
    ends: Pin<Box<WaitForCancellationFutureOwned>>,
}

fn next_wake(deadline: Instant, bookmarks: bool) -> Instant {
    if bookmarks { deadline.min(Instant::now() + BOOKMARK_EVERY) } else { deadline }
}

impl Watch {
    fn into_response(self) -> Response<net::Body> {
        let content_type = self.transform.content_type();
        let frames = stream::unfold(self, |mut watch| async move {
            let bytes = watch.next().await?;
            Some((Ok(Frame::data(bytes)), watch))
        });
        respond::streamed(content_type, StreamBody::new(frames).boxed_unsync())
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.backlog.pop_front() {
                return Some(bytes);
            }
            let cursor = self.cursor.as_mut()?;
            tokio::select! {
                biased;
                () = &mut self.ends => return None,
                events = cursor.next(BATCH) => {
                    // Fallen behind: the end of the stream makes the client start over.
                    for event in events? {
                        self.deliver(&event);
                    }
                }
                () = &mut self.wakes => {
                    if Instant::now() >= self.deadline {
                        return None;
                    }
                    self.wakes.as_mut().reset(next_wake(self.deadline, self.bookmarks));
                    self.bookmark();
                }
            }
        }
    }

    /// The event as this watcher's selector sees it: an object can come into and go out of view.
    fn deliver(&mut self, event: &Event) {
        if !self.namespace.is_empty() && event.object.namespace() != self.namespace {
            return;
        }
        let now = event.kind != EventKind::Deleted && self.filter.matches(&event.object);
        let before = event.previous.as_ref().is_some_and(|previous| self.filter.matches(previous));
        let kind = match (before, now) {
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
            (false, false) => return,
        };
        let bytes = self.transform.event(kind, event, self.own_version);
        self.backlog.push_back(bytes);
    }

    fn bookmark(&mut self) {
        // Published before the log is read: everything up to it has been delivered or is about to be.
        let revision = self.server.cache.revision();
        let Some(events) = self.cursor.as_mut().and_then(|cursor| cursor.take(usize::MAX)) else {
            self.cursor = None;
            return;
        };
        for event in events {
            self.deliver(&event);
        }
        self.backlog.push_back(self.transform.bookmark(revision, false));
    }
}
