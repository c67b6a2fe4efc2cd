//! Bytes of all kinds.

use dns::{Answer, Data, Index, Owner, Records, Refused, answer, parse_query};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use proptest::prelude::*;

use crate::{
    cluster::{cluster, start},
    queries::{ask, question, raw_udp},
};

#[tokio::test]
async fn what_is_no_question_is_refused_or_dropped() {
    let (server, _guard) = start(&cluster(), Vec::new()).await;
    let good = question("web.ns.svc.cluster.local.", RecordType::A);
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message.to_vec().unwrap()
    };
    let two = with(&|message| message.queries.push(good.queries[0].clone()));
    let chaos = with(&|message| {
        message.queries[0].set_query_class(DNSClass::CH);
    });
    let update = with(&|message| message.metadata.op_code = OpCode::Update);
    let none = with(&|message| message.queries.clear());
    let response = with(&|message| message.metadata.message_type = MessageType::Response);
    let mut garbage = good.to_vec().unwrap();
    garbage.truncate(20);
    let cases = [
        (two, Some(ResponseCode::FormErr)),
        (none, Some(ResponseCode::FormErr)),
        (garbage, Some(ResponseCode::FormErr)),
        (chaos, Some(ResponseCode::Refused)),
        (update, Some(ResponseCode::NotImp)),
        (response, None),
        (vec![1, 2, 3], None),
        (Vec::new(), None),
    ];
    for (bytes, expected) in cases {
        let answer = raw_udp(server, &bytes).await;
        let code = answer.map(|answer| ResponseCode::from_low(answer[3] & 15));
        assert_eq!(code, expected, "{bytes:?}");
    }
    assert_eq!(ask(server, "web.ns.svc.cluster.local.", RecordType::A).await.0, ResponseCode::NoError, "still there");
}

fn index() -> Index {
    let mut index = Index::default();
    let records = Records::from([
        ("web.ns.svc.cluster.local".to_owned(), vec![Data::Address("10.96.0.20".parse().unwrap())]),
        ("ns.pod.cluster.local".to_owned(), Vec::new()),
    ]);
    index.replace(&Owner::Zone, &Records::new(), &records);
    index
}

/// A valid message with some of its bytes changed, or anything at all.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let labels = proptest::collection::vec("[a-z0-9-]{1,12}", 0..6);
    let damaged = (labels, any::<u16>(), proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4))
        .prop_map(|(labels, kind, damage)| {
            let name = Name::from_labels(labels.iter().map(String::as_bytes)).unwrap();
            let mut message = Message::query();
            message.add_query(Query::query(name, RecordType::from(kind)));
            let mut bytes = message.to_vec().unwrap();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![damaged, proptest::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_harm(bytes in bytes()) {
        match parse_query(&bytes) {
            Ok((message, query)) => {
                prop_assert_eq!(message.queries.len(), 1);
                if let Answer::Here { answers, .. } = answer(&index(), "cluster.local", 30, &query, 7) {
                    let mut response = message.clone();
                    response.add_answers(answers);
                    prop_assert!(response.to_vec().is_ok());
                }
            }
            Err(Refused::Drop) => prop_assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
            Err(Refused::Answer(response)) => {
                prop_assert_eq!(response.metadata.id, u16::from_be_bytes([bytes[0], bytes[1]]));
                prop_assert_ne!(response.metadata.response_code, ResponseCode::NoError);
                prop_assert!(response.to_vec().is_ok());
            }
        }
    }
}

/// The promise is 100 µs in a release build; the time is printed, and held with room for this build.
#[test]
fn an_answer_takes_microseconds() {
    let mut index = Index::default();
    for number in 0..10_000u32 {
        let name = format!("s{number}.ns.svc.cluster.local");
        let data = vec![Data::Address(std::net::Ipv4Addr::from(0x0a60_0000 + number).into())];
        index.replace(&Owner::Namespace(name.clone()), &Records::new(), &Records::from([(name, data)]));
    }
    let bytes = question("s5000.ns.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    let started = std::time::Instant::now();
    for _ in 0..1000 {
        let (_, query) = parse_query(&bytes).unwrap();
        assert!(
            matches!(answer(&index, "cluster.local", 30, &query, 0), Answer::Here { answers, .. } if answers.len() == 1)
        );
    }
    let each = started.elapsed() / 1000;
    println!("decoding and answering one question of 10,000 services: {each:?}");
    assert!(each < std::time::Duration::from_millis(2), "{each:?}");
}
