//! The end of a connection. What is written last gets lost if the socket is closed while the other side still sends: the kernel
//! answers that with a reset, which takes with it what it had not delivered. So a socket is read on for a moment, as Go's
//! server does (net/http `closeWriteAndWait`).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};

/// Go's `rstAvoidanceDelay`.
const LIMIT: Duration = Duration::from_millis(500);

/// A socket that whoever is done with it gives back.
pub struct Lent(Option<(TcpStream, oneshot::Sender<TcpStream>)>);

/// Where a lent socket comes back to.
pub struct Back(oneshot::Receiver<TcpStream>);

pub fn lend(tcp: TcpStream) -> (Lent, Back) {
    let (back, receiver) = oneshot::channel();
    (Lent(Some((tcp, back))), Back(receiver))
}

impl Back {
    /// Lets the other side read what was written, unless the socket is still in use, as by an upgraded connection.
    pub async fn close(mut self) {
        let Ok(mut tcp) = self.0.try_recv() else { return };
        let rest = async {
            tcp.shutdown().await?;
            let mut ignored = vec![0; 4096];
            while tcp.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        // Nobody is left to tell of an error.
        let _ = tokio::time::timeout(LIMIT, rest).await;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((tcp, back)) = self.0.take() {
            let _ = back.send(tcp);
        }
    }
}

impl Lent {
    /// There until the end.
    fn tcp(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        self.get_mut().0.as_mut().map(|(tcp, _)| Pin::new(tcp)).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}
