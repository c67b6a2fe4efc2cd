//! HTTP/1.1 with no more than the generator needs: prebuilt bytes out, heads parsed in place, bodies handed on in parts.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Stream, body::Body};

/// More than any server sends.
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 64 << 10;

pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    /// What was read and not used yet.
    start: usize,
    end: usize,
    closing: bool,
}

struct Head {
    bytes: usize,
    status: u16,
    body: Body,
    closes: bool,
}

fn bad(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// `None` for a head that is not complete yet.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.ok_or_else(|| bad("an answer without status"))?;
    let (mut body, mut closes) = (Body::UntilClose, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            body = Body::Length(text.ok_or_else(|| bad("not a content length"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::CHUNKED;
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if status == 204 || status == 304 {
        body = Body::Length(0);
    }
    closes |= body == Body::UntilClose;
    Ok(Some(Head { bytes: length, status, body, closes }))
}

impl Connection {
    pub fn new(stream: Stream, read_bytes: usize) -> Connection {
        Connection { stream, buffer: vec![0; read_bytes], start: 0, end: 0, closing: false }
    }

    pub fn is_open(&self) -> bool {
        !self.closing
    }

    pub async fn exchange(&mut self, request: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<Answer> {
        // Until the answer was read to its end.
        self.closing = true;
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = self.head().await?;
        let (mut body, mut bytes) = (head.body, 0);
        let mut counted = |part: &[u8]| {
            bytes += part.len() as u64;
            sink(part);
        };
        loop {
            self.start += body.feed(&self.buffer[self.start..self.end], &mut counted)?;
            if body.is_done() {
                break;
            }
            match self.fill().await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && body == Body::UntilClose => break,
                filled => filled?,
            }
        }
        self.closing = head.closes;
        Ok(Answer { status: head.status, bytes })
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            if self.start < self.end
                && let Some(head) = parse(&self.buffer[self.start..self.end])?
            {
                self.start += head.bytes;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// Reads at least one byte more.
    async fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            if self.end >= HEAD_BYTES_MAX {
                return Err(bad("a head without end"));
            }
            self.buffer.resize(self.end * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_how_their_body_ends() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Some((200, Body::Length(12), false))),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Some((200, Body::CHUNKED, false))),
            (
                "HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\nConnection: close\r\n\r\n",
                Some((429, Body::Length(0), true)),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Some((200, Body::UntilClose, true))),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some((204, Body::Length(0), false))),
            ("HTTP/1.1 200 OK\r\nContent-Le", None),
        ];
        for (text, wanted) in cases {
            let head = parse(text.as_bytes()).expect("a head");
            assert_eq!(head.map(|head| (head.status, head.body, head.closes)), wanted, "{text:?}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n").is_err());
    }
}
