//! Operations before they are written in a dialect, and the parameters that they share.

use crate::model::{Gvk, TypeId};

/// HTTP method, in OpenAPI's spelling.
pub(super) type Method = &'static str;

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub method: Method,
    /// `listCoreV1NamespacedPod`
    pub id: String,
    /// `core_v1`
    pub tag: String,
    /// `x-kubernetes-action`; none for discovery.
    pub action: Option<&'static str>,
    pub kind: Option<Gvk>,
    pub parameters: Vec<&'static Parameter>,
    pub body: Body,
    pub response: Response,
    /// The codes of success.
    pub codes: &'static [u16],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Body {
    None,
    /// An object that must be there.
    Object(TypeId),
    /// `DeleteOptions`, which may be left out.
    Options(TypeId),
    Patch(TypeId),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Response {
    Object(TypeId),
    /// An object in JSON alone.
    Json(TypeId),
    /// A list or a stream of events.
    Stream(TypeId),
    /// Text of any media type.
    Text,
    /// A pod's log.
    Log,
    /// A document that is no object of the API, of this media type.
    Document(&'static str),
}

impl Operation {
    pub fn types(&self) -> impl Iterator<Item = TypeId> {
        let body = match self.body {
            Body::None => None,
            Body::Object(ty) | Body::Options(ty) | Body::Patch(ty) => Some(ty),
        };
        let response = match self.response {
            Response::Object(ty) | Response::Json(ty) | Response::Stream(ty) => Some(ty),
            Response::Text | Response::Log | Response::Document(_) => None,
        };
        body.into_iter().chain(response)
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: &'static str,
    pub place: Place,
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Query,
    Path,
}

const fn query(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, place: Place::Query, description }
}

const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "string", place: Place::Path, description }
}

macro_rules! parameters {
    ($($constant:ident = $value:expr;)*) => {
        $(pub(super) static $constant: Parameter = $value;)*
        /// All parameters there are.
        pub(super) static ALL: &[&Parameter] = &[$(&$constant),*];
    };
}

parameters! {
    ALLOW_WATCH_BOOKMARKS = query("allowWatchBookmarks", "boolean", "Asks for events of type BOOKMARK, which say how far the watch has come.");
    COMMAND = query("command", "string", "The command to run, one parameter for each of its words. It is not run in a shell.");
    CONTAINER = query("container", "string", "The container; may be left out where the pod has only one.");
    CONTINUE = query("continue", "string", "The token that the last page of this list gave, to get the next one.");
    DRY_RUN = query("dryRun", "string", "With All, every step is taken but nothing is stored.");
    FIELD_MANAGER = query("fieldManager", "string", "Who makes the change; recorded as the manager of the changed fields.");
    FIELD_SELECTOR = query("fieldSelector", "string", "Narrows the result to objects with these values of fields.");
    FIELD_VALIDATION = query("fieldValidation", "string", "What becomes of unknown and duplicate fields: Ignore, Warn (as if left out) or Strict.");
    FOLLOW = query("follow", "boolean", "Keeps sending what is logged from now on.");
    FORCE = query("force", "boolean", "Takes over fields that others manage; only for apply patches.");
    GRACE_PERIOD_SECONDS = query("gracePeriodSeconds", "integer", "Seconds until the object is deleted; 0 for at once.");
    IGNORE_READ_ERROR = query("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Deletes an object that cannot be read from the store, whatever follows from that.");
    INSECURE_BACKEND = query("insecureSkipTLSVerifyBackend", "boolean", "Does not check the certificate of the node that serves the log.");
    LABEL_SELECTOR = query("labelSelector", "string", "Narrows the result to objects with these labels.");
    LIMIT = query("limit", "integer", "How many objects to send at most; the list's metadata then has a token for the next page.");
    LIMIT_BYTES = query("limitBytes", "integer", "How many bytes of the log to send at most.");
    ORPHAN_DEPENDENTS = query("orphanDependents", "boolean", "Superseded by propagationPolicy.");
    PATH = query("path", "string", "The part of the path that is passed on.");
    PORTS = query("ports", "integer", "The ports to forward to; needed for WebSockets.");
    PRETTY = query("pretty", "string", "Asks for indented output.");
    PREVIOUS = query("previous", "boolean", "The log of the container's previous run.");
    PROPAGATION_POLICY = query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground.");
    RESOURCE_VERSION = query("resourceVersion", "string", "The version that the result is to be as new as, or exactly of.");
    RESOURCE_VERSION_MATCH = query("resourceVersionMatch", "string", "How resourceVersion is meant: NotOlderThan or Exact.");
    SEND_INITIAL_EVENTS = query("sendInitialEvents", "boolean", "Begins a watch with events for all objects there are, and a bookmark.");
    SHARD_SELECTOR = query("shardSelector", "string", "Narrows the result to one shard of the objects.");
    SINCE_SECONDS = query("sinceSeconds", "integer", "Only what was logged in so many seconds before now.");
    STDERR = query("stderr", "boolean", "Passes on what is written to standard error.");
    STDIN = query("stdin", "boolean", "Passes standard input on to the container.");
    STDOUT = query("stdout", "boolean", "Passes on what is written to standard output.");
    STREAM = query("stream", "string", "Which stream of the log: All, Stdout or Stderr.");
    TAIL_LINES = query("tailLines", "integer", "Only so many lines at the end of the log.");
    TIMEOUT_SECONDS = query("timeoutSeconds", "integer", "Ends the request after so many seconds.");
    TIMESTAMPS = query("timestamps", "boolean", "Puts the time before each line.");
    TTY = query("tty", "boolean", "Gives the command a terminal.");
    WATCH = query("watch", "boolean", "Sends changes as they happen in place of a list.");
    NAME = path("name", "The object's name.");
    NAMESPACE = path("namespace", "The object's namespace.");
    PATH_REST = path("path", "The part of the path that is passed on.");
}

pub(super) static LIST: &[&Parameter] = &[
    &ALLOW_WATCH_BOOKMARKS,
    &CONTINUE,
    &FIELD_SELECTOR,
    &LABEL_SELECTOR,
    &LIMIT,
    &RESOURCE_VERSION,
    &RESOURCE_VERSION_MATCH,
    &SEND_INITIAL_EVENTS,
    &SHARD_SELECTOR,
    &TIMEOUT_SECONDS,
    &WATCH,
];
pub(super) static WRITE: &[&Parameter] = &[&DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION];
pub(super) static DELETE: &[&Parameter] =
    &[&DRY_RUN, &GRACE_PERIOD_SECONDS, &IGNORE_READ_ERROR, &ORPHAN_DEPENDENTS, &PROPAGATION_POLICY];
pub(super) static DELETE_COLLECTION: &[&Parameter] = &[
    &CONTINUE,
    &DRY_RUN,
    &FIELD_SELECTOR,
    &GRACE_PERIOD_SECONDS,
    &IGNORE_READ_ERROR,
    &LABEL_SELECTOR,
    &LIMIT,
    &ORPHAN_DEPENDENTS,
    &PROPAGATION_POLICY,
    &RESOURCE_VERSION,
    &RESOURCE_VERSION_MATCH,
    &SEND_INITIAL_EVENTS,
    &SHARD_SELECTOR,
    &TIMEOUT_SECONDS,
];
pub(super) static LOG: &[&Parameter] = &[
    &CONTAINER,
    &FOLLOW,
    &INSECURE_BACKEND,
    &LIMIT_BYTES,
    &PREVIOUS,
    &SINCE_SECONDS,
    &STREAM,
    &TAIL_LINES,
    &TIMESTAMPS,
];

/// The parameters of a connection, by the kind of its options.
pub(super) fn connection(options: &str) -> &'static [&'static Parameter] {
    static ATTACH: &[&Parameter] = &[&CONTAINER, &STDERR, &STDIN, &STDOUT, &TTY];
    static EXEC: &[&Parameter] = &[&COMMAND, &CONTAINER, &STDERR, &STDIN, &STDOUT, &TTY];
    static PORT_FORWARD: &[&Parameter] = &[&PORTS];
    static PROXY: &[&Parameter] = &[&PATH];
    match options {
        "PodAttachOptions" => ATTACH,
        "PodExecOptions" => EXEC,
        "PodPortForwardOptions" => PORT_FORWARD,
        _ => PROXY,
    }
}
