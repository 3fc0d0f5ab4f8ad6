//! One JSON value into one field of a binary tuple, exactly or not at all.
//!
//! A value goes into a column of another kind only where nothing is lost on the way; otherwise it
//! says what the column would have to become. Which is why no conversion is ever left to the
//! server, whose messages would repeat the value.

use super::json::{Checker, Malformed, Token, Unfit, Value, repair, unescape, unescape_with};
use super::number::{self, Decimal, Misread};
use super::{Kind, reason, time};
use crate::config::columns::{Detect, Nul};

/// How strings are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub(super) detect: Detect,
    pub(super) nul: Nul,
}

/// Why a value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The column must become able to hold this kind too.
    Widen(Kind),
    /// No column can hold it; the record becomes a reject.
    Reject(&'static str),
}

impl From<Malformed> for Misfit {
    fn from(Malformed: Malformed) -> Self {
        Self::Reject(reason::INVALID_JSON)
    }
}

impl From<Misread> for Misfit {
    fn from(misread: Misread) -> Self {
        Self::Reject(match misread {
            Misread::Malformed => reason::INVALID_JSON,
            Misread::OutOfRange => reason::NUMBER_OUT_OF_RANGE,
        })
    }
}

impl From<Unfit> for Misfit {
    fn from(unfit: Unfit) -> Self {
        Self::Reject(match unfit {
            Unfit::Malformed => reason::INVALID_JSON,
            Unfit::TooDeep => reason::TOO_DEEP,
            Unfit::Number => reason::NUMBER_OUT_OF_RANGE,
        })
    }
}

/// The kind that a column made for this value alone would get. Not for null.
pub(super) fn natural(value: Value<'_>, reading: Reading) -> Result<Kind, Misfit> {
    Ok(match value.token {
        Token::Null | Token::Array | Token::Object => Kind::Jsonb,
        Token::Boolean => Kind::Boolean,
        Token::Number => {
            if number::integer(value.raw).is_some() {
                return Ok(Kind::BigInt);
            }
            let decimal = Decimal::parse(value.raw)?;
            if decimal.is_plain_integer() && decimal.to_i64().is_some() {
                Kind::BigInt
            } else {
                Kind::Numeric
            }
        }
        Token::String => {
            with_short_text(value, |text| string_kind(text, reading.detect))?.unwrap_or(Kind::Text)
        }
    })
}

fn string_kind(text: &[u8], detect: Detect) -> Kind {
    if detect.dates && time::date(text).is_some() {
        Kind::Date
    } else if detect.timestamps && time::instant(text).is_some() {
        Kind::Timestamptz
    } else {
        Kind::Text
    }
}

/// Strings longer than this are no date, no time, and no number either (1,000 digits, each of
/// which may be escaped).
const SHORT: usize = 6_200;

/// Hands the text of a string to `read`. `None`: too long to be anything but text.
pub(super) fn with_short_text<T>(
    value: Value<'_>,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, Malformed> {
    if value.raw.len() > SHORT {
        return Ok(None);
    }
    if !value.escaped {
        return Ok(Some(read(value.raw)));
    }
    let mut text = Vec::with_capacity(value.raw.len());
    unescape(value.raw, &mut text, &mut 0)?;
    Ok(Some(read(&text)))
}

/// Where tuples are written.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) out: Vec<u8>,
    /// NUL and lone surrogates that became U+FFFD.
    pub(super) replaced: u64,
    checker: Checker,
    pub(super) reading: Reading,
}

impl Sink {
    pub(super) fn new(reading: Reading) -> Self {
        Self {
            reading,
            ..Self::default()
        }
    }

    pub(super) fn null(&mut self) {
        self.out.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    /// Writes `value` as a field of kind `kind`, length first. On a misfit bytes may have been
    /// written; the caller cuts them off.
    pub(super) fn write(&mut self, kind: Kind, value: Value<'_>) -> Result<(), Misfit> {
        match (kind, value.token) {
            (_, Token::Null) => {
                self.null();
                Ok(())
            }
            (Kind::Jsonb, Token::String) => self.json_string(value),
            (Kind::Jsonb, _) => self.json(value.raw),
            (Kind::Text, Token::String) => self.text(value),
            (Kind::Text, Token::Boolean) => {
                self.bytes(value.raw);
                Ok(())
            }
            (Kind::Text, Token::Number) => match Decimal::parse(value.raw) {
                Ok(_) | Err(Misread::OutOfRange) => {
                    self.bytes(value.raw);
                    Ok(())
                }
                Err(misread) => Err(misread.into()),
            },
            (Kind::Boolean, Token::Boolean) => {
                let truth = u8::from(value.raw == b"true");
                self.out.extend_from_slice(&[0, 0, 0, 1, truth]);
                Ok(())
            }
            (Kind::BigInt, Token::Number) => {
                let number = match number::integer(value.raw) {
                    Some(number) => number,
                    None => Decimal::parse(value.raw)?
                        .to_i64()
                        .ok_or(Misfit::Widen(Kind::Numeric))?,
                };
                self.eight(number);
                Ok(())
            }
            (Kind::BigInt, Token::String) => {
                let number = with_short_text(value, number::integer)?.flatten();
                self.eight(number.ok_or(Misfit::Widen(Kind::Text))?);
                Ok(())
            }
            (Kind::Numeric, Token::Number) => {
                let decimal = Decimal::parse(value.raw)?;
                self.sized(|out| decimal.write_numeric(out));
                Ok(())
            }
            (Kind::Numeric, Token::String) => {
                let written = with_short_text(value, |text| match Decimal::parse(text) {
                    Ok(decimal) if number::is_canonical(text) => {
                        self.sized(|out| decimal.write_numeric(out));
                        true
                    }
                    _ => false,
                })?;
                match written {
                    Some(true) => Ok(()),
                    _ => Err(Misfit::Widen(Kind::Text)),
                }
            }
            (Kind::Date, Token::String) => {
                let detect = self.reading.detect;
                let days = with_short_text(value, |text| {
                    time::date(text).ok_or_else(|| string_kind(text, detect))
                })?;
                match days.unwrap_or(Err(Kind::Text)) {
                    Ok(days) => {
                        self.date(days);
                        Ok(())
                    }
                    Err(kind) => Err(Misfit::Widen(kind)),
                }
            }
            (Kind::Timestamptz | Kind::Timestamp, Token::String) => {
                let micros = with_short_text(value, micros)?.flatten();
                self.eight(micros.ok_or(Misfit::Widen(Kind::Text))?);
                Ok(())
            }
            (Kind::Double, Token::Number) => {
                let number = number::double(value.raw)?;
                self.eight(number.to_bits().cast_signed());
                Ok(())
            }
            (Kind::Time, Token::String) => {
                let micros = with_short_text(value, time::of_day)?.flatten();
                self.eight(micros.ok_or(Misfit::Widen(Kind::Text))?);
                Ok(())
            }
            (
                Kind::Boolean
                | Kind::BigInt
                | Kind::Numeric
                | Kind::Double
                | Kind::Date
                | Kind::Time
                | Kind::Timestamp
                | Kind::Timestamptz
                | Kind::Interval
                | Kind::Bytea
                | Kind::Text,
                _,
            ) => Err(Misfit::Widen(match natural(value, self.reading)? {
                // Text is what holds them both, whatever the string was taken for.
                _ if value.token == Token::String => Kind::Text,
                kind => kind,
            })),
        }
    }

    /// A date, from days since 1970.
    pub(super) fn date(&mut self, days: i64) {
        self.bytes(&time::postgres_days(days).to_be_bytes());
    }

    /// An eight-byte field.
    pub(super) fn eight(&mut self, number: i64) {
        let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Some(place) = field.last_chunk_mut::<8>() {
            *place = number.to_be_bytes();
        }
        self.out.extend_from_slice(&field);
    }

    /// A field of plain bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(&length(bytes.len()));
        self.out.extend_from_slice(bytes);
    }

    fn text(&mut self, value: Value<'_>) -> Result<(), Misfit> {
        if !value.escaped {
            self.bytes(value.raw);
            return Ok(());
        }
        let mut replaced = 0;
        let nul = self.reading.nul;
        self.sized(|out| unescape_with(nul, value.raw, out, &mut replaced))?;
        self.count(replaced)
    }

    /// Counts what Postgres cannot hold, where that is let pass.
    fn count(&mut self, replaced: u64) -> Result<(), Misfit> {
        self.replaced += replaced;
        if replaced > 0 && self.reading.nul == Nul::Reject {
            return Err(Misfit::Reject(reason::UNSTORABLE_TEXT));
        }
        Ok(())
    }

    fn json_string(&mut self, value: Value<'_>) -> Result<(), Misfit> {
        let mut quoted = Vec::with_capacity(value.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(value.raw);
        quoted.push(b'"');
        self.json(&quoted)
    }

    /// JSON text as it came, as text.
    pub(super) fn checked_text(&mut self, text: &[u8]) -> Result<(), Misfit> {
        self.checker.check(text)?;
        self.bytes(text);
        Ok(())
    }

    /// JSON text as it came, after the version byte of `jsonb`'s wire format.
    pub(super) fn json(&mut self, text: &[u8]) -> Result<(), Misfit> {
        let suspect = self.checker.check(text)?;
        let mut replaced = 0;
        let nul = self.reading.nul;
        self.sized(|out| {
            out.push(1);
            let start = out.len();
            out.extend_from_slice(text);
            if suspect {
                repair(nul, out, start, &mut replaced);
            }
        });
        self.count(replaced)
    }

    /// A field whose length is known only after it was written.
    pub(super) fn sized<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let result = write(&mut self.out);
        let size = length(self.out.len() - start - 4);
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&size);
        }
        result
    }
}

/// Appends the text of a key part: equal for exactly those values that a column of `kind` holds as
/// equal, and unchanged when a whole number's column widens.
pub(super) fn canonical(
    kind: Kind,
    value: Value<'_>,
    reading: Reading,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    match (kind, value.token) {
        (Kind::Text, Token::String) => {
            let mut replaced = 0;
            unescape_with(reading.nul, value.raw, out, &mut replaced)?;
            if replaced > 0 && reading.nul == Nul::Reject {
                return Err(Misfit::Reject(reason::UNSTORABLE_TEXT));
            }
            Ok(())
        }
        (Kind::Text | Kind::Boolean, Token::Boolean) => {
            out.extend_from_slice(value.raw);
            Ok(())
        }
        (Kind::Text, Token::Number) => match Decimal::parse(value.raw) {
            Ok(_) | Err(Misread::OutOfRange) => {
                out.extend_from_slice(value.raw);
                Ok(())
            }
            Err(misread) => Err(misread.into()),
        },
        (Kind::BigInt, Token::Number) => {
            if number::integer(value.raw).is_some() {
                out.extend_from_slice(value.raw);
                return Ok(());
            }
            let decimal = Decimal::parse(value.raw)?;
            match decimal.to_i64() {
                Some(_) => {
                    decimal.write_canonical(out);
                    Ok(())
                }
                None => Err(Misfit::Widen(Kind::Numeric)),
            }
        }
        (Kind::BigInt, Token::String) => {
            let taken = with_short_text(value, |text| match number::integer(text) {
                Some(_) => {
                    out.extend_from_slice(text);
                    true
                }
                None => false,
            })?;
            taken
                .unwrap_or(false)
                .then_some(())
                .ok_or(Misfit::Widen(Kind::Text))
        }
        (Kind::Numeric, Token::Number) => {
            Decimal::parse(value.raw)?.write_canonical(out);
            Ok(())
        }
        (Kind::Numeric, Token::String) => {
            let taken = with_short_text(value, |text| match Decimal::parse(text) {
                Ok(decimal) if number::is_canonical(text) => {
                    decimal.write_canonical(out);
                    true
                }
                _ => false,
            })?;
            taken
                .unwrap_or(false)
                .then_some(())
                .ok_or(Misfit::Widen(Kind::Text))
        }
        (Kind::Date, Token::String) => {
            // As the instant that the day begins with, so that widening keeps the text.
            match with_short_text(value, |text| {
                time::date(text)
                    .and_then(|_| micros(text))
                    .ok_or_else(|| string_kind(text, reading.detect))
            })? {
                Some(Ok(micros)) => {
                    out.extend_from_slice(micros.to_string().as_bytes());
                    Ok(())
                }
                Some(Err(kind)) => Err(Misfit::Widen(kind)),
                None => Err(Misfit::Widen(Kind::Text)),
            }
        }
        (Kind::Timestamptz, Token::String) => match with_short_text(value, micros)?.flatten() {
            Some(micros) => {
                out.extend_from_slice(micros.to_string().as_bytes());
                Ok(())
            }
            None => Err(Misfit::Widen(Kind::Text)),
        },
        (Kind::Jsonb, Token::Number) => {
            out.push(b'#');
            Decimal::parse(value.raw)?.write_canonical(out);
            Ok(())
        }
        (Kind::Jsonb, Token::String) => {
            out.push(b'"');
            Ok(unescape(value.raw, out, &mut 0)?)
        }
        (Kind::Jsonb, _) => {
            out.extend_from_slice(value.raw);
            Ok(())
        }
        (
            Kind::Boolean
            | Kind::BigInt
            | Kind::Numeric
            | Kind::Double
            | Kind::Date
            | Kind::Time
            | Kind::Timestamp
            | Kind::Timestamptz
            | Kind::Interval
            | Kind::Bytea
            | Kind::Text,
            _,
        ) => Err(Misfit::Widen(match natural(value, reading)? {
            Kind::Jsonb => Kind::Jsonb,
            // Keys of these kinds are not compared before they are written.
            _ if value.token == Token::String || !kind.is_key() => Kind::Text,
            natural => natural,
        })),
    }
}

/// A field of an array in a probe, from the text that [`canonical`] made for the same kind.
pub(super) fn write_canonical_field(sink: &mut Sink, kind: Kind, text: &[u8]) -> Option<()> {
    match kind {
        Kind::Text => sink.bytes(text),
        Kind::Boolean => sink.bytes(&[u8::from(text == b"true")]),
        Kind::BigInt | Kind::Timestamptz => sink.eight(number::integer(text)?),
        Kind::Date => {
            let days = number::integer(text)?.div_euclid(time::DAY_SECONDS * 1_000_000);
            sink.bytes(&i32::try_from(days).ok()?.to_be_bytes());
        }
        Kind::Numeric => {
            let decimal = Decimal::parse(text).ok()?;
            sink.sized(|out| decimal.write_numeric(out));
        }
        Kind::Jsonb
        | Kind::Double
        | Kind::Time
        | Kind::Timestamp
        | Kind::Interval
        | Kind::Bytea => return None,
    }
    Some(())
}

impl Kind {
    /// Whether keys of this kind have a canonical text.
    fn is_key(self) -> bool {
        !matches!(
            self,
            Self::Double | Self::Time | Self::Timestamp | Self::Interval | Self::Bytea
        )
    }
}

/// Microseconds from 2000 of an instant, or of the midnight (UTC) that a date begins with.
fn micros(text: &[u8]) -> Option<i64> {
    if let Some(days) = time::date(text) {
        return Some(i64::from(time::postgres_days(days)) * time::DAY_SECONDS * 1_000_000);
    }
    time::instant(text).map(time::Instant::postgres_micros)
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}
