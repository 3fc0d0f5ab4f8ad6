//! Bodies that are read from front to back: lines of JSON, CSV, and a JSON document whose records are
//! wanted before its end has come.
//!
//! A reader puts each record, as one JSON value, into a [`Sink`], which gives them on in parts. The
//! whole of a small body is one part.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Cursor, Read},
    ops::Range,
};

use bytes::Bytes;
use encoding_rs::{CoderResult, Decoder as Charset, Encoding};
use flate2::read::MultiGzDecoder;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::config::{
    endpoint::Step,
    response::{Csv, Format},
};

/// The first bytes of a gzip file. No text of any format begins with them.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Records of an answer, written one after the other.
#[derive(Debug, Default)]
pub(in crate::fetch) struct Part {
    pub(in crate::fetch) body: Vec<u8>,
    pub(in crate::fetch) records: Vec<Range<u32>>,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(in crate::fetch) enum Failure {
    /// Whoever gives the bytes cannot go on, and knows why.
    Io,
    /// At this byte of the body.
    Json {
        offset: u64,
        truncated: bool,
    },
    Charset,
    Shape(&'static str),
    /// More bytes than allowed.
    TooLarge,
    /// Nobody takes the parts any more.
    Stopped,
}

/// Gathers records, and gives a part on when it is full.
pub(in crate::fetch) struct Sink<'g> {
    part: Part,
    full: usize,
    give: &'g mut dyn FnMut(Part) -> Result<(), Failure>,
}

impl<'g> Sink<'g> {
    /// `full`: bytes of records that make a part.
    pub(in crate::fetch) fn new(
        full: usize,
        give: &'g mut dyn FnMut(Part) -> Result<(), Failure>,
    ) -> Self {
        Self {
            part: Part::default(),
            full,
            give,
        }
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let start = self.part.body.len();
        write(&mut self.part.body);
        let end = self.part.body.len();
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
            return Err(Failure::TooLarge);
        };
        self.part.records.push(start..end);
        self.part.body.push(b'\n');
        if self.part.body.len() >= self.full {
            (self.give)(std::mem::take(&mut self.part))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        (self.give)(self.part)
    }
}

/// Reads a body to its end. `path`: where in a JSON document the records stand.
///
/// `cap`: most decoded bytes.
pub(in crate::fetch) fn read(
    format: &Format,
    path: &[Step],
    input: impl Read,
    cap: u64,
    mut sink: Sink<'_>,
) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(64 << 10, input);
    let start = input.fill_buf().map_err(|_| Failure::Io)?;
    let input: Box<dyn Read + '_> = match start.starts_with(&GZIP) {
        true => Box::new(MultiGzDecoder::new(input)),
        false => Box::new(input),
    };
    let mut capped = Capped {
        input,
        left: cap,
        is_over: false,
    };
    let result = match format {
        Format::Csv(csv) => read_csv(csv, &mut capped, &mut sink),
        Format::Ndjson => read_lines(&mut capped, &mut sink),
        Format::Json | Format::Xml { .. } => read_document(path, &mut capped, &mut sink),
    };
    if capped.is_over {
        return Err(Failure::TooLarge);
    }
    result?;
    sink.finish()
}

/// The whole of a body that is at hand.
pub(super) fn read_whole(format: &Format, body: &Bytes, cap: u64) -> Result<Part, Failure> {
    let mut whole = Part::default();
    // Names of columns stand in every record: what comes out may be larger than what came in.
    let most = usize::try_from(cap.saturating_mul(GROWTH)).unwrap_or(usize::MAX);
    let mut give = |part: Part| {
        let is_first = whole.records.is_empty() && whole.body.is_empty();
        match is_first {
            true => whole = part,
            // A second part means that the first was as large as may be.
            false => return Err(Failure::TooLarge),
        }
        Ok(())
    };
    let sink = Sink::new(most.min(u32::MAX as usize), &mut give);
    read(format, &[], Cursor::new(body), cap, sink)?;
    Ok(whole)
}

/// How many times larger than the body its records may become in memory.
const GROWTH: u64 = 16;

/// Ends a stream that is too long.
struct Capped<'r> {
    input: Box<dyn Read + 'r>,
    left: u64,
    is_over: bool,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.is_over = true;
                return Err(io::Error::other("larger than allowed"));
            }
        }
        Ok(count)
    }
}

fn read_lines(input: impl Read, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let mut input = BufReader::new(input);
    let (mut line, mut before) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        let count = input
            .read_until(b'\n', &mut line)
            .map_err(|_| Failure::Io)?;
        if count == 0 {
            return Ok(());
        }
        let text = match before {
            0 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line),
            _ => &line,
        };
        if !text.trim_ascii().is_empty() {
            let raw: &RawValue = serde_json::from_slice(text).map_err(|e| Failure::Json {
                offset: before + e.column() as u64,
                truncated: e.is_eof() && !text.ends_with(b"\n"),
            })?;
            sink.push(|body| body.extend_from_slice(raw.get().as_bytes()))?;
        }
        before += count as u64;
    }
}

fn read_csv(csv: &Csv, input: impl Read, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let charset = Encoding::for_label(csv.charset.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    let mut text = Transcoded::new(charset, input);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(csv.delimiter)
        .quote(csv.quote)
        .has_headers(false)
        .flexible(true)
        .from_reader(&mut text);
    let result = csv_records(csv, &mut reader, sink);
    drop(reader);
    match text.is_wrong {
        true => Err(Failure::Charset),
        false => result,
    }
}

fn csv_records<R: Read>(
    csv: &Csv,
    reader: &mut csv::Reader<R>,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    let failed = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(_) => Failure::Io,
        csv::ErrorKind::Utf8 { .. } => Failure::Charset,
        _ => Failure::Shape("is not CSV"),
    };
    let mut row = csv::StringRecord::new();
    let names: Vec<String> = match &csv.columns {
        Some(columns) => columns.clone(),
        None => {
            if !reader.read_record(&mut row).map_err(failed)? {
                return Err(Failure::Shape("has no row with the names of the columns"));
            }
            let names = row.iter().enumerate();
            names
                .map(|(at, name)| match name.trim() {
                    "" => format!("column_{}", at + 1),
                    name => name.to_owned(),
                })
                .collect()
        }
    };
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < names.len() {
        return Err(Failure::Shape("names a column twice"));
    }
    // As they stand in every record.
    let keys: Vec<String> = names
        .iter()
        .map(|name| serde_json::Value::from(name.as_str()).to_string())
        .collect();
    while reader.read_record(&mut row).map_err(failed)? {
        if row.len() != keys.len() {
            // Nobody can say which field is missing: no object, so the record is rejected.
            sink.push(|body| body.extend_from_slice(b"null"))?;
            continue;
        }
        sink.push(|body| {
            for (at, (key, field)) in keys.iter().zip(&row).enumerate() {
                body.push(if at == 0 { b'{' } else { b',' });
                body.extend_from_slice(key.as_bytes());
                body.push(b':');
                let text = serde_json::Value::from(field).to_string();
                body.extend_from_slice(text.as_bytes());
            }
            body.push(b'}');
        })?;
    }
    Ok(())
}

/// Reads another character set as UTF-8.
struct Transcoded<R> {
    input: R,
    charset: Charset,
    raw: Vec<u8>,
    text: Vec<u8>,
    taken: usize,
    is_over: bool,
    is_wrong: bool,
}

impl<R: Read> Transcoded<R> {
    fn new(charset: &'static Encoding, input: R) -> Self {
        Self {
            input,
            charset: charset.new_decoder_with_bom_removal(),
            raw: vec![0; 16 << 10],
            text: Vec::new(),
            taken: 0,
            is_over: false,
            is_wrong: false,
        }
    }
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.text.len() && !self.is_over {
            let count = self.input.read(&mut self.raw)?;
            self.is_over = count == 0;
            let raw = self.raw.get(..count).unwrap_or_default();
            let room = self.charset.max_utf8_buffer_length(count);
            self.text.clear();
            self.text.resize(room.unwrap_or(64 << 10), 0);
            self.taken = 0;
            let (state, _, written, wrong) =
                self.charset
                    .decode_to_utf8(raw, &mut self.text, self.is_over);
            self.text.truncate(written);
            if wrong || state == CoderResult::OutputFull {
                self.is_wrong = true;
                return Err(io::Error::other("not in the character set"));
            }
        }
        let rest = self.text.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        Ok(count)
    }
}

fn read_document(path: &[Step], input: impl Read, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let mut input = BufReader::new(input);
    let start = input.fill_buf().map_err(|_| Failure::Io)?;
    let mark = match start.starts_with(b"\xef\xbb\xbf") {
        true => 3,
        false => 0,
    };
    input.consume(mark);
    let mut counted = Counted { input, count: 0 };
    let (mut found, mut failure) = (false, None);
    let mut json = serde_json::Deserializer::from_reader(&mut counted);
    let along = Along {
        path,
        sink,
        found: &mut found,
        failure: &mut failure,
    };
    let result = along.deserialize(&mut json).and_then(|()| json.end());
    drop(json);
    match (failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(e)) if e.is_io() => Err(Failure::Io),
        (None, Err(e)) => Err(Failure::Json {
            offset: counted.count,
            truncated: e.is_eof(),
        }),
        (None, Ok(())) if !found => Err(Failure::Shape("is not in the answer")),
        (None, Ok(())) => Ok(()),
    }
}

/// Knows how far a reader that tells only lines and columns came.
struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// Follows a path of names to the list of records.
struct Along<'a, 'g> {
    path: &'a [Step],
    sink: &'a mut Sink<'g>,
    found: &'a mut bool,
    failure: &'a mut Option<Failure>,
}

impl<'de> DeserializeSeed<'de> for Along<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Along<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list at the place of the records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.path.split_first() else {
            *self.failure = Some(Failure::Shape("is not a list, which a stream needs"));
            return Err(A::Error::custom("not a list"));
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Along {
                    path: rest,
                    sink: &mut *self.sink,
                    found: &mut *self.found,
                    failure: &mut *self.failure,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !self.path.is_empty() {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        if std::mem::replace(self.found, true) {
            *self.failure = Some(Failure::Shape("is there twice"));
            return Err(A::Error::custom("twice"));
        }
        while let Some(record) = seq.next_element::<Box<RawValue>>()? {
            let pushed = self
                .sink
                .push(|body| body.extend_from_slice(record.get().as_bytes()));
            if let Err(failure) = pushed {
                *self.failure = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv() -> Csv {
        Csv {
            delimiter: b';',
            quote: b'"',
            columns: None,
            charset: "utf-8".into(),
        }
    }

    fn texts(part: &Part) -> Vec<&str> {
        let records = part.records.iter();
        records
            .map(|r| std::str::from_utf8(&part.body[r.start as usize..r.end as usize]).unwrap())
            .collect()
    }

    fn whole(format: &Format, body: &[u8]) -> Result<Vec<String>, String> {
        let part = read_whole(format, &Bytes::copy_from_slice(body), 1 << 20);
        part.map(|part| texts(&part).into_iter().map(str::to_owned).collect())
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn rows_of_csv_become_objects_of_texts() {
        let latin = Csv {
            charset: "windows-1252".into(),
            ..csv()
        };
        let named = Csv {
            columns: Some(vec!["a".into(), "b".into()]),
            ..csv()
        };
        for (csv, body, expected) in [
            (
                csv(),
                "\u{feff}id; name ;\r\n1;\"A; \"\"B\"\"\n2\";007\r\n".as_bytes(),
                vec![r#"{"id":"1","name":"A; \"B\"\n2","column_3":"007"}"#],
            ),
            (
                csv(),
                b"id;n\n1;2;3\n4\n5;6",
                vec!["null", "null", r#"{"id":"5","n":"6"}"#],
            ),
            (csv(), b"id;n\n", vec![]),
            (latin, b"n\nM\xfcller\n", vec!["{\"n\":\"M\u{fc}ller\"}"]),
            (named, b"1;2\n", vec![r#"{"a":"1","b":"2"}"#]),
        ] {
            assert_eq!(whole(&Format::Csv(csv), body).unwrap(), expected);
        }
        for (body, part) in [
            (&b"id;id\n1;2\n"[..], "twice"),
            (b"", "names of the columns"),
            (b"n\nM\xfcller\n", "Charset"),
        ] {
            let failure = whole(&Format::Csv(csv()), body).unwrap_err();
            assert!(failure.contains(part), "{failure}");
        }
    }

    #[test]
    fn lines_of_json_are_records_and_a_cut_one_is_told_from_a_broken_one() {
        let read = |body: &str| whole(&Format::Ndjson, body.as_bytes());
        assert_eq!(
            read("\u{feff}{\"a\": 1.10}\r\n\n [1]\n{\"b\":\"\\ud800\"}").unwrap(),
            ["{\"a\": 1.10}", "[1]", "{\"b\":\"\\ud800\"}"]
        );
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        for (body, truncated) in [
            ("{\"a\":1}\n{\"a\":", true),
            ("{\"a\":1}\n{\"a\":\n{}\n", false),
            ("{\"a\":1} x\n", false),
        ] {
            let failure = read(body).unwrap_err();
            assert!(
                failure.contains(&format!("truncated: {truncated}")),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_document_is_given_on_in_parts_before_its_end_is_known() {
        let path = [Step::Key("d".into()), Step::Key("rows".into())];
        let read = |body: &str| {
            let mut parts = Vec::new();
            let mut give = |part: Part| {
                parts.push(texts(&part).join(","));
                Ok(())
            };
            let sink = Sink::new(8, &mut give);
            let end = read(&Format::Json, &path, body.as_bytes(), 1 << 10, sink);
            (parts, end.map_err(|failure| format!("{failure:?}")))
        };
        let (parts, end) =
            read(r#" {"x": {"rows": [9]}, "d": {"rows": [{"a":1}, 2.50, "c"], "y": []}} "#);
        assert_eq!(
            (parts, end),
            (
                vec!["{\"a\":1}".into(), "2.50,\"c\"".into(), String::new()],
                Ok(())
            )
        );
        for (body, part) in [
            (r#"{"d": {"rows": [{"a":1}, {"b"#, "truncated: true"),
            (r#"{"d": {"rows": [{"a":1}]}} x"#, "truncated: false"),
            (r#"{"d": {"rows": [{"a":1}]}"#, "truncated: true"),
            (r#"{"d": {"rows": {"a":1}}}"#, "not a list"),
            (r#"{"d": {"rows": null}}"#, "not in the answer"),
            (r#"{"d": []}"#, "not in the answer"),
            (r#"{"d": {"rows": [], "rows": []}}"#, "twice"),
            (
                &format!("{{\"d\": {{\"rows\": [\"{}\"]}}}}", "x".repeat(2000)),
                "TooLarge",
            ),
        ] {
            let failure = read(body).1.unwrap_err();
            assert!(failure.contains(part), "{body}: {failure}");
        }
    }
}
