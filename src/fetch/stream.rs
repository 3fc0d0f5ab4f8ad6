//! One answer too large to be held: its records are taken out while it still comes.
//!
//! ```text
//! socket -> pieces -> a thread that reads -> parts -> the walk
//! ```
//!
//! Both arrows hold a few pieces and no more, so whoever is slowest sets the pace. When the connection
//! breaks, some records are on their way already: the request is not sent again behind the walk's
//! back, the walk begins anew.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Api, Error,
    client::{Answer, Head},
    decode::{
        Decoded, Envelope,
        lines::{Failure, Part, Sink},
    },
    retry::{Job, Judged},
};

/// Bytes of records in one part.
const FULL: usize = 1 << 20;

/// Pieces between the socket and the reader.
const PIECES: usize = 16;

/// Records of an answer, with what its headers say.
pub(super) type Streamed = (Arc<Answer>, Decoded);

impl Api {
    /// Sends an answer's records on in parts. Returns when all are sent.
    pub(super) async fn stream(
        &self,
        job: &Job,
        parts: mpsc::Sender<Streamed>,
    ) -> Result<(), Error> {
        let (judged, permit) = self.open(job).await?;
        let head = match judged {
            Judged::Open(head) => head,
            Judged::Empty(answer) | Judged::Page(answer) => {
                parts
                    .send((Arc::new(answer), Decoded::nothing()))
                    .await
                    .ok();
                return Ok(());
            }
        };
        let at = head.at().clone();
        let answer = head.without_body();
        if answer.status == 204 {
            parts
                .send((Arc::new(answer), Decoded::nothing()))
                .await
                .ok();
            return Ok(());
        }
        let answer = Arc::new(answer);
        let (pieces, incoming) = mpsc::channel(PIECES);
        let decoder = Arc::clone(&job.decoder);
        let reading = tokio::task::spawn_blocking(move || {
            let mut number = 0_u128;
            let mut give = |part: Part| {
                let decoded = Decoded {
                    body: Bytes::from(part.body),
                    records: part.records,
                    envelope: Envelope::default(),
                    // Equal parts are no page that comes again.
                    content: number,
                    no_content: false,
                };
                number += 1;
                let sent = parts.blocking_send((Arc::clone(&answer), decoded));
                sent.map_err(|_| Failure::Stopped)
            };
            let input = Pieces {
                incoming,
                rest: Bytes::new(),
                is_over: false,
            };
            decoder.read_stream(input, Sink::new(FULL, &mut give))
        });
        let pumped = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::Cancelled),
            pumped = pump(*head, pieces, job) => pumped,
        };
        drop(permit);
        let read = reading.await.map_err(|_| Error::Lost)?;
        let broken = || Error::StreamBroken { at: at.clone() };
        match (pumped, read) {
            (_, Ok(())) => Ok(()),
            (Err(Error::Transport { .. }), Err(Failure::Io)) => Err(broken()),
            (Err(error), Err(Failure::Io)) => Err(error),
            (
                _,
                Err(Failure::Json {
                    truncated: true, ..
                }),
            ) => Err(broken()),
            (_, Err(failure)) => Err(job.decoder.failed(failure, &at, job.page)),
        }
    }
}

/// Takes the body from the socket, piece by piece.
async fn pump(mut head: Head, pieces: mpsc::Sender<Piece>, job: &Job) -> Result<(), Error> {
    while let Some(chunk) = head.chunk().await? {
        job.tally.bytes(chunk.len());
        if pieces.send(Piece::Bytes(chunk)).await.is_err() {
            // The reader has seen enough, and says why.
            return Ok(());
        }
    }
    pieces.send(Piece::End).await.ok();
    Ok(())
}

enum Piece {
    Bytes(Bytes),
    /// The body is complete. A channel that only closes is a connection that broke.
    End,
}

/// The pieces as something to read from, on a thread that may wait.
struct Pieces {
    incoming: mpsc::Receiver<Piece>,
    rest: Bytes,
    is_over: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.is_over {
            match self.incoming.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.is_over = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.rest.len().min(buffer.len());
        let piece = self.rest.split_to(count);
        if let Some(to) = buffer.get_mut(..count) {
            to.copy_from_slice(&piece);
        }
        Ok(count)
    }
}
