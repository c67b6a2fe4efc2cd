//! SPDY's frames as bytes. Pure.

use std::io;

use bytes::{Buf, Bytes, BytesMut};

const CONTROL: u32 = 0x8000_0000;
const VERSION: u32 = 3 << 16;
const HEAD_BYTES: usize = 8;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;

/// A frame's length has 24 bits; this much is sent in one.
pub const DATA_MAX: usize = 1 << 20;

/// What a reader has to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        data: Bytes,
        last: bool,
    },
    /// The other side gave the stream up.
    Reset {
        stream: u32,
    },
    Ping(u32),
    GoAway,
    /// Replies, settings, windows: nothing depends on them.
    Other,
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend_from_slice(&(CONTROL | VERSION | u32::from(kind)).to_be_bytes());
    frame.extend_from_slice(&length(flags, body.len()));
    frame.extend_from_slice(body);
    frame
}

fn length(flags: u8, bytes: usize) -> [u8; 4] {
    let [_, a, b, c] = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    [flags, a, b, c]
}

/// `headers`: the compressed block.
pub fn syn_stream(id: u32, headers: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    // Associated with no other stream, the highest priority, no credentials.
    body.extend_from_slice(&[0; 6]);
    body.extend_from_slice(headers);
    control(SYN_STREAM, 0, &body)
}

pub fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

pub fn data_head(stream: u32, bytes: usize, last: bool) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&(stream & !CONTROL).to_be_bytes());
    head[4..].copy_from_slice(&length(if last { FIN } else { 0 }, bytes));
    head
}

/// The first frame of `buffer`, once all of it is there.
pub fn take(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    if buffer.len() < HEAD_BYTES {
        return Ok(None);
    }
    let first = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
    let (flags, bytes) = (buffer[4], u32::from_be_bytes([0, buffer[5], buffer[6], buffer[7]]) as usize);
    if buffer.len() < HEAD_BYTES + bytes {
        buffer.reserve(HEAD_BYTES + bytes - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let mut body = buffer.split_to(bytes).freeze();
    if first & CONTROL == 0 {
        return Ok(Some(Frame::Data { stream: first, data: body, last: flags & FIN != 0 }));
    }
    let kind = (first & 0xffff) as u16;
    if matches!(kind, PING | RST_STREAM) && body.len() < 4 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(match kind {
        PING => Frame::Ping(body.get_u32()),
        RST_STREAM => Frame::Reset { stream: body.get_u32() },
        GO_AWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut wire = BytesMut::new();
        wire.extend_from_slice(&data_head(5, 3, true));
        wire.extend_from_slice(b"abc");
        wire.extend_from_slice(&ping(7));
        wire.extend_from_slice(&syn_stream(1, b"headers"));
        wire.extend_from_slice(&control(RST_STREAM, 0, &[0, 0, 0, 3, 0, 0, 0, 5]));
        wire.extend_from_slice(&control(GO_AWAY, 0, &[0; 8]));
        let all = wire.split().freeze();
        let mut frames = Vec::new();
        // A byte at a time: nothing comes out before it is whole.
        for byte in all {
            wire.extend_from_slice(&[byte]);
            frames.extend(take(&mut wire).expect("frames"));
        }
        let data = Frame::Data { stream: 5, data: Bytes::from_static(b"abc"), last: true };
        assert_eq!(frames, [data, Frame::Ping(7), Frame::Other, Frame::Reset { stream: 3 }, Frame::GoAway]);
        assert!(take(&mut BytesMut::from(&control(PING, 0, &[1])[..])).is_err());
    }
}
