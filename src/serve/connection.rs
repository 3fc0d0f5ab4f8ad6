//! What one connection may cost: a place among 32, three seconds to ask, ten to hear the answer, and
//! 16 KiB of request.
//!
//! Each connection carries one request (every answer says `connection: close`), so that a bound on
//! the connection is a bound on the request, slow headers and slow readers included.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

const CONNECTIONS: usize = 32;

/// From accept to the end of the headers. A client that is silent holds its place no longer, so that
/// health probes get one in time.
const ASKING: Duration = Duration::from_secs(3);

/// From the end of the headers to the last byte. Longer than a page waits for the database.
const ANSWERING: Duration = Duration::from_secs(10);

/// Twice what [`super::door`] takes as headers, so that it can still say no.
const REQUEST_BYTES: usize = 16 << 10;

/// A listener that leaves connections above the limit waiting in the kernel's queue.
#[derive(Debug)]
pub(super) struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            end: Box::pin(tokio::time::sleep(ASKING)),
            unread: REQUEST_BYTES,
            last_bytes: 0,
            asked: false,
            _place: place,
        };
        (connection, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// Bytes that the client may still send.
    unread: usize,
    /// The last four of them that came.
    last_bytes: u32,
    asked: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Looks for the empty line that ends the headers.
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.last_bytes = self.last_bytes << 8 | u32::from(*byte);
            if !self.asked && self.last_bytes == u32::from_be_bytes(*b"\r\n\r\n") {
                self.asked = true;
                self.end.as_mut().reset(Instant::now() + ANSWERING);
            }
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let got = buf.filled().get(before..).unwrap_or_default();
        self.hear(got);
        match self.unread.checked_sub(got.len()) {
            Some(left) => self.unread = left,
            None => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
