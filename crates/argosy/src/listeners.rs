//! Sockets of the process and what is answered on them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use apiserver::Server;
use futures_util::FutureExt;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use net::server::Handler;
use tokio::net::{TcpListener, TcpSocket};

/// Listens, or says who cannot and why.
pub fn bind(component: &str, address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    Claim::new(component, address, port)?.listen()
}

/// A port that is this process's, and on which nobody is connected yet. While a server gets ready, connections have to be
/// refused: those that the kernel takes hang, and a load balancer goes on sending them to where there are fewest.
pub struct Claim {
    socket: TcpSocket,
    component: String,
    address: SocketAddr,
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

impl Claim {
    pub fn new(component: &str, address: IpAddr, port: u16) -> anyhow::Result<Claim> {
        let address = SocketAddr::from((address, port));
        let claimed = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Connections of a process that has ended may still be there.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            io::Result::Ok(socket)
        };
        let socket = claimed().with_context(|| format!("{component} cannot listen on {address}"))?;
        Ok(Claim { socket, component: component.to_owned(), address })
    }

    pub fn listen(self) -> anyhow::Result<TcpListener> {
        let Claim { socket, component, address } = self;
        socket.listen(BACKLOG).with_context(|| format!("{component} cannot listen on {address}"))
    }
}

/// Hands requests to the API server.
pub fn api(server: Arc<Server>) -> Handler {
    Arc::new(move |request| server.handle(request.map(|body| body.map_err(Into::into).boxed_unsync())))
}

/// What upstream's components answer to everybody on their secure port: that they are alive.
pub fn health() -> Handler {
    Arc::new(|request| {
        let (status, text) = match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "ok"),
            _ => (StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        let mut response = Response::new(net::full(text));
        *response.status_mut() = status;
        std::future::ready(response).boxed()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::{Ipv4Addr, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn a_claimed_port_refuses_connections_until_it_listens() {
        let (here, any) =
            (IpAddr::from(Ipv4Addr::LOCALHOST), std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        let address = any.local_addr().expect("an address");
        let taken = Claim::new("second", here, address.port()).err().expect("somebody listens there");
        assert_eq!(taken.to_string(), format!("second cannot listen on {address}"));
        drop(any);
        let claim = Claim::new("first", here, address.port()).expect("free again");
        let refused = TcpStream::connect(address).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
        let _listener = claim.listen().expect("listening");
        TcpStream::connect(address).expect("connected");
    }
}
