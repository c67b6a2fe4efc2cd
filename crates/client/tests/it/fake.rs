//! An API server that follows a script: the requests it must get, in order, and what it answers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{Client, transport::Local};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use net::{Body, BoxError};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub enum Answer {
    Json(u16, Value),
    /// Events of a watch, then its end.
    Events(Vec<Value>, End),
}

pub enum End {
    Closed,
    Lost,
    /// Stays open for ever.
    Open,
}

#[derive(Clone, Default)]
pub struct Script {
    steps: Arc<Mutex<VecDeque<(String, Answer)>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// A request as `GET /path?query` or `WATCH /path?query`, without the parameters that every watch has.
    pub fn new(steps: impl IntoIterator<Item = (&'static str, Answer)>) -> Script {
        let steps = steps.into_iter().map(|(request, answer)| (request.to_owned(), answer)).collect();
        Script { steps: Arc::new(Mutex::new(steps)), wrong: Arc::default() }
    }

    pub fn client(&self) -> Client {
        let script = self.clone();
        client(move |request| script.answer(&request))
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let request = describe(request);
        match self.steps.lock().pop_front() {
            Some((expected, answer)) if expected == request => answer.response(),
            other => {
                let expected = other.map_or("nothing".to_owned(), |(expected, _)| expected);
                self.wrong.lock().push(format!("got {request}, expected {expected}"));
                json_response(500, &json!({}))
            }
        }
    }

    /// Waits until the script was followed to its end.
    pub async fn followed(&self) {
        until(|| !self.wrong.lock().is_empty() || self.steps.lock().is_empty()).await;
        // What comes on top of the script comes soon.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(self.wrong.lock().is_empty(), "{:#?}", self.wrong.lock());
    }
}

fn describe(request: &Request<Bytes>) -> String {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    let fixed =
        |part: &&str| !part.starts_with("timeoutSeconds=") && *part != "watch=1" && *part != "allowWatchBookmarks=true";
    let rest: Vec<&str> = query.split('&').filter(fixed).collect();
    let verb = if query.starts_with("watch=1&") { "WATCH" } else { request.method().as_str() };
    format!("{verb} {}?{}", uri.path(), rest.join("&"))
}

impl Answer {
    fn response(self) -> Response<Body> {
        let (events, end) = match self {
            Answer::Json(code, value) => return json_response(code, &value),
            Answer::Events(events, end) => (events, end),
        };
        let frames = events.into_iter().map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        let frames = stream::iter(frames);
        let lost: Result<Frame<Bytes>, BoxError> = Err("connection reset".into());
        Response::new(match end {
            End::Closed => StreamBody::new(frames).boxed_unsync(),
            End::Lost => StreamBody::new(frames.chain(stream::iter([lost]))).boxed_unsync(),
            End::Open => StreamBody::new(frames.chain(stream::pending())).boxed_unsync(),
        })
    }
}

pub fn json_response(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(net::full(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// A client of whatever `answer` answers.
pub fn client(answer: impl Fn(Request<Bytes>) -> Response<Body> + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let handler = move |request| {
        let answer = answer.clone();
        async move { answer(request) }.boxed()
    };
    Client::new(Arc::new(Local::new(Arc::new(handler))), "test")
}

/// Waits, in the time of the test, until something is so.
pub async fn until(so: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain");
}
