//! Section `endpoint.incremental`: only what changed since the last complete walk.

use std::time::Duration;

use chrono_tz::Tz;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    columns::{Format, FormatFile},
    decode::{Decode, Json, OneOrMany, Period, section, words},
    endpoint::{DottedPath, Endpoint},
    problem::Problems,
    spelled,
    tree::{Content, Filled, Kind, Node, Scalar},
    units,
};

/// Only what changed since the last complete walk.
#[derive(Debug, Clone)]
pub struct Incremental {
    /// Field of the record that holds the cursor value. `None`: no record has one, see `watermark`.
    pub cursor_path: Option<DottedPath>,
    /// Where the first walk begins; the parameter is left out when absent.
    pub initial_value: Option<String>,
    /// Where every walk ends. No cursor is kept then.
    pub end_value: Option<String>,
    /// Query parameters that get the two ends.
    pub start_param: Option<String>,
    pub end_param: Option<String>,
    /// How far before the stored cursor a walk begins, so that late records are seen.
    pub lag: Lag,
    /// The order that the API promises, by the cursor.
    pub row_order: Option<RowOrder>,
    /// Records at the start are left out.
    pub open_start: bool,
    /// Records at the end are taken.
    pub closed_end: bool,
    pub toward: Toward,
    pub missing: Missing,
    pub notation: Notation,
    /// The span from start to end is walked in pieces of at most this width.
    pub window: Option<Duration>,
    /// Where the span ends. `None`: nowhere, unless `end_value` says so.
    pub until: Option<Until>,
    pub watermark: Watermark,
    /// What a walk without a cursor asks for, when that is something else.
    pub first: Option<Box<Endpoint>>,
}

/// How far before the stored cursor a walk begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lag {
    Time(Duration),
    /// In the unit of the cursor: seconds of instants, days of dates, itself of numbers.
    Plain(f64),
}

impl Lag {
    pub const NONE: Self = Self::Time(Duration::ZERO);

    #[must_use]
    pub fn is_none(self) -> bool {
        match self {
            Self::Time(time) => time.is_zero(),
            Self::Plain(number) => number == 0.0,
        }
    }
}

/// In which order the records come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    Ascending,
    Descending,
}

/// Which of two values is further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Toward {
    #[default]
    Max,
    Min,
}

/// What becomes of a record without a cursor value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Include,
    Exclude,
    /// The run fails.
    Raise,
}

/// How cursor values are spelled, as they are sent and as they are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notation {
    /// `None`: as the API spelled the value.
    pub sent: Option<Format>,
    /// Besides dates, RFC 3339 and numbers.
    pub read: Vec<Format>,
    /// Of times that name none; `None`: UTC is taken, and not relied upon.
    pub zone: Option<Tz>,
}

/// Where the span of a walk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So long after the walk begins.
    Now { ahead: Duration },
    /// The last piece has no end.
    Open,
}

/// What the cursor becomes when a walk is proven complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// The furthest value of a record.
    Max,
    /// The API's time when the walk began.
    RunStart,
    /// What the API handed out at the end of the walk.
    Token,
}

section! {
    /// Only what changed since the last complete walk.
    pub(super) struct IncrementalFile {
        /// Field of the record that tells when the record changed, or a number that grows with every change. May be left out only where `watermark` is not `max`.
        cursor_path: DottedPath,
        /// Where the first walk begins. It is sent; where no request names a start, records before it are left out. Left out: the first walk has no `start_param`.
        initial_value: String,
        /// Every walk reads from `initial_value` to here, and no cursor is kept. Records at the end and after it are left out.
        end_value: String,
        /// Parameter of the query that gets the start value. Left out: every walk reads everything, unless a placeholder names the start.
        start_param: String,
        /// Parameter of the query that gets the end: `end_value`, that of `until`, or that of the window.
        end_param: String,
        /// Taken off the stored cursor, so that late records are seen: `10m`, `36h`. A plain number means what it does in dlt: days of dates, seconds of other times, itself of numbers.
        lag: LagFile = "0s",
        /// Order in which the API sends the records, by the cursor: `asc` or `desc`. A walk then ends at the first page that leaves the span. It is checked; where it does not hold, the walk goes on to the API's own end. Under `asc` a record that was read and comes again, changed, shows that others may have slipped over the border of a counted page: the walk is repeated.
        row_order: OrderWord,
        /// Whether records at the start belong to the span: `closed` or `open`. Open loses what changed in the same instant later.
        range_start: EndWord = "closed",
        /// Whether records at `end_value` belong to the span: `open` or `closed`.
        range_end: EndWord = "open",
        /// Which value is further: `max` or `min`.
        last_value_func: TowardWord = "max",
        /// What becomes of a record without a cursor value: `include` loads it, `exclude` leaves it out, `raise` fails the run.
        on_cursor_value_missing: MissingWord = "include",
        /// How the API spells cursor values: `epoch_s`, `epoch_ms`, `/Date(ms)/`, or a strftime pattern such as `%Y-%m-%d`. Left out: RFC 3339, dates and numbers, sent back as they came. A map says apart what is sent and what is read.
        format: NotationFile,
        /// Time zone of cursor values that name none. Left out: UTC, and the cursor stays 14 hours behind where it is set by a clock.
        timezone: Tz,
        /// Most that one walk may ask for: the span from the start to the end is walked in pieces of this width, and the cursor moves with each.
        window: Period,
        /// Where the span ends: `now`, `now+90d` for what lies ahead, `open`: without an end. Left out: `now` where there is a `window` or an end is asked for.
        until: UntilFile,
        /// What the cursor becomes after a proven walk: `max`, the furthest value of a record; `run_start`, the API's time when the walk began; `token`, what the API hands out at the end.
        watermark: WatermarkWord = "max",
        /// Keys of `endpoint` that are others while there is no cursor: a first walk over everything at another `path`, with other `params`.
        first: Json,
        /// Taken for dlt's sake: records at the border are never dropped by a key here.
        primary_key: OneOrMany<DottedPath>,
        /// Taken for dlt's sake, where it is false.
        allow_external_schedulers: bool = "false",
    }
    refused ["convert": "is a Python function of dlt; `format` says how cursor values are spelled"]
}

words! {
    /// Order of the records.
    pub(super) enum OrderWord {
        Asc = "asc",
        Desc = "desc",
    }
}

words! {
    /// Whether the end of a span belongs to it.
    pub(super) enum EndWord {
        Closed = "closed",
        Open = "open",
    }
}

words! {
    /// Which value is further.
    pub(super) enum TowardWord {
        Max = "max",
        Min = "min",
    }
}

words! {
    /// What becomes of a record without a cursor value.
    pub(super) enum MissingWord {
        Include = "include",
        Exclude = "exclude",
        Raise = "raise",
    }
}

words! {
    /// What the cursor becomes.
    pub(super) enum WatermarkWord {
        Max = "max",
        RunStart = "run_start",
        Token = "token",
    }
}

section! {
    /// Spellings of cursor values.
    pub(super) struct NotationMapFile {
        /// How they are sent. Left out: as the API spelled them.
        send: FormatFile,
        /// How the records spell them, besides RFC 3339, dates and numbers.
        read: OneOrMany<FormatFile>,
    }
}

/// One spelling for both ways, or a map.
#[derive(Debug, Clone)]
pub(super) struct NotationFile(NotationMapFile);

impl Decode for NotationFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        if node.scalar().is_none() {
            return NotationMapFile::decode(node, problems).map(Self);
        }
        let format = FormatFile::decode(node, problems)?;
        Some(Self(NotationMapFile {
            send: Some(format.clone()),
            read: Some(OneOrMany(vec![format])),
        }))
    }

    fn show(&self) -> Value {
        self.0.show()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let short = FormatFile::schema(generator);
        let long = generator.subschema_for::<NotationMapFile>();
        json_schema!({ "anyOf": [short, long] })
    }
}

/// `now`, `now+90d`, `open`.
#[derive(Debug, Clone, Copy)]
pub(super) struct UntilFile(Until);

impl Decode for UntilFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = node.scalar().map_or("", |scalar| scalar.text.trim());
        let until = match text {
            "open" => Some(Until::Open),
            "now" => Some(Until::Now {
                ahead: Duration::ZERO,
            }),
            _ => text
                .strip_prefix("now")
                .and_then(|rest| rest.trim().strip_prefix('+'))
                .and_then(units::parse_duration)
                .map(|ahead| Until::Now { ahead }),
        };
        if until.is_none() {
            node.wrong(problems, "expected now, open, or a time ahead: now+90d");
        }
        until.map(Self)
    }

    fn show(&self) -> Value {
        match self.0 {
            Until::Open => "open".into(),
            Until::Now { ahead } if ahead.is_zero() => "now".into(),
            Until::Now { ahead } => format!("now+{}", units::format_duration(ahead)).into(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "until" })
    }
}

/// A length of time, or a number whose unit is decided by the cursor.
#[derive(Debug, Clone, Copy)]
pub(super) struct LagFile(Lag);

impl Decode for LagFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let number = node
            .scalar()
            .and_then(|scalar| scalar.text.trim().parse::<f64>().ok())
            .filter(|number| (0.0..=1e9).contains(number));
        match number {
            Some(number) => Some(Self(Lag::Plain(number))),
            None => Duration::decode(node, problems).map(|time| Self(Lag::Time(time))),
        }
    }

    fn show(&self) -> Value {
        match self.0 {
            Lag::Time(time) => time.show(),
            Lag::Plain(number) => number.show(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "duration" })
    }
}

impl IncrementalFile {
    /// The section as the program knows it, but for `first`, which the endpoint knows how to read.
    pub(super) fn resolve(&mut self, node: &Node, problems: &mut Problems) -> Incremental {
        for (name, param) in [
            ("start_param", &self.start_param),
            ("end_param", &self.end_param),
        ] {
            if param.as_deref() == Some("") {
                node.nearest(&[name])
                    .wrong(problems, "expected the name of a parameter");
            }
        }
        if self.start_param.is_some() && self.start_param == self.end_param {
            node.nearest(&["end_param"])
                .wrong(problems, "start and end cannot share a parameter");
        }
        if self.allow_external_schedulers {
            node.nearest(&["allow_external_schedulers"])
                .wrong(problems, "true is not supported: the bounds are set here");
        }
        self.check_kind(node, problems);
        self.check_span(node, problems);
        let lag = self.lag(node, problems);
        let until = match (self.until, self.window, &self.end_param, &self.end_value) {
            (Some(UntilFile(until)), ..) => Some(until),
            (None, _, _, Some(_)) | (None, None, None, None) => None,
            (None, Some(_), ..) | (None, None, Some(_), None) => Some(Until::Now {
                ahead: Duration::ZERO,
            }),
        };
        Incremental {
            cursor_path: self.cursor_path.clone(),
            initial_value: self.initial_value.clone(),
            end_value: self.end_value.clone(),
            start_param: self.start_param.clone(),
            end_param: self.end_param.clone(),
            lag,
            row_order: self.row_order.map(|order| match order {
                OrderWord::Asc => RowOrder::Ascending,
                OrderWord::Desc => RowOrder::Descending,
            }),
            open_start: self.range_start == EndWord::Open,
            closed_end: self.range_end == EndWord::Closed,
            toward: match self.last_value_func {
                TowardWord::Max => Toward::Max,
                TowardWord::Min => Toward::Min,
            },
            missing: match self.on_cursor_value_missing {
                MissingWord::Include => Missing::Include,
                MissingWord::Exclude => Missing::Exclude,
                MissingWord::Raise => Missing::Raise,
            },
            notation: self.notation(node, problems),
            window: self.window.map(|window| window.0),
            until,
            watermark: match self.watermark {
                WatermarkWord::Max => Watermark::Max,
                WatermarkWord::RunStart => Watermark::RunStart,
                WatermarkWord::Token => Watermark::Token,
            },
            first: None,
        }
    }

    /// Whether each walk has an end.
    pub(super) fn has_end(&self) -> bool {
        self.end_value.is_some()
            || self.window.is_some()
            || matches!(self.until, Some(UntilFile(Until::Now { .. })))
    }

    /// Keys that only one kind of watermark knows.
    fn check_kind(&self, node: &Node, problems: &mut Problems) {
        let is_token = self.watermark == WatermarkWord::Token;
        if self.cursor_path.is_none() {
            if self.watermark == WatermarkWord::Max {
                node.wrong(problems, "the key `cursor_path` is missing");
            }
            for (key, given) in [
                ("row_order", self.row_order.is_some()),
                ("range_start", self.range_start != EndWord::Closed),
                ("range_end", self.range_end != EndWord::Open),
                (
                    "on_cursor_value_missing",
                    self.on_cursor_value_missing != MissingWord::Include,
                ),
            ] {
                if given {
                    node.nearest(&[key]).wrong(problems, "needs `cursor_path`");
                }
            }
        }
        if self.last_value_func == TowardWord::Min && self.format.is_some() {
            node.nearest(&["format"]).wrong(
                problems,
                "what is sent is cut down, which loses records under `last_value_func: min`",
            );
        }
        for (key, given) in [
            ("last_value_func", self.last_value_func == TowardWord::Min),
            ("end_value", self.end_value.is_some()),
        ] {
            if given && self.watermark != WatermarkWord::Max {
                node.nearest(&[key])
                    .wrong(problems, "goes with `watermark: max` only");
            }
        }
        for (key, given) in [
            ("cursor_path", self.cursor_path.is_some()),
            ("initial_value", self.initial_value.is_some()),
            ("end_param", self.end_param.is_some()),
            ("lag", !self.lag.0.is_none()),
            ("format", self.format.is_some()),
            ("timezone", self.timezone.is_some()),
            ("window", self.window.is_some()),
            ("until", self.until.is_some()),
        ] {
            if given && is_token {
                node.nearest(&[key])
                    .wrong(problems, "means nothing to a token (`watermark: token`)");
            }
        }
    }

    /// Where the span begins and ends.
    fn check_span(&self, node: &Node, problems: &mut Problems) {
        if self.end_value.is_some() {
            if self.initial_value.is_none() {
                node.nearest(&["end_value"])
                    .wrong(problems, "needs `initial_value`, where the walk begins");
            }
            if self.until.is_some() {
                node.nearest(&["until"])
                    .wrong(problems, "`end_value` says already where the span ends");
            }
            if !self.lag.0.is_none() {
                node.nearest(&["lag"]).wrong(
                    problems,
                    "with `end_value` there is no cursor to lag behind",
                );
            }
        } else if self.range_end == EndWord::Closed {
            node.nearest(&["range_end"])
                .wrong(problems, "needs `end_value`");
        }
        let Some(window) = self.window else { return };
        let at = node.nearest(&["window"]);
        if window.0 < Duration::from_secs(1) {
            at.wrong(problems, "expected at least 1s");
        }
        if self.initial_value.is_none() {
            at.wrong(
                problems,
                "needs `initial_value`, where the first one begins",
            );
        }
        if self.last_value_func == TowardWord::Min {
            at.wrong(problems, "windows go forward: `last_value_func: max` only");
        }
        if self.row_order == Some(OrderWord::Desc) {
            at.wrong(
                problems,
                "a window has an end; `row_order: desc` has nothing to stop",
            );
        }
    }

    fn lag(&mut self, node: &Node, problems: &mut Problems) -> Lag {
        let lag = match (self.lag.0, self.initial_value.as_deref()) {
            (Lag::Plain(number), Some(text)) if is_date(text) => of_seconds(number * 86_400.0),
            (Lag::Plain(number), Some(text)) if text.parse::<f64>().is_err() => of_seconds(number),
            (lag, _) => lag,
        };
        // Shown with its unit, where that is known: what `check --print` says must not hang on another key.
        self.lag = LagFile(lag);
        if let Lag::Time(time) = lag
            && units::parse_duration(&units::format_duration(time)).is_none()
        {
            node.nearest(&["lag"])
                .wrong(problems, "expected less than a hundred years");
        }
        lag
    }

    /// Ends that must be understood here, and not by the API alone.
    fn check_readable(&self, notation: &Notation, node: &Node, problems: &mut Problems) {
        let expected = "expected a date, a time as in RFC 3339, a number, or what `format` says";
        for (key, text) in [
            ("initial_value", &self.initial_value),
            ("end_value", &self.end_value),
        ] {
            let Some(text) = text else { continue };
            let at = node.nearest(&[key]);
            match notation.is_time(text) {
                Some(false) if self.window.is_some() => {
                    at.wrong(
                        problems,
                        "windows need a date or a time, also with `format: epoch_s`",
                    );
                }
                None if self.window.is_some() || self.end_value.is_some() => {
                    at.wrong(problems, expected);
                }
                _ => {}
            }
        }
    }

    fn notation(&self, node: &Node, problems: &mut Problems) -> Notation {
        let (sent, read) = match &self.format {
            Some(NotationFile(file)) => (
                file.send.as_ref().map(|format| format.0.clone()),
                file.read.iter().flat_map(|read| &read.0).collect(),
            ),
            None => (None, Vec::new()),
        };
        let read: Vec<Format> = read.into_iter().map(|format| format.0.clone()).collect();
        if sent.iter().chain(&read).any(|f| *f == Format::IsoDuration) {
            node.nearest(&["format"])
                .wrong(problems, "a length of time is no place in time");
        }
        let notation = Notation {
            sent,
            read,
            zone: self.timezone,
        };
        self.check_readable(&notation, node, problems);
        notation
    }
}

impl Notation {
    /// Whether a text is a date or a time, and not a number. `None`: it is none of them.
    fn is_time(&self, text: &str) -> Option<bool> {
        let mut formats = self.read.iter().chain(&self.sent);
        if formats.any(|format| spelled::read(text, format, self.zone).is_some())
            || text.get(..10).is_some_and(is_date)
        {
            return Some(true);
        }
        text.parse::<f64>()
            .is_ok_and(f64::is_finite)
            .then_some(false)
    }
}

impl Incremental {
    /// Whether the last walk of a run has an end.
    #[must_use]
    pub fn has_end(&self) -> bool {
        self.end_value.is_some() || matches!(self.until, Some(Until::Now { .. }))
    }

    /// What decides the meaning of a stored cursor.
    #[must_use]
    pub(super) fn meaning(&self) -> String {
        let path = self.cursor_path.as_ref().map(ToString::to_string);
        let toward = (self.toward == Toward::Min).then(|| "min".to_owned());
        let watermark = match self.watermark {
            Watermark::Max => None,
            Watermark::RunStart => Some("run_start".to_owned()),
            Watermark::Token => Some("token".to_owned()),
        };
        let words: Vec<String> = path.into_iter().chain(toward).chain(watermark).collect();
        words.join(" ")
    }

    /// A section of which only the cursor's field is known, as a test or a preview may need.
    #[must_use]
    pub fn by(cursor_path: DottedPath) -> Self {
        Self {
            cursor_path: Some(cursor_path),
            initial_value: None,
            end_value: None,
            start_param: None,
            end_param: None,
            lag: Lag::NONE,
            row_order: None,
            open_start: false,
            closed_end: false,
            toward: Toward::Max,
            missing: Missing::Include,
            notation: Notation::default(),
            window: None,
            until: None,
            watermark: Watermark::Max,
            first: None,
        }
    }
}

fn of_seconds(seconds: f64) -> Lag {
    Lag::Time(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Writes dlt's parameter of type `incremental` as the section that it stands for.
pub(super) fn lift(endpoint: &mut Node) {
    let is_given = endpoint
        .get("incremental")
        .is_some_and(|node| !node.is_null());
    let Some(params) = endpoint.get("params") else {
        return;
    };
    let found = params.map().into_iter().flatten().find(|(_, entry)| {
        let kind = entry.node.get("type").and_then(Node::scalar);
        kind.is_some_and(|kind| kind.text == "incremental")
    });
    let Some((name, entry)) = found.filter(|_| !is_given) else {
        return;
    };
    let (name, mut section) = (name.clone(), entry.node.clone());
    section.remove("type");
    let place = section.place.clone();
    let param = Node {
        place,
        path: section.path.clone(),
        content: Content::Scalar(Scalar {
            text: name.clone(),
            kind: Kind::Text,
            filled: Filled::No,
        }),
    };
    section.insert("start_param", param);
    let mut params = params.clone();
    params.remove(&name);
    endpoint.insert("params", params);
    endpoint.insert("incremental", section);
}

/// Whether the text is a date without a time: `2024-01-31`.
fn is_date(text: &str) -> bool {
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}
