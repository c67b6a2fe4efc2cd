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

/// A user and its password, a user and its role, or a role: on the wire the names of fields do not matter.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, tag = "2")]
    second: String,
}

#[derive(Clone, PartialEq, Message)]
struct Grant {
    #[prost(string, tag = "1")]
    role: String,
    #[prost(message, optional, tag = "2")]
    permission: Option<Permission>,
}

#[derive(Clone, PartialEq, Message)]
struct Permission {
    /// 2 is to read and write.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    range_end: Vec<u8>,
}

pub struct Admin(Channel);

impl Admin {
    pub async fn connect(address: &str) -> Admin {
        let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap();
        let connected = async {
            loop {
                if let Ok(channel) = endpoint.connect().await {
                    return Admin(channel);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("the member listens")
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

    /// Users: `root`, who may everything, and `some`, who may what is under `/registry/`. Their passwords are `secret`.
    pub async fn enable_users(&self) {
        for (path, first, second) in [
            ("/etcdserverpb.Auth/UserAdd", "root", "secret"),
            ("/etcdserverpb.Auth/RoleAdd", "root", ""),
            ("/etcdserverpb.Auth/UserGrantRole", "root", "root"),
            ("/etcdserverpb.Auth/UserAdd", "some", "secret"),
            ("/etcdserverpb.Auth/RoleAdd", "registry", ""),
            ("/etcdserverpb.Auth/UserGrantRole", "some", "registry"),
        ] {
            let _: Empty = self.call(path, Names { first: first.into(), second: second.into() }).await.unwrap();
        }
        let permission = Permission { kind: 2, key: b"/registry/".to_vec(), range_end: b"/registry0".to_vec() };
        let grant = Grant { role: "registry".into(), permission: Some(permission) };
        let _: Empty = self.call("/etcdserverpb.Auth/RoleGrantPermission", grant).await.unwrap();
        let _: Empty = self.call("/etcdserverpb.Auth/AuthEnable", Empty {}).await.unwrap();
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
