//! A response body with something that lives as long as it does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::BoxError;

/// Drops `guard` with the body; says first whether the body came to its end.
pub(crate) struct Guarded<G: Guard> {
    body: Incoming,
    guard: Option<G>,
    /// A chunked body says that it is at its end only when it is asked for more.
    complete: bool,
}

pub(crate) trait Guard: Unpin {
    fn end(self, complete: bool);
}

impl<G: Guard> Guarded<G> {
    pub fn new(body: Incoming, guard: G) -> Self {
        Guarded { body, guard: Some(guard), complete: false }
    }
}

impl<G: Guard> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        this.complete |= matches!(frame, Poll::Ready(None));
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<G: Guard> Drop for Guarded<G> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.end(self.complete || self.body.is_end_stream());
        }
    }
}
