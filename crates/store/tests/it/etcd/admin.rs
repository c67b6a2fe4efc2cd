//! What tests ask of etcd past the engine: leases, the leader, users, alarms, foreign keys.

use std::time::Duration;

use prost::Message;
use tonic::{Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct MemberStatus {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Leases {
    #[prost(message, repeated, tag = "2")]
    leases: Vec<Number>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeToLive {
    #[prost(int64, tag = "4")]
    granted: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// User and password, user and role, or role: the names etcd gives to the fields do not matter on the wire.
#[derive(Clone, PartialEq, Message)]
pub struct Names {
    #[prost(string, tag = "1")]
    pub first: String,
    #[prost(string, tag = "2")]
    pub second: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    #[prost(string, tag = "1")]
    pub role: String,
    #[prost(message, optional, tag = "2")]
    pub permission: Option<Permission>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Permission {
    /// 2 is to read and write.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub range_end: Vec<u8>,
}

pub struct Admin(Channel);

impl Admin {
    pub async fn connect(address: &str) -> Admin {
        let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap();
        loop {
            if let Ok(channel) = endpoint.connect().await {
                return Admin(channel);
            }
        }
    }

    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        Ok(grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await?.into_inner())
    }

    pub async fn status(&self) -> MemberStatus {
        self.call("/etcdserverpb.Maintenance/Status", Empty {}).await.unwrap()
    }

    pub async fn put(&self, key: &[u8], value: &[u8]) {
        let put = Put { key: key.to_vec(), value: value.to_vec() };
        let _: Empty = self.call("/etcdserverpb.KV/Put", put).await.unwrap();
    }

    /// Leases and how long they were granted for.
    pub async fn leases(&self) -> Vec<(i64, Duration)> {
        let leases: Leases = self.call("/etcdserverpb.Lease/LeaseLeases", Empty {}).await.unwrap();
        let mut all = Vec::new();
        for Number { id } in leases.leases {
            let time: TimeToLive = self.call("/etcdserverpb.Lease/LeaseTimeToLive", Number { id }).await.unwrap();
            all.push((id, Duration::from_secs(time.granted.try_into().unwrap())));
        }
        all
    }

    pub async fn revoke(&self, id: i64) {
        let _: Empty = self.call("/etcdserverpb.Lease/LeaseRevoke", Number { id }).await.unwrap();
    }
}
