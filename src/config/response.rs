//! Section `endpoint.response`: the form of the answers.

use super::{
    decode::{Size, section, variants},
    endpoint::{DottedPath, Selector, Step},
    paginator::Paginator,
    problem::Problems,
    tree::Node,
};

/// The form of the answers. All become JSON records.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    pub format: Format,
    /// Largest decoded body in bytes; `None`: what the client allows.
    pub max_body: Option<u64>,
    /// Whether records are taken out while the body still comes.
    pub stream: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum Format {
    #[default]
    Json,
    /// One JSON value per line.
    Ndjson,
    Csv(Csv),
    /// Elements become objects; those at the paths are always lists.
    Xml {
        lists: Vec<DottedPath>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    pub delimiter: u8,
    pub quote: u8,
    /// Names of the columns where the first row does not hold them.
    pub columns: Option<Vec<String>>,
    /// The WHATWG label of the character set.
    pub charset: String,
}

variants! {
    /// The form of the answers. A gzip file is opened, whatever the answer says of it.
    pub(super) enum ResponseFile {
        Json(JsonFile) = "json",
        Ndjson(NdjsonFile) = "ndjson" | "jsonl",
        Csv(CsvFile) = "csv",
        Xml(XmlFile) = "xml",
    }
}

section! {
    /// One JSON document.
    pub(super) struct JsonFile {
        /// Takes the records out while the answer still comes, so that one huge answer costs little memory. For `single_page`; a connection that breaks begins the walk anew.
        stream: bool = "false",
        /// Largest body of an answer, decompressed. Left out: that of `client`.
        max_body: Size,
    }
}

section! {
    /// One JSON record per line.
    pub(super) struct NdjsonFile {
        /// As for `json`.
        stream: bool = "false",
        /// As for `json`.
        max_body: Size,
    }
}

section! {
    /// Rows of texts. What the texts are is for `columns` to say; `null_values: [""]` makes empty ones null.
    pub(super) struct CsvFile {
        /// One sign between the fields; `\t` is a tab.
        delimiter: String = ",",
        /// One sign around fields that hold delimiters or line breaks; twice, it stands for itself.
        quote: String = "\"",
        /// Names of the columns, in their order. Left out: the first row holds them.
        columns: Vec<String>,
        /// Character set, such as `windows-1252` or `utf-16le`.
        charset: String = "utf-8",
        /// As for `json`.
        stream: bool = "false",
        /// As for `json`.
        max_body: Size,
    }
}

section! {
    /// XML. Elements become objects, repeated ones lists, attributes `@name`, text beside others `#text`; prefixes of namespaces are left out. `data_selector` and the paginator's paths begin with the root element; what `data_selector` names is always a list.
    pub(super) struct XmlFile {
        /// More elements that may repeat: they are lists also where there is one.
        lists: Vec<DottedPath>,
        /// As for `json`.
        max_body: Size,
    }
}

impl ResponseFile {
    pub(super) fn resolve(
        &self,
        selector: &Selector,
        paginator: &Paginator,
        endpoint: &Node,
        problems: &mut Problems,
    ) -> Option<Response> {
        let at = endpoint.nearest(&["response"]);
        let (format, max_body, stream) = match self {
            Self::Json(file) => (Format::Json, file.max_body, file.stream),
            Self::Ndjson(file) => (Format::Ndjson, file.max_body, file.stream),
            Self::Csv(file) => (
                Format::Csv(file.resolve(at, problems)?),
                file.max_body,
                file.stream,
            ),
            Self::Xml(file) => {
                let lists = file.lists.clone().unwrap_or_default();
                (Format::Xml { lists }, file.max_body, false)
            }
        };
        match (&format, selector) {
            (Format::Ndjson | Format::Csv(_), Selector::Root) => {}
            (Format::Ndjson | Format::Csv(_), _) => endpoint.nearest(&["data_selector"]).wrong(
                problems,
                "every line is a record here: write `data_selector: $`",
            ),
            (Format::Xml { .. }, Selector::Path(path)) if is_plain(path) => {}
            (Format::Xml { .. }, _) => endpoint.nearest(&["data_selector"]).wrong(
                problems,
                "expected the names of elements, from the root to the records: `people.person`",
            ),
            (Format::Json, Selector::Path(path)) if stream && !is_plain(path) => {
                at.nearest(&["stream"])
                    .wrong(problems, "streams need a `data_selector` without positions");
            }
            (Format::Json, Selector::JsonPath(_)) if stream => {
                at.nearest(&["stream"]).wrong(
                    problems,
                    "streams need a `data_selector` of plain names such as data.items",
                );
            }
            (Format::Json, _) => {}
        }
        if matches!(format, Format::Ndjson | Format::Csv(_)) && paginator.reads_body() {
            endpoint.nearest(&["paginator"]).wrong(
                problems,
                "lines have no place for what this paginator reads from the body (with `offset` or `page_number`, set `total_path: null`)",
            );
        }
        if stream && !matches!(paginator, Paginator::SinglePage) {
            at.nearest(&["stream"])
                .wrong(problems, "streams need `paginator: single_page`");
        }
        Some(Response {
            format,
            max_body: max_body.map(|size| size.0),
            stream,
        })
    }
}

fn is_plain(path: &DottedPath) -> bool {
    path.0.iter().all(|step| matches!(step, Step::Key(_)))
}

impl CsvFile {
    fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Csv> {
        let mut sign = |text: &str, key: &str| {
            let text = if text == "\\t" { "\t" } else { text };
            match text.as_bytes() {
                [sign] if sign.is_ascii() && !matches!(sign, b'\r' | b'\n') => Some(*sign),
                _ => {
                    node.nearest(&[key])
                        .wrong(problems, "expected one sign of ASCII");
                    None
                }
            }
        };
        let (delimiter, quote) = (
            sign(&self.delimiter, "delimiter"),
            sign(&self.quote, "quote"),
        );
        if delimiter.is_some() && delimiter == quote {
            node.nearest(&["quote"])
                .wrong(problems, "expected another sign than `delimiter`");
        }
        if encoding_rs::Encoding::for_label(self.charset.as_bytes()).is_none() {
            node.nearest(&["charset"]).wrong(
                problems,
                "expected a character set such as utf-8, windows-1252 or utf-16le",
            );
        }
        if let Some(columns) = &self.columns {
            let mut names = columns.clone();
            names.sort();
            names.dedup();
            if columns.is_empty() || names.len() < columns.len() || names.contains(&String::new()) {
                node.nearest(&["columns"])
                    .wrong(problems, "expected names, each once");
            }
        }
        Some(Csv {
            delimiter: delimiter?,
            quote: quote?,
            columns: self.columns.clone(),
            charset: self.charset.clone(),
        })
    }
}
