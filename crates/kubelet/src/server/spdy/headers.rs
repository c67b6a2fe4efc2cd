//! SPDY's header blocks: one zlib stream a connection and direction, begun with a dictionary that both sides know.

use flate2::{Compress, Compression, FlushCompress};

use super::SpdyError;

/// The dictionary's words; each comes with its length before it.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
    age allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// What follows the words.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8\
    charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split_whitespace() {
        put(&mut bytes, &word.replace('_', " "));
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// The sending direction of one connection.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub fn new() -> Result<Compressor, SpdyError> {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).map_err(|error| SpdyError::Headers(error.to_string()))?;
        Ok(Compressor(compress))
    }

    pub fn compress(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut block = u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for (name, value) in headers {
            put(&mut block, name);
            put(&mut block, value);
        }
        // Blocks are small: twice their size and some is room for any outcome.
        let mut out = Vec::with_capacity(block.len() * 2 + 64);
        let failed = |error: flate2::CompressError| SpdyError::Headers(error.to_string());
        self.0.compress_vec(&block, &mut out, FlushCompress::Sync).map_err(failed)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    #[test]
    fn blocks_can_be_read_with_the_protocols_dictionary() {
        let mut compressor = Compressor::new().expect("compressor");
        let mut decompress = Decompress::new(true);
        for (at, name) in ["error", "stdout"].into_iter().enumerate() {
            let block = compressor.compress(&[("streamtype", name)]).expect("block");
            let mut out = Vec::with_capacity(256);
            if at == 0 {
                // The first block names its dictionary by checksum: 0xe3c6a7c2 is that of SPDY/3.
                let needs = decompress.decompress_vec(&block, &mut out, FlushDecompress::Sync);
                assert_eq!(needs.expect_err("no dictionary yet").needs_dictionary(), Some(0xe3c6_a7c2));
                decompress.set_dictionary(&dictionary()).expect("the dictionary");
                let rest = &block[decompress.total_in() as usize..];
                decompress.decompress_vec(rest, &mut out, FlushDecompress::Sync).expect("headers");
            } else {
                decompress.decompress_vec(&block, &mut out, FlushDecompress::Sync).expect("headers");
            }
            let mut expect = vec![0, 0, 0, 1, 0, 0, 0, 10];
            expect.extend_from_slice(b"streamtype");
            put(&mut expect, name);
            assert_eq!(out, expect);
        }
    }
}
