//! HTTP/1.1 bodies as they arrive: of a known length, or in chunks.

use std::io;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Size {
        bytes: u64,
        extension: bool,
    },
    Data {
        left: u64,
    },
    /// The line end after a chunk.
    DataEnd,
    /// Lines after the last chunk, the empty one of which ends the body.
    Trailer {
        empty: bool,
    },
    Done,
}

impl Body {
    pub const CHUNKED: Body = Body::Chunked(Chunk::Size { bytes: 0, extension: false });

    pub fn is_done(self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::Done))
    }

    /// Takes what belongs to the body from the front of `bytes`, hands its data to `sink`, and says how much it took.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut used = 0;
        while used < bytes.len() && !self.is_done() {
            let rest = &bytes[used..];
            used += match self {
                Body::Length(left) => data(left, rest, sink),
                Body::Chunked(Chunk::Data { left }) => {
                    let taken = data(left, rest, sink);
                    if *left == 0 {
                        *self = Body::Chunked(Chunk::DataEnd);
                    }
                    taken
                }
                Body::Chunked(chunk) => {
                    *chunk = chunk.framing(rest[0])?;
                    1
                }
                Body::UntilClose => {
                    sink(rest);
                    rest.len()
                }
            };
        }
        Ok(used)
    }
}

fn data(left: &mut u64, rest: &[u8], sink: &mut impl FnMut(&[u8])) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
    sink(&rest[..taken]);
    *left -= taken as u64;
    taken
}

impl Chunk {
    fn framing(self, byte: u8) -> io::Result<Chunk> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a chunked body");
        Ok(match (self, byte) {
            (Chunk::Size { bytes: 0, .. }, b'\n') => Chunk::Trailer { empty: true },
            (Chunk::Size { bytes, .. }, b'\n') => Chunk::Data { left: bytes },
            (Chunk::Size { bytes, .. }, b';' | b' ' | b'\r') => Chunk::Size { bytes, extension: true },
            (size @ Chunk::Size { extension: true, .. }, _) => size,
            (Chunk::Size { bytes, .. }, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or_else(bad)?;
                let bytes = bytes.checked_mul(16).and_then(|bytes| bytes.checked_add(digit.into())).ok_or_else(bad)?;
                Chunk::Size { bytes, extension: false }
            }
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::Size { bytes: 0, extension: false },
            (Chunk::Trailer { empty: true }, b'\n') => Chunk::Done,
            (Chunk::Trailer { .. }, b'\n') => Chunk::Trailer { empty: true },
            (Chunk::Trailer { empty }, b'\r') => Chunk::Trailer { empty },
            (Chunk::Trailer { .. }, _) => Chunk::Trailer { empty: false },
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that arrives in parts of a size, and what of the bytes it left.
    fn read(mut body: Body, bytes: &[u8], part: usize) -> (String, String, bool) {
        let (mut data, mut used) = (Vec::new(), 0);
        for part in bytes.chunks(part) {
            used += body.feed(part, &mut |bytes| data.extend_from_slice(bytes)).expect("a body");
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&data), text(&bytes[used..]), body.is_done())
    }

    #[test]
    fn bodies_are_the_same_in_parts_of_any_size() {
        let cases: [(Body, &str, &str, bool); 6] = [
            (Body::Length(5), "hello", "hello", true),
            (Body::Length(6), "hello", "hello", false),
            (Body::CHUNKED, "5\r\nhello\r\nB;x=y\r\n, my friend\r\n0\r\n\r\n", "hello, my friend", true),
            (Body::CHUNKED, "00a\r\n0123456789\r\n0\r\nExpires: never\r\nA: b\r\n\r\n", "0123456789", true),
            (Body::CHUNKED, "0\r\n\r\n", "", true),
            (Body::CHUNKED, "5\r\nhello\r\n", "hello", false),
        ];
        for (body, bytes, data, done) in cases {
            for part in 1..=bytes.len() {
                assert_eq!(
                    read(body, bytes.as_bytes(), part),
                    (data.into(), String::new(), done),
                    "{bytes:?} by {part}"
                );
            }
        }
    }

    #[test]
    fn what_follows_a_body_is_left() {
        assert_eq!(read(Body::CHUNKED, b"1\r\nx\r\n0\r\n\r\nHTTP", 64).1, "HTTP");
        assert_eq!(read(Body::Length(1), b"xHTTP", 64).1, "HTTP");
        assert_eq!(read(Body::UntilClose, b"all of it", 4), ("all of it".into(), String::new(), false));
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in ["x\r\n", "5\r\nhelloX", "fffffffffffffffff\r\n"] {
            assert!(Body::CHUNKED.clone().feed(bytes.as_bytes(), &mut |_| ()).is_err(), "{bytes:?}");
        }
    }
}
