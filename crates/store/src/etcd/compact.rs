//! Compaction by one API server at a time. As upstream's apiserver/pkg/storage/etcd3/compact.go, with the same key, so that
//! upstream's servers and ours on one etcd take turns: whoever raises the key's version compacts what was the newest
//! revision one interval ago; the others wait another interval.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tonic::Code;

use super::{
    COMPACT, TXN,
    client::{Client, Denial, revision_of},
    proto, signed,
};
use crate::Error;

const KEY: &[u8] = b"compact_rev_key";

/// What a server knows of the last compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    /// Version of the key: how often it was raised.
    version: i64,
    /// The newest revision when we last looked.
    revision: u64,
}

/// Runs until the client is closed.
pub(super) async fn run(client: Arc<Client>, interval: Duration) {
    let mut turn = Turn::default();
    loop {
        tokio::select! {
            () = client.closed.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match take(&client, turn).await {
            Ok(next) => turn = next,
            Err(Error::Closed) => return,
            Err(error) => tracing::warn!(%error, "compacting etcd failed; trying again in {interval:?}"),
        }
    }
}

/// One turn: ours where nobody raised the version since.
async fn take(client: &Client, turn: Turn) -> crate::Result<Turn> {
    let answer: proto::TxnResponse = client.write(TXN, raise(turn)).await?;
    let revision = revision_of(answer.header);
    if !answer.succeeded {
        let current = answer.responses.into_iter().next().and_then(|response| response.range);
        let version = current.and_then(|range| range.kvs.into_iter().next()).map_or(0, |kv| kv.version);
        return Ok(Turn { version, revision });
    }
    let next = Turn { version: turn.version + 1, revision };
    if turn.revision == 0 {
        // There is no interval behind us yet.
        return Ok(next);
    }
    let request = proto::CompactionRequest { revision: signed(turn.revision) };
    let answer: Result<proto::CompactionResponse, Denial> =
        client.read(COMPACT, request, client.options.timeouts.list).await;
    match answer {
        Ok(_) => tracing::debug!(revision = turn.revision, "compacted etcd"),
        // Somebody else has compacted further.
        Err(Denial::Refused(failure)) if failure.code == Code::OutOfRange => {}
        Err(denial) => return Err(denial.into()),
    }
    Ok(next)
}

fn raise(turn: Turn) -> proto::TxnRequest {
    let key = Bytes::from_static(KEY);
    let compare = proto::Compare {
        result: 0,
        target: proto::CompareTarget::Version.into(),
        key: key.clone(),
        version: Some(turn.version),
        mod_revision: None,
    };
    let put = proto::PutRequest { key: key.clone(), value: turn.revision.to_string().into(), lease: 0 };
    let get = proto::RangeRequest { key, ..Default::default() };
    proto::TxnRequest {
        compare: vec![compare],
        success: vec![proto::RequestOp { put: Some(put), ..Default::default() }],
        failure: vec![proto::RequestOp { range: Some(get), ..Default::default() }],
    }
}
