//! What keeps an informer's cache up to date: list, then watch from there, for ever (client-go `tools/cache/reflector.go`).

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Informer;
use crate::{Error, Kind, ListParams, Result, backoff::Backoff};

const PAGE: u32 = 500;
/// A watch is asked to last between this and twice this.
const WATCH_SECONDS_MIN: u32 = 300;
/// A watch that the server has not ended this long after it promised to is dead.
const OVERDUE: Duration = Duration::from_secs(30);
/// A watch that ended sooner and brought nothing is a failure.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// How a watch came to its end.
enum Ended {
    /// By the server's time-out, or after it brought something: the next may start at once.
    Normally,
    Failed(Error),
    TooShort,
}

pub(super) async fn run<K: Kind>(informer: Informer<K>, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = reflect(informer) => {}
    }
}

async fn reflect<K: Kind>(informer: Informer<K>) {
    let mut backoff = Backoff::reflector();
    // "0" is any state at hand, later the state shown (no going back in time), and empty the newest: what is asked for
    // when the state shown is not to be had.
    let mut version = "0".to_owned();
    loop {
        match list(&informer, &version).await {
            Ok(()) => {
                informer.shared.synced.send_replace(true);
                watch(&informer, &mut backoff).await;
                version.clear();
            }
            Err(error) => {
                if error.is_expired() || is_too_new(&error) {
                    version.clear();
                }
                tracing::warn!(kind = K::KIND, %error, "cannot list, trying again");
                backoff.wait().await;
            }
        }
    }
}

/// The server has not seen the asked resourceVersion yet, as after its data was restored from a backup.
fn is_too_new(error: &Error) -> bool {
    matches!(error, Error::Status(status) if status.has_cause("ResourceVersionTooLarge"))
}

async fn list<K: Kind>(informer: &Informer<K>, version: &str) -> Result<()> {
    let first = ListParams {
        limit: Some(PAGE),
        resource_version: (!version.is_empty()).then(|| version.to_owned()),
        ..informer.shared.params.clone()
    };
    let (objects, resource_version) = match pages(informer, first.clone()).await {
        // The rest of a list may expire between two pages; in one piece it cannot.
        Err((error, true)) if error.is_expired() => {
            pages(informer, ListParams { limit: None, ..first }).await.map_err(|(error, _)| error)?
        }
        pages => pages.map_err(|(error, _)| error)?,
    };
    informer.replace(objects, resource_version);
    Ok(())
}

/// All pages of a list; an error says whether it came after the first page.
async fn pages<K: Kind>(informer: &Informer<K>, first: ListParams) -> Result<(Vec<Arc<K>>, String), (Error, bool)> {
    let api = informer.shared.client.all::<K>();
    let mut objects = Vec::new();
    let mut params = first;
    loop {
        let page = api.list(&params).await.map_err(|error| (error, params.continue_token.is_some()))?;
        objects.extend(page.items.into_iter().map(|object| Arc::new(strip(object))));
        if page.continue_token.is_none() {
            return Ok((objects, page.resource_version));
        }
        params = ListParams { continue_token: page.continue_token, resource_version: None, ..params };
    }
}

/// Nobody behind a cache reads managedFields, and they are often the larger part of an object.
fn strip<K: Kind>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// Watches, one watch after the other, until the resourceVersion it stands at is no longer served.
async fn watch<K: Kind>(informer: &Informer<K>, backoff: &mut Backoff) {
    loop {
        match watch_once(informer, backoff).await {
            Ended::Normally => {}
            Ended::Failed(error) if error.is_expired() => {
                tracing::info!(kind = K::KIND, %error, "watch expired, listing again");
                // Without a pause a server that expires every watch would be listed without pause.
                return backoff.wait().await;
            }
            Ended::Failed(error) => {
                tracing::warn!(kind = K::KIND, %error, "watch failed, trying again");
                backoff.wait().await;
            }
            Ended::TooShort => backoff.wait().await,
        }
    }
}

async fn watch_once<K: Kind>(informer: &Informer<K>, backoff: &mut Backoff) -> Ended {
    let api = informer.shared.client.all::<K>();
    let seconds = rand::random_range(WATCH_SECONDS_MIN..2 * WATCH_SECONDS_MIN);
    let started = Instant::now();
    let deadline = started + Duration::from_secs(seconds.into()) + OVERDUE;
    let mut events = match api.watch(&informer.shared.params, &informer.last_resource_version(), seconds).await {
        Ok(events) => events,
        Err(error) => return Ended::Failed(error),
    };
    let mut brought_something = false;
    loop {
        let event = match tokio::time::timeout_at(deadline, events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Ended::Failed(error),
            Ok(None) if !brought_something && started.elapsed() < SHORT_WATCH => return Ended::TooShort,
            Ok(None) | Err(_) => return Ended::Normally,
        };
        if !brought_something {
            brought_something = true;
            backoff.reset();
        }
        informer.change(|cache| cache.apply(event.map(strip)));
    }
}
