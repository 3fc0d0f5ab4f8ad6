//! Log lines for people at a terminal: when, what, and the facts that say something.
//!
//! `INFO` is not written, it is the rule; counters that are 0 are left out, so that the one that is not
//! 0 is seen. Programs get every field in the JSON format.

use std::{
    fmt::{self, Debug},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Pretty {
    /// Whether each line begins with the time; the journal stamps its own.
    pub(super) stamped: bool,
}

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let ink = Ink(out.has_ansi_escapes());
        if self.stamped {
            let now = DateTime::<Utc>::from(SystemTime::now());
            ink.dim(&mut out, &now.format("%F %TZ ").to_string())?;
        }
        match *event.metadata().level() {
            Level::ERROR => ink.put(&mut out, "31", "ERROR ")?,
            Level::WARN => ink.put(&mut out, "33", "WARN ")?,
            Level::INFO => {}
            Level::DEBUG => ink.put(&mut out, "34", "DEBUG ")?,
            Level::TRACE => ink.put(&mut out, "35", "TRACE ")?,
        }
        let mut facts = Facts::default();
        event.record(&mut facts);
        out.write_str(&facts.message)?;
        for (name, value) in &facts.fields {
            ink.dim(&mut out, &format!("  {name}="))?;
            out.write_str(value)?;
        }
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(out, "  {fields}")?;
            }
        }
        writeln!(out)
    }
}

/// Escape sequences, where they are wanted.
struct Ink(bool);

impl Ink {
    fn put(&self, out: &mut Writer<'_>, style: &str, text: &str) -> fmt::Result {
        match self.0 {
            true => write!(out, "\u{1b}[{style}m{text}\u{1b}[0m"),
            false => out.write_str(text),
        }
    }

    fn dim(&self, out: &mut Writer<'_>, text: &str) -> fmt::Result {
        self.put(out, "2", text)
    }
}

/// What an event says: its sentence, and its fields in their order.
#[derive(Default)]
struct Facts {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Facts {
    fn add(&mut self, field: &Field, value: &str) {
        let value = printable(value);
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Facts {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if value != 0 {
            self.add(field, &value.to_string());
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if value != 0 {
            self.add(field, &value.to_string());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match value.contains([' ', '"']) && field.name() != "message" {
            true => self.add(field, &format!("{value:?}")),
            false => self.add(field, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// One line, and nothing that a terminal would obey.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(say: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Pretty { stamped: false })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_holds_the_sentence_the_facts_and_whose_they_are() {
        let lines = lines_of(|| {
            let span = tracing::info_span!("run", run.id = 7, resource.name = %"employees");
            let _inside = span.enter();
            tracing::info!(status = "succeeded", inserted = 3, updated = 0, "run ended");
            tracing::warn!(error.hint = "ask them", "run ended");
        });
        assert_eq!(
            lines,
            "run ended  status=succeeded  inserted=3  run.id=7 resource.name=employees\n\
             WARN run ended  error.hint=\"ask them\"  run.id=7 resource.name=employees\n"
        );
    }

    #[test]
    fn no_value_can_break_the_line_or_speak_to_the_terminal() {
        let lines = lines_of(|| tracing::info!(name = %"a\n\u{1b}[2Jb", "said"));
        assert_eq!(lines, "said  name=a\\n\\u{1b}[2Jb\n");
    }
}
