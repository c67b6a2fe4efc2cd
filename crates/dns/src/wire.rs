//! Messages in and out of bytes: what is refused before it is looked at, and what fits into a datagram.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RecordType},
};

/// The largest UDP payload offered and used: larger ones get lost in fragments (DNS flag day 2020).
pub(crate) const UDP_MAX: u16 = 1232;
/// What every resolver takes.
const UDP_MIN: u16 = 512;

/// Bytes that are no query to answer.
#[derive(Debug)]
pub enum Refused {
    /// Too short for a header, or itself a response: answering could make two servers talk for ever.
    Drop,
    Answer(Box<Message>),
}

/// A query with its one question, out of a datagram or a TCP frame.
pub fn parse_query(bytes: &[u8]) -> Result<(Message, Query), Refused> {
    let header = bytes.get(..12).ok_or(Refused::Drop)?;
    if header[2] & 0x80 != 0 {
        return Err(Refused::Drop);
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let error = |op_code, code| Err(Refused::Answer(Box::new(Message::error_msg(id, op_code, code))));
    let op_code = OpCode::from_u8(header[2] >> 3 & 0xf);
    if op_code != OpCode::Query {
        return error(op_code, ResponseCode::NotImp);
    }
    let Ok(message) = Message::from_vec(bytes) else { return error(op_code, ResponseCode::FormErr) };
    let [query] = message.queries.as_slice() else { return error(op_code, ResponseCode::FormErr) };
    let query = query.clone();
    let refusal = if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        Some(ResponseCode::BADVERS)
    } else if query.query_class() != DNSClass::IN || is_transfer(query.query_type()) {
        Some(ResponseCode::Refused)
    } else {
        None
    };
    match refusal {
        None => Ok((message, query)),
        Some(code) => {
            let mut response = response_to(&message);
            set_code(&mut response, code);
            Err(Refused::Answer(Box::new(response)))
        }
    }
}

fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}

/// An empty answer with the question of `request`, and EDNS where that has it.
pub(crate) fn response_to(request: &Message) -> Message {
    let mut response = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = true;
    response.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

pub(crate) fn set_code(response: &mut Message, code: ResponseCode) {
    response.metadata.response_code = code;
    if let Some(edns) = &mut response.edns {
        edns.set_rcode_high(code.high());
    }
}

/// How many bytes the sender of `request` takes in a datagram.
pub(crate) fn udp_limit(request: &Message) -> usize {
    let offered = request.edns.as_ref().map_or(UDP_MIN, Edns::max_payload);
    offered.clamp(UDP_MIN, UDP_MAX).into()
}

/// The bytes of a response of at most `limit`: without its additional records where they do not fit, then without
/// records and marked as truncated, so that the client asks again over TCP.
pub(crate) fn encode(response: &Message, limit: usize) -> Option<Vec<u8>> {
    let fits = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    let id = response.metadata.id;
    fits(response)
        .or_else(|| {
            let mut less = response.clone();
            less.additionals.clear();
            fits(&less)
        })
        .or_else(|| fits(&response.truncate()))
        .or_else(|| fits(&Message::error_msg(id, OpCode::Query, ResponseCode::ServFail)))
}
