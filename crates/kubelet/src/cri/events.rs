//! Where news from the runtime comes from: CRI's GetContainerEvents, or, where that is missing (containerd 1.6), the event
//! service that containerd serves on the same socket.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use k8s_cri::v1::{
    ContainerEventResponse, ContainerEventType, GetEventsRequest, runtime_service_client::RuntimeServiceClient,
};
use tonic::{Request, codec::Streaming, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Result, RuntimeEvent, RuntimeEvents, grpc::failure};

/// A runtime that offers events answers the head of the stream at once; one that does not refuses at once.
const HEAD: Duration = Duration::from_secs(5);

pub(super) async fn subscribe(channel: Channel) -> Result<RuntimeEvents> {
    let mut cri = RuntimeServiceClient::new(channel.clone());
    match tokio::time::timeout(HEAD, cri.get_container_events(GetEventsRequest {})).await {
        Ok(Ok(response)) => return Ok(cri_events(response.into_inner())),
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {}
        Ok(Err(status)) => return Err(failure(status)),
        // Servers may hold the head back until the first event: then this is a stream all the same, but one we cannot
        // tell from a hang. containerd's own service below answers in that case.
        Err(_) => {}
    }
    containerd_events(channel).await
}

fn cri_events(stream: Streaming<ContainerEventResponse>) -> RuntimeEvents {
    stream
        .map(|event| match event {
            Ok(event) => {
                let exited = event.container_event_type == ContainerEventType::ContainerStoppedEvent as i32;
                let id = event.container_id;
                Ok(if exited { RuntimeEvent::Exited { id } } else { RuntimeEvent::Changed { id } })
            }
            Err(status) => Err(failure(status)),
        })
        .boxed()
}

// containerd's api/services/events/v1 and api/events, the fields used here.

#[derive(Clone, PartialEq, prost::Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    /// The container's id again, or the id of an exec in it.
    #[prost(string, tag = "2")]
    id: String,
}

async fn containerd_events(channel: Channel) -> Result<RuntimeEvents> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| super::RuntimeError::Unavailable { message: error.to_string() })?;
    let request = SubscribeRequest { filters: vec![r#"namespace==k8s.io,topic=="/tasks/exit""#.to_owned()] };
    let path = http::uri::PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let codec = ProstCodec::<SubscribeRequest, Envelope>::default();
    let stream = grpc.server_streaming(Request::new(request), path, codec).await.map_err(failure)?.into_inner();
    Ok(stream.flat_map(|envelope| stream::iter(exit(envelope))).boxed())
}

/// The exit of a container's main process; the end of an exec in it is no news.
fn exit(envelope: std::result::Result<Envelope, tonic::Status>) -> Option<Result<RuntimeEvent>> {
    let event = match envelope {
        Ok(envelope) => envelope.event?,
        Err(status) => return Some(Err(failure(status))),
    };
    let task: TaskExit = prost::Message::decode(event.value.as_slice()).ok()?;
    (task.id == task.container_id).then_some(Ok(RuntimeEvent::Exited { id: task.container_id }))
}
