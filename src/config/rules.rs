//! Section `endpoint.response_actions`: what an answer means besides what its status says.
//!
//! One ordered list; the first rule that fits decides. dlt's form (`status_code`, `content`,
//! `action: ignore`) is a rule like any other.

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    auth::is_token,
    decode::{Decode, Json, OneOrMany, Tried, section, words},
    endpoint::DottedPath,
    problem::Problems,
    template::text_of,
    tree::Node,
};

/// One rule. All of its conditions hold together.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Ranges of statuses, both ends among them; one of them holds. Empty: any.
    pub statuses: Vec<(u16, u16)>,
    /// Names of headers, and what their values hold.
    pub headers: Vec<(String, String)>,
    /// Texts that the body holds.
    pub contents: Vec<String>,
    pub json: Vec<JsonIs>,
    /// Whether the body is empty.
    pub empty: Option<bool>,
    pub action: Action,
    /// Where the answer tells why, in words that may be shown.
    pub message_path: Option<DottedPath>,
}

/// A place in the answer and the values that fit.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonIs {
    pub path: DottedPath,
    /// Scalars as text; `None`: null, or not there.
    pub values: Vec<Option<String>>,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Ignore,
    Empty,
    Skip,
    Retry,
    Refresh,
    Restart,
    Resync,
    Fail,
}

impl Action {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Empty => "empty",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Refresh => "refresh",
            Self::Restart => "restart",
            Self::Resync => "resync",
            Self::Fail => "fail",
        }
    }
}

section! {
    /// What an answer means. The first rule whose conditions all hold decides; without one, the status does.
    pub(super) struct RuleFile {
        /// Status of the answer: `404`, a class such as `4xx`, a range such as `400-499`, or a list of them.
        status_code: OneOrMany<StatusFile>,
        /// Text that the body holds.
        content: String,
        /// More conditions.
        when: Tried<WhenFile>,
        /// `ignore`: the paging ends here, as in dlt; what was read is kept, but the run is `partial`: nothing is deleted and the cursor stays. `empty`: there are no (more) records; the walk is as complete as if the API had sent an empty last page. `skip`: the key may not see this; nothing is retried, rows stay, the run is `partial`. `retry`: once more, as for the statuses of `client.retry`. `refresh`: a new token, then once more. `restart`: the walk begins anew, three times at most. `resync`: the stored cursor is void; everything is read, once. `fail`: the run fails, without a retry.
        action: ActionFile; required,
        /// Where the answer holds its message. Naming it declares that these messages hold nothing personal: the history and the log show 200 characters of it, without what looks like an address, a number or a key. Left out: none is shown.
        safe_message_path: DottedPath,
    }
}

section! {
    /// Conditions on an answer; all hold together.
    pub(super) struct WhenFile {
        /// Like `status_code`.
        status: OneOrMany<StatusFile>,
        /// Headers by name, and a text that each holds.
        header: IndexMap<String, String>,
        /// Text that the body holds.
        content: String,
        /// Places in a JSON answer, each with the value that it has, or a list of values of which it has one: `{success: false, "error.code": 10}`. Compared as text; null fits also what is not there.
        json: IndexMap<String, Json>,
        /// Whether the body is empty.
        empty: bool,
    }
}

words! {
    /// What follows from an answer.
    pub(super) enum ActionFile {
        Ignore = "ignore",
        Empty = "empty",
        Skip = "skip",
        Retry = "retry",
        Refresh = "refresh",
        Restart = "restart",
        Resync = "resync",
        Fail = "fail",
    }
}

/// A status, a class or a range of statuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusFile(u16, u16);

impl StatusFile {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let status = |text: &str| {
            let status: u16 = text.trim().parse().ok()?;
            (100..600).contains(&status).then_some(status)
        };
        if let Some(class) = text.strip_suffix("xx").or(text.strip_suffix("XX")) {
            let class: u16 = class.parse().ok().filter(|class| (1..6).contains(class))?;
            return Some(Self(class * 100, class * 100 + 99));
        }
        match text.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (status(from)?, status(to)?);
                (from <= to).then_some(Self(from, to))
            }
            None => status(text).map(|status| Self(status, status)),
        }
    }
}

impl Decode for StatusFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let status = node.scalar().and_then(|scalar| Self::parse(&scalar.text));
        if status.is_none() {
            node.wrong(problems, "expected a status such as 404, 4xx or 400-499");
        }
        status
    }

    fn show(&self) -> Value {
        match self {
            Self(from, to) if from == to => (*from).into(),
            Self(from, to) => format!("{from}-{to}").into(),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "pattern": r"^([1-5]\d\d(-[1-5]\d\d)?|[1-5](xx|XX))$|\$\{" })
    }
}

impl RuleFile {
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Option<Rule> {
        let mut rule = Rule {
            statuses: ranges(self.status_code.as_ref()),
            headers: Vec::new(),
            contents: self.content.iter().cloned().collect(),
            json: Vec::new(),
            empty: None,
            action: self.action.resolve(),
            message_path: self.safe_message_path.clone(),
        };
        if let Some(Tried(when)) = &self.when {
            let when = when.as_ref()?;
            let at = node.nearest(&["when"]);
            if !rule.statuses.is_empty() && when.status.is_some() {
                at.nearest(&["status"])
                    .wrong(problems, "stands as `status_code` already");
            }
            rule.statuses.extend(ranges(when.status.as_ref()));
            rule.contents.extend(when.content.clone());
            rule.empty = when.empty;
            for (name, value) in when.header.iter().flatten() {
                let at = at.nearest(&["header", name]);
                if !is_token(name) {
                    at.wrong(problems, "expected the name of a header");
                }
                rule.headers.push((name.clone(), value.clone()));
            }
            for (path, value) in when.json.iter().flatten() {
                let at = at.nearest(&["json", path]);
                rule.json.extend(json_is(path, &value.value, at, problems));
            }
        }
        if rule.contents.iter().any(String::is_empty) {
            node.wrong(problems, "an empty `content` is in every answer");
        }
        let has_json = |when: &WhenFile| when.json.as_ref().is_some_and(|json| !json.is_empty());
        let json_given = self.when.as_ref().and_then(|when| when.0.as_ref());
        let is_unconditional = !json_given.is_some_and(has_json)
            && rule.statuses.is_empty()
            && rule.headers.is_empty()
            && rule.contents.is_empty()
            && rule.empty.is_none();
        if is_unconditional {
            node.wrong(
                problems,
                "a rule needs a condition: `status_code`, `content` or `when`",
            );
        }
        Some(rule)
    }
}

fn ranges(statuses: Option<&OneOrMany<StatusFile>>) -> Vec<(u16, u16)> {
    let statuses = statuses.into_iter().flat_map(|list| &list.0);
    statuses.map(|StatusFile(from, to)| (*from, *to)).collect()
}

fn json_is(path: &str, value: &Value, at: &Node, problems: &mut Problems) -> Option<JsonIs> {
    let Some(path) = DottedPath::parse(path).filter(|path| !path.0.is_empty()) else {
        at.wrong(
            problems,
            "expected a path of plain steps such as error.code",
        );
        return None;
    };
    let values: Vec<&Value> = match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    };
    if values.is_empty() || values.iter().any(|v| v.is_array() || v.is_object()) {
        at.wrong(
            problems,
            "expected a text, number, boolean, null or a list of them",
        );
        return None;
    }
    Some(JsonIs {
        path,
        values: values.into_iter().map(text_of).collect(),
    })
}

impl ActionFile {
    fn resolve(self) -> Action {
        match self {
            Self::Ignore => Action::Ignore,
            Self::Empty => Action::Empty,
            Self::Skip => Action::Skip,
            Self::Retry => Action::Retry,
            Self::Refresh => Action::Refresh,
            Self::Restart => Action::Restart,
            Self::Resync => Action::Resync,
            Self::Fail => Action::Fail,
        }
    }
}
