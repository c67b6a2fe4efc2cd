//! The node's own log files and directories under `/logs/` (upstream `kubelet.go`, Run: a file server on `/var/log`).

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use futures_util::TryStreamExt;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use net::Body;
use tokio_util::io::ReaderStream;

use super::respond::{text, with_type};

/// What is at `path`, the part of a request's path behind `/logs/`, below `root`: a file's bytes or a directory's entries.
pub(super) async fn serve(root: &Path, path: &str) -> Response<Body> {
    let Some(inside) = within(path) else { return text(StatusCode::BAD_REQUEST, "invalid URL path") };
    let file = root.join(inside);
    let served = async {
        match tokio::fs::metadata(&file).await?.is_dir() {
            true if path.is_empty() || path.ends_with('/') => list(&file).await,
            true => Ok(moved(&format!("{}/", path.rsplit('/').next().unwrap_or_default()))),
            false if path.ends_with('/') => {
                Ok(moved(&format!("../{}", path.trim_end_matches('/').rsplit('/').next().unwrap_or_default())))
            }
            false => send(&file).await,
        }
    };
    served.await.unwrap_or_else(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        io::ErrorKind::PermissionDenied => text(StatusCode::FORBIDDEN, "403 Forbidden\n"),
        _ => text(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error\n"),
    })
}

/// The path without what would lead out of the root; `None` where a part of it does.
fn within(path: &str) -> Option<PathBuf> {
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    parts
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

/// Where a client goes on, relative to where it is.
fn moved(to: &str) -> Response<Body> {
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = header::HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn list(directory: &Path) -> io::Result<Response<Body>> {
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await?;
    while let Some(entry) = entries.next_entry().await? {
        let slash = if entry.file_type().await?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort_unstable();
    let line = |name: &String| {
        let html = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        format!("<a href=\"{}\">{html}</a>\n", escaped(name))
    };
    let lines: String = names.iter().map(line).collect();
    let page =
        format!("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n");
    Ok(with_type(StatusCode::OK, "text/html; charset=utf-8", page))
}

/// Percent-encoded as part of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/$&+,=@".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The file as it grows to at most its present size: one that is being written to does not keep the client for ever.
async fn send(file: &Path) -> io::Result<Response<Body>> {
    use tokio::io::AsyncReadExt;
    let opened = tokio::fs::File::open(file).await?;
    let length = opened.metadata().await?.len();
    let bytes = ReaderStream::new(opened.take(length)).map_ok(Frame::data).map_err(Into::into);
    let mut response = Response::new(StreamBody::new(bytes).boxed_unsync());
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(root: &Path, path: &str) -> (StatusCode, String, String) {
        let response = serve(root, path).await;
        let location = response.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, location.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn files_and_directories_are_served_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("pods")).unwrap();
        std::fs::write(root.join("a b.log"), "lines").unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        let (status, _, page) = get(&root, "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("<a href=\"a%20b.log\">a b.log</a>\n<a href=\"pods/\">pods/</a>"), "{page}");
        assert_eq!(get(&root, "a b.log").await, (StatusCode::OK, String::new(), "lines".into()));
        assert_eq!(get(&root, "pods").await.1, "pods/");
        assert_eq!(get(&root, "pods/").await.0, StatusCode::OK);
        assert_eq!(get(&root, "none").await.0, StatusCode::NOT_FOUND);
        for outside in ["../secret", "pods/../../secret", "/etc/passwd"] {
            assert_eq!(get(&root, outside).await.0, StatusCode::BAD_REQUEST, "{outside}");
        }
    }
}
