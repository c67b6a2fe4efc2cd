//! Upstreams' answers for as long as they say, and no longer than the server's own TTL. Bounded.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::RData,
};

/// What makes two questions the same, besides the name in whatever case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    name: String,
    kind: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl CacheKey {
    pub fn new(request: &Message, query: &Query) -> Self {
        CacheKey {
            name: crate::answer::key(query.name()),
            kind: query.query_type().into(),
            dnssec_ok: request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        }
    }
}

struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

pub(crate) struct Cache {
    entries: HashMap<CacheKey, Kept>,
    /// In the order they came; the oldest makes room.
    order: VecDeque<CacheKey>,
    capacity: usize,
    longest: Duration,
}

impl Cache {
    pub fn new(capacity: usize, longest: Duration) -> Self {
        Cache { entries: HashMap::new(), order: VecDeque::new(), capacity, longest }
    }

    /// With TTLs as they are by now.
    pub fn get(&self, key: &CacheKey, now: Instant) -> Option<Message> {
        let kept = self.entries.get(key).filter(|kept| now < kept.until)?;
        let age = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut message = kept.message.clone();
        let Message { answers, authorities, additionals, .. } = &mut message;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    pub fn put(&mut self, key: CacheKey, message: &Message, now: Instant) {
        let Some(life) = lifetime(message).map(|life| life.min(self.longest)).filter(|life| !life.is_zero()) else {
            return;
        };
        let kept = Kept { message: message.clone(), since: now, until: now + life };
        if self.entries.insert(key.clone(), kept).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > self.capacity {
            let Some(oldest) = self.order.pop_front() else { return };
            self.entries.remove(&oldest);
        }
    }
}

/// `None` for what must not be kept: failures, and absences without the SOA that says for how long (RFC 2308).
fn lifetime(message: &Message) -> Option<Duration> {
    let absence = || {
        message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        })
    };
    let seconds = match message.metadata.response_code {
        _ if message.metadata.truncation => None,
        ResponseCode::NoError if !message.answers.is_empty() => message.answers.iter().map(|record| record.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => absence(),
        _ => None,
    };
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::{
        op::{MessageType, OpCode},
        rr::{Name, Record, RecordType, rdata::A},
    };

    use super::*;

    fn message(name: &str, ttl: u32) -> (CacheKey, Message) {
        let name = Name::from_str(name).unwrap();
        let query = Query::query(name.clone(), RecordType::A);
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_query(query.clone());
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, 1))));
        (CacheKey::new(&message, &query), message)
    }

    #[test]
    fn answers_age_and_end() {
        let mut cache = Cache::new(2, Duration::from_secs(30));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (key, answer) = message("Example.com.", 20);
        cache.put(key, &answer, start);
        let (key, _) = message("example.COM.", 20);
        let ttl = |cache: &Cache, seconds| cache.get(&key, at(seconds)).map(|message| message.answers[0].ttl);
        assert_eq!([ttl(&cache, 0), ttl(&cache, 15), ttl(&cache, 20)], [Some(20), Some(5), None]);
        cache.put(key.clone(), &message("example.com.", 3600).1, at(20));
        assert_eq!([ttl(&cache, 49).is_some(), ttl(&cache, 50).is_some()], [true, false]);
    }

    #[test]
    fn failures_are_not_kept_and_the_oldest_makes_room() {
        let mut cache = Cache::new(2, Duration::from_secs(30));
        let now = Instant::now();
        let (key, mut failure) = message("a.", 20);
        failure.metadata.response_code = ResponseCode::ServFail;
        cache.put(key, &failure, now);
        for name in ["a.", "b.", "c."] {
            let (key, answer) = message(name, if name == "a." { 0 } else { 20 });
            cache.put(key, &answer, now);
        }
        assert_eq!(cache.entries.len(), 2);
        let (key, answer) = message("d.", 20);
        cache.put(key, &answer, now);
        let kept = ["b.", "c.", "d."].map(|name| cache.get(&message(name, 20).0, now).is_some());
        assert_eq!(kept, [false, true, true]);
    }
}
