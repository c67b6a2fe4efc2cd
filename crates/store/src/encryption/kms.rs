//! KMS v2: a plugin behind a unix socket keeps the key that encrypts our keys. As upstream's
//! apiserver/pkg/storage/value/encrypt/envelope/kmsv2 and the probes of encryptionconfig/config.go: one random seed is
//! encrypted by the plugin and used, through a key derived for each value, until the plugin changes its key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::UnixStream, sync::Mutex as AsyncMutex, time::Instant};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use super::{
    Failure,
    cipher::{Cipher, random},
    config::KmsPlugin,
};

/// How often a plugin is asked for its key, when it last answered and when it did not.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const ASK_AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The same where nothing can be written until it answers.
const ASK_AGAIN_SOON: Duration = Duration::from_secs(1);
/// How long a seed writes on while the plugin does not answer.
const WRITE_FOR: Duration = Duration::from_secs(180);
const KEY_ID_BYTES_MAX: usize = 1 << 10;
const SOURCE_BYTES_MAX: usize = 1 << 10;
const ANNOTATION_BYTES_MAX: usize = 32 << 10;
/// Opened keys kept: there is one for each start of a server and each key of the plugin.
const OPENED_MAX: usize = 4096;

/// What is stored (kmsv2/v2/api.proto).
#[derive(Clone, PartialEq, Message)]
struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    encrypted_dek_source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    #[prost(enumeration = "SourceType", tag = "5")]
    source_type: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum SourceType {
    AesGcmKey = 0,
    HkdfSha256XnonceAesGcmSeed = 1,
}

// k8s.io/kms/apis/v2/api.proto.

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

pub(super) struct Kms {
    plugin: KmsPlugin,
    channel: Channel,
    writer: AsyncMutex<Writer>,
    /// Keys that the plugin has decrypted, by all that was stored of them.
    opened: Mutex<HashMap<Vec<u8>, Arc<Cipher>>>,
}

/// What values are written with.
#[derive(Default)]
struct Writer {
    seed: Option<Seed>,
    /// When the plugin is asked again.
    ask_at: Option<Instant>,
    /// What was wrong when it was last asked.
    failure: String,
}

#[derive(Clone)]
struct Seed {
    cipher: Arc<Cipher>,
    /// Without the data.
    object: EncryptedObject,
    expires: Instant,
}

impl Kms {
    /// Connects when it is first needed. In a tokio runtime.
    pub fn new(plugin: KmsPlugin) -> Kms {
        let path = plugin.socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Kms { plugin, channel, writer: AsyncMutex::default(), opened: Mutex::default() }
    }

    pub async fn seal(&self, path: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failure> {
        let Seed { cipher, object, .. } = self.seed().await?;
        let encrypted_data = cipher.seal(path, plain)?;
        Ok(EncryptedObject { encrypted_data, ..object }.encode_to_vec())
    }

    pub async fn open(&self, path: &[u8], stored: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut object = EncryptedObject::decode(stored).map_err(|_| super::Refused)?;
        let data = std::mem::take(&mut object.encrypted_data);
        if data.is_empty() || !is_valid(&object) {
            return Err(super::Refused.into());
        }
        Ok(self.cipher_of(object).await?.open(path, &data)?)
    }

    /// Whether a stored object is encrypted with the key that the plugin has now.
    pub async fn would_write(&self, stored: &[u8]) -> bool {
        let Ok(object) = EncryptedObject::decode(stored) else { return false };
        self.seed().await.is_ok_and(|seed| seed.object.key_id == object.key_id)
    }

    /// The cipher of a stored key; asks the plugin where it is not known yet.
    async fn cipher_of(&self, object: EncryptedObject) -> Result<Arc<Cipher>, Failure> {
        let identity = object.encode_to_vec();
        if let Some(cipher) = self.opened.lock().get(&identity) {
            return Ok(Arc::clone(cipher));
        }
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: uid()?,
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let answer: DecryptResponse = self.call("/v2.KeyManagementService/Decrypt", request).await?;
        let cipher = match object.source_type() {
            SourceType::AesGcmKey => Cipher::aes_gcm(&answer.plaintext)?,
            SourceType::HkdfSha256XnonceAesGcmSeed => Cipher::seed(&answer.plaintext)?,
        };
        let cipher = Arc::new(cipher);
        self.remember(identity, &cipher);
        Ok(cipher)
    }

    fn remember(&self, identity: Vec<u8>, cipher: &Arc<Cipher>) {
        let mut opened = self.opened.lock();
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(identity, Arc::clone(cipher));
    }

    /// What to write with. A seed outlives its plugin for a while, so that a restart of that refuses no write.
    async fn seed(&self) -> Result<Seed, Failure> {
        let mut writer = self.writer.lock().await;
        let now = Instant::now();
        let usable = writer.seed.clone().filter(|seed| now < seed.expires);
        if writer.ask_at.is_some_and(|at| now < at) {
            return usable.ok_or_else(|| Failure::Unavailable(writer.failure.clone()));
        }
        match self.current(writer.seed.take(), now).await {
            Ok(seed) => {
                writer.seed = Some(seed.clone());
                writer.ask_at = Some(now + ASK_AGAIN);
                Ok(seed)
            }
            Err(failure) => {
                tracing::warn!(plugin = self.plugin.name, error = %failure, "a KMS plugin cannot be used to write");
                let pause = if usable.is_some() { ASK_AGAIN_AFTER_FAILURE } else { ASK_AGAIN_SOON };
                writer.seed.clone_from(&usable);
                (writer.ask_at, writer.failure) = (Some(now + pause), failure.to_string());
                usable.ok_or(failure)
            }
        }
    }

    /// The seed for the key that the plugin has now: the one before, where the key is the same.
    async fn current(&self, before: Option<Seed>, now: Instant) -> Result<Seed, Failure> {
        let status: StatusResponse = self.call("/v2.KeyManagementService/Status", StatusRequest {}).await?;
        if !["v2", "v2beta1"].contains(&status.version.as_str()) || status.healthz != "ok" {
            let StatusResponse { version, healthz, .. } = status;
            return Err(self.unavailable(&format!("it says to be {healthz:?}, version {version:?}")));
        }
        let expires = now + WRITE_FOR;
        if let Some(seed) = before.filter(|seed| seed.object.key_id == status.key_id) {
            return Ok(Seed { expires, ..seed });
        }
        let plaintext = random::<32>()?.to_vec();
        let cipher = Arc::new(Cipher::seed(&plaintext)?);
        let request = EncryptRequest { plaintext, uid: uid()? };
        let answer: EncryptResponse = self.call("/v2.KeyManagementService/Encrypt", request).await?;
        let object = EncryptedObject {
            encrypted_data: Vec::new(),
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            source_type: SourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        if object.key_id != status.key_id || !is_valid(&object) {
            return Err(
                self.unavailable("it encrypts with another key than it says to have, or its answer is too large")
            );
        }
        self.remember(object.encode_to_vec(), &cipher);
        Ok(Seed { cipher, object, expires })
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let call = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = http::uri::PathAndQuery::from_static(path);
            grpc.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await
        };
        match tokio::time::timeout(self.plugin.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => match status.code() {
                Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::DataLoss => {
                    tracing::error!(plugin = self.plugin.name, error = %status, "a KMS plugin refuses a request");
                    Err(super::Refused.into())
                }
                _ => Err(self.unavailable(status.message())),
            },
            Err(_) => Err(self.unavailable(&format!("no answer in {:?}", self.plugin.timeout))),
        }
    }

    fn unavailable(&self, why: &str) -> Failure {
        Failure::Unavailable(format!("KMS plugin {} at {}: {why}", self.plugin.name, self.plugin.socket.display()))
    }
}

fn is_valid(object: &EncryptedObject) -> bool {
    let annotations: usize = object.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    (1..=KEY_ID_BYTES_MAX).contains(&object.key_id.len())
        && (1..=SOURCE_BYTES_MAX).contains(&object.encrypted_dek_source.len())
        && annotations <= ANNOTATION_BYTES_MAX
        && SourceType::try_from(object.source_type).is_ok()
}

/// Names a request in the plugin's log.
fn uid() -> Result<String, super::Refused> {
    Ok(random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
