//! A proxy before Postgres that knows messages, so that it can do harm at the worst moment.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::db::TestDb;

/// What happens to the COMMIT of a transaction that copied rows. In each case the client only sees its connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The server has committed; its answer is lost.
    AnswerLost,
    /// The server gets the COMMIT so much later, when the client has long begun to try again.
    Late(Duration),
    /// The server never sees it.
    NeverSent,
}

pub(crate) struct Proxy {
    port: u16,
    commits: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Does `harm` to the `nth` COMMIT (from 1) of a transaction that copied rows, and to no other.
    pub(crate) async fn start(db: &TestDb, harm: Harm, nth: usize) -> Self {
        let options = db.options();
        let folder = options.get_socket().unwrap().to_owned();
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&commits);
        let tracker = TaskTracker::new();
        let links = tracker.clone();
        let task = tracker.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let link = Link {
                    socket: socket.clone(),
                    commits: Arc::clone(&count),
                    harm,
                    nth,
                };
                links.spawn(async move { link.carry(client).await.ok() });
            }
        });
        Self {
            port,
            commits,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// For `database.url`.
    pub(crate) fn url(&self, db: &TestDb) -> String {
        let options = db.options();
        format!(
            "postgres://{}@127.0.0.1:{}/{}?sslmode=disable",
            options.get_username(),
            self.port,
            options.get_database().unwrap()
        )
    }

    /// Data transactions of which COMMIT was sent.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

struct Link {
    socket: PathBuf,
    commits: Arc<AtomicUsize>,
    harm: Harm,
    nth: usize,
}

impl Link {
    async fn carry(self, client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) =
            UnixStream::connect(&self.socket).await?.into_split();
        let back = TaskTracker::new().spawn(async move {
            tokio::io::copy(&mut from_server, &mut to_client).await.ok();
        });
        // The start-up message has no type.
        let mut message = Vec::new();
        read_message(&mut from_client, false, &mut message).await?;
        to_server.write_all(&message).await?;
        let mut copied = false;
        loop {
            read_message(&mut from_client, true, &mut message).await?;
            let kind = message.first().copied();
            copied |= kind == Some(b'd');
            let commit = kind == Some(b'Q') && message.get(5..11) == Some(b"COMMIT");
            if commit && std::mem::take(&mut copied) {
                let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
                if number == self.nth {
                    // Nothing reaches the client from here on.
                    back.abort();
                    match self.harm {
                        Harm::AnswerLost => {
                            to_server.write_all(&message).await?;
                            // The server closes when it has read all that we sent, after committing.
                            to_server.shutdown().await?;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        Harm::Late(delay) => {
                            drop(from_client);
                            back.await.ok();
                            tokio::time::sleep(delay).await;
                            to_server.write_all(&message).await?;
                            to_server.shutdown().await?;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        Harm::NeverSent => {}
                    }
                    return Ok(());
                }
            }
            to_server.write_all(&message).await?;
        }
    }
}

async fn read_message(
    from: &mut (impl AsyncReadExt + Unpin),
    typed: bool,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    let head = if typed { 5 } else { 4 };
    into.resize(head, 0);
    from.read_exact(into).await?;
    let length = u32::from_be_bytes(into[head - 4..].try_into().unwrap()) as usize;
    into.resize(head - 4 + length, 0);
    from.read_exact(&mut into[head..]).await?;
    Ok(())
}
