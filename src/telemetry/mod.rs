//! Logs: to stderr, for people on a terminal and as JSON otherwise, and the last wall before a secret.
//!
//! The first wall is types: a secret cannot be printed, and outside crates are held at warnings
//! whatever the filter asks for, because at lower levels they write URLs, statements and bytes. The
//! second wall stands here: every line passes a search for each configured secret, raw and in the
//! encodings that it may have taken on its way, and hits are covered before the bytes leave.
//!
//! Lines go through a bounded queue to a thread of their own. A terminal that is held, a full pipe or
//! a closed stderr costs log lines, which are counted, and never time or the process.

mod masks;

mod pretty;

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::filter_fn,
    fmt::{MakeWriter, time::SystemTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use self::{masks::Masks, pretty::Pretty};

/// Lines that may wait for stderr. More than that, and the reader is not reading.
const QUEUE: usize = 4_096;

/// How long the last lines may take when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How the lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    Pretty,
    Json,
}

/// What the caller knows and this module must not look up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub format: Format,
    /// Directives as in `RUST_LOG`. `None`: `info`.
    pub filter: Option<String>,
    /// Whether the journal reads stderr (`JOURNAL_STREAM` is set): it stamps the time itself.
    pub journal: bool,
    /// Whether colours are unwanted (`NO_COLOR` is set).
    pub no_color: bool,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log filter is not understood")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("logs are already set up in this process")]
    Twice,
    #[error("the thread that writes the logs cannot be started")]
    Thread(#[source] io::Error),
}

/// Keeps the logs flowing; when dropped, the last lines are written.
#[derive(Debug)]
#[must_use = "logs end when this is dropped"]
pub struct Guard {
    masks: Masks,
    lost: Arc<AtomicU64>,
    queue: Option<SyncSender<Message>>,
    done: Receiver<()>,
}

impl Guard {
    /// Covers these values, too, from now on. Those from before stay covered: after a rotation the old
    /// key may still work.
    pub fn mask(&self, secrets: &[String]) {
        self.masks.add(secrets);
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            // Full: nobody reads, and waiting for room would hold the process up.
            queue.try_send(Message::End).ok();
        }
        self.done.recv_timeout(LAST_LINES).ok();
    }
}

/// Sends this process's logs to stderr. `secrets` are the values to cover.
///
/// # Errors
///
/// See [`Error`].
pub fn init(settings: &Settings, secrets: &[String]) -> Result<Guard, Error> {
    let terminal = io::stderr().is_terminal();
    let masks = Masks::default();
    masks.add(secrets);
    let (writer, guard) = writer(io::stderr(), masks)?;
    let pretty = match settings.format {
        Format::Auto => terminal,
        Format::Pretty => true,
        Format::Json => false,
    };
    let filter =
        EnvFilter::try_new(settings.filter.as_deref().unwrap_or("info")).map_err(Error::Filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let clock = (!settings.journal).then_some(SystemTime);
    let lines = match (pretty, clock) {
        (true, clock) => lines
            .with_ansi(terminal && !settings.no_color)
            .event_format(Pretty {
                stamped: clock.is_some(),
            })
            .boxed(),
        (false, Some(clock)) => lines
            .json()
            .flatten_event(true)
            .with_timer(clock)
            .with_current_span(false)
            .boxed(),
        (false, None) => lines
            .json()
            .flatten_event(true)
            .without_time()
            .with_current_span(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(filter_fn(passes)))
        .try_init()
        .map_err(|_| Error::Twice)?;
    Ok(guard)
}

/// Our own events as the filter says; those of others from a warning on. sqlx quotes whole statements
/// in the warning about slow ones and the server's words in those of its pool, and is heard only with its
/// errors.
fn passes(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let of = |name: &str| {
        target
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    of("rosterd")
        || *metadata.level() <= Level::ERROR
        || (*metadata.level() <= Level::WARN
            && !["sqlx", "sqlx_core", "sqlx_postgres"].into_iter().any(of))
}

enum Message {
    Line(Vec<u8>),
    End,
}

/// Puts whole lines into the queue, never waiting.
#[derive(Debug, Clone)]
struct Writer {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Write for Writer {
    /// The formatter hands over each event as one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn writer<W: Write + Send + 'static>(out: W, masks: Masks) -> Result<(Writer, Guard), Error> {
    let (queue, lines) = mpsc::sync_channel(QUEUE);
    let (say_done, done) = mpsc::channel();
    let lost = Arc::new(AtomicU64::new(0));
    let writer = Writer {
        queue: queue.clone(),
        lost: Arc::clone(&lost),
    };
    let guard = Guard {
        masks: masks.clone(),
        lost: Arc::clone(&lost),
        queue: Some(queue),
        done,
    };
    thread::Builder::new()
        .name("logs".to_owned())
        .spawn(move || {
            pump(out, &lines, &masks, &lost);
            say_done.send(()).ok();
        })
        .map_err(Error::Thread)?;
    Ok((writer, guard))
}

fn pump<W: Write>(mut out: W, lines: &Receiver<Message>, masks: &Masks, lost: &AtomicU64) {
    while let Ok(Message::Line(line)) = lines.recv() {
        if out.write_all(&masks.cover(line)).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
    out.flush().ok();
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::Subscriber;

    use super::*;

    #[test]
    fn outside_crates_are_held_at_warnings() {
        fn subscriber(seen: &Arc<Mutex<Vec<String>>>) -> impl Subscriber + Send + Sync + use<> {
            let seen = Arc::clone(seen);
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(move || Lines(Arc::clone(&seen)))
                .with_filter(filter_fn(passes));
            tracing_subscriber::registry()
                .with(EnvFilter::new("trace"))
                .with(lines)
        }
        let seen = Arc::default();
        tracing::subscriber::with_default(subscriber(&seen), || {
            tracing::trace!(target: "rosterd::fetch", "1 ours");
            tracing::debug!(target: "reqwest::connect", "2 a url");
            tracing::info!(target: "rosterd_like", "3 not ours");
            tracing::warn!(target: "hyper", "4 heard");
            tracing::warn!(target: "sqlx::query", "5 a statement");
            tracing::error!(target: "sqlx::pool", "6 heard");
            tracing::warn!(target: "sqlx_core::pool::inner", "7 the server's words");
        });
        let lines = seen.lock().unwrap().concat();
        let heard: Vec<bool> = (1..=7).map(|n| lines.contains(&format!(" {n} "))).collect();
        assert_eq!(heard, [true, false, false, true, false, true, false]);
    }

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let line = String::from_utf8_lossy(line).into_owned();
            self.0.lock().unwrap().push(line);
            Ok(self.0.lock().unwrap().last().unwrap().len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn the_last_lines_are_written_and_covered_before_the_end() {
        let lines = Lines(Arc::default());
        let masks = Masks::default();
        let (mut writer, guard) = writer(lines.clone(), masks).unwrap();
        guard.mask(&["late-secret".to_owned()]);
        writer.write_all(b"key=late-secret\n").unwrap();
        drop(guard);
        assert_eq!(lines.0.lock().unwrap().concat(), "key=***\n");
    }

    #[test]
    fn a_closed_stderr_costs_lines_and_nothing_else() {
        let (mut writer, guard) = writer(Closed, Masks::default()).unwrap();
        for _ in 0..10 {
            writer.write_all(b"line\n").unwrap();
        }
        let lost = Arc::clone(&guard.lost);
        drop(guard);
        assert_eq!(lost.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.recv().ok();
                Ok(line.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (free, held) = mpsc::channel();
        let (mut writer, guard) = writer(Stuck(held), Masks::default()).unwrap();
        for _ in 0..QUEUE + 100 {
            writer.write_all(b"line\n").unwrap();
        }
        assert!((99..=100).contains(&guard.lost()), "{}", guard.lost());
        drop(free);
    }
}
