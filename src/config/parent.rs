//! Sections `parent` and `include_from_parent`: how a resource is walked for the records of another.

use std::{num::NonZeroUsize, sync::Arc};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    Resource,
    decode::{Decode, section, words},
    endpoint::DottedPath,
    problem::Problems,
    template::Field,
    tree::Node,
};

/// Requests for parents under way at the same time, however many the API allows.
const MOST_AT_ONCE: usize = 32;

/// Ids that fit into one request.
const MOST_IN_BATCH: usize = 10_000;

/// A resource for the records of which another one is walked.
#[derive(Debug, Clone)]
pub struct Parent {
    pub resource: Arc<Resource>,
    /// Fields that the child's requests name, of the parent and of its own parents.
    pub fields: Vec<Field>,
    /// Fields of the parent that become fields of the child's records.
    pub include: Vec<Include>,
    pub missing: Missing,
    /// Statuses that say of a parent that it is gone.
    pub gone: Vec<u16>,
    /// Parents whose walks are under way at the same time.
    pub concurrency: usize,
    /// Parents in one request; 1: a placeholder stands for one value.
    pub batch: usize,
    /// Whether the child's record goes into its parent's.
    pub merge: bool,
    /// Whether only parents that changed are read, where the parent can tell.
    pub only_changed: bool,
}

/// A parent's field that is copied into the child's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    pub field: DottedPath,
    pub name: String,
}

/// What becomes of a parent's record that lacks a field which the child's requests name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Skip,
    Fail,
}

section! {
    /// How the resource is walked for each record of its parent: the resource that its placeholders name.
    pub(super) struct ParentFile {
        /// A parent without a value for a placeholder, or with null: `skip` leaves it out and counts it, `fail` makes the run `partial`.
        missing: MissingWord = "skip",
        /// Statuses that say that a parent is gone: it has no records then, and is counted. Other errors cost that parent's records and make the run `partial`.
        gone: Vec<u16> = "[404, 410]",
        /// Parents whose requests may be under way at the same time, within `client.max_in_flight` and the limits.
        concurrency: NonZeroUsize = "4",
        /// Parents in one request: a placeholder stands for a list then. In `params` it is written as `list_style` says, within a text with commas, in `json` as a list.
        batch: NonZeroUsize = "1",
        /// List and detail in one row: the record of the answer is laid over its parent's. Where the request fails, the parent's record is kept as it is.
        merge: bool = "false",
        /// Which parents are read when the parent has `incremental`: `changed` since the last complete walk, as in dlt, or `all`.
        read: ReadWord = "changed",
    }
}

words! {
    /// What becomes of a parent without a value.
    pub(super) enum MissingWord {
        Skip = "skip",
        Fail = "fail",
    }
}

words! {
    /// Which parents are read.
    pub(super) enum ReadWord {
        Changed = "changed",
        All = "all",
    }
}

section! {
    /// A field of the parent under a name of one's own.
    pub(super) struct IncludeMapFile {
        /// The field in the parent's record.
        field: DottedPath; required,
        /// Its name in the child's. Left out: `_<parent>_<field>`.
        name: String,
    }
}

/// A field to include, in its short or long form.
#[derive(Debug, Clone)]
pub(super) struct IncludeFile(IncludeMapFile);

impl Decode for IncludeFile {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match node.scalar() {
            Some(_) => DottedPath::decode(node, problems)
                .map(|field| Self(IncludeMapFile { field, name: None })),
            None => IncludeMapFile::decode(node, problems).map(Self),
        }
    }

    fn show(&self) -> Value {
        match self.0.name {
            None => self.0.field.show(),
            Some(_) => self.0.show(),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let short = DottedPath::schema(generator);
        let long = generator.subschema_for::<IncludeMapFile>();
        json_schema!({ "anyOf": [short, long] })
    }
}

/// What a resource says of its parent, before the parent is known.
#[derive(Debug, Clone)]
pub(super) struct ParentRules {
    parent: ParentFile,
    include: Vec<IncludeFile>,
}

impl ParentRules {
    pub(super) fn new(parent: &ParentFile, include: Option<&Vec<IncludeFile>>) -> Self {
        Self {
            parent: parent.clone(),
            include: include.cloned().unwrap_or_default(),
        }
    }

    /// Without a parent there is nothing to say of one.
    pub(super) fn check_alone(&self, node: &Node, problems: &mut Problems) {
        let needs =
            "names no parent: use a placeholder such as `{resources.parent.id}` in the endpoint";
        if !self.include.is_empty() {
            node.nearest(&["include_from_parent"])
                .wrong(problems, needs);
        }
        for (given, key) in [
            (self.parent.batch.get() > 1, "batch"),
            (self.parent.merge, "merge"),
        ] {
            if given {
                node.nearest(&["parent", key]).wrong(problems, needs);
            }
        }
    }

    /// The link to the parent.
    pub(super) fn resolve(
        &self,
        child: &Resource,
        resource: Arc<Resource>,
        fields: Vec<Field>,
        node: &Node,
        problems: &mut Problems,
    ) -> Parent {
        let at = node.nearest(&["parent"]);
        let batch = self.parent.batch.get();
        let mut wrong = |key: &str, message: &str| at.nearest(&[key]).wrong(problems, message);
        if batch > MOST_IN_BATCH {
            wrong("batch", "expected at most 10000 parents in one request");
        }
        if batch > 1 && self.parent.merge {
            wrong(
                "merge",
                "a batch does not tell which parent a record belongs to",
            );
        }
        if child.endpoint.asks_for_changes() && (batch > 1 || self.parent.merge) {
            let key = if batch > 1 { "batch" } else { "merge" };
            wrong(
                key,
                "does not go with `incremental`, whose cursor is one for each parent",
            );
        }
        if self.parent.concurrency.get() > MOST_AT_ONCE {
            wrong("concurrency", "expected at most 32");
        }
        if self
            .parent
            .gone
            .iter()
            .any(|status| !(400..=499).contains(status))
            || self.parent.gone.contains(&401)
            || self.parent.gone.contains(&429)
        {
            wrong(
                "gone",
                "expected statuses from 400 to 499, but 401 and 429, which say nothing of one parent",
            );
        }
        let list = node.nearest(&["include_from_parent"]);
        let mut include: Vec<Include> = Vec::new();
        for (index, IncludeFile(file)) in self.include.iter().enumerate() {
            let at = list.list().and_then(|list| list.get(index)).unwrap_or(list);
            if batch > 1 {
                at.wrong(
                    problems,
                    "a batch does not tell which parent a record belongs to",
                );
            }
            let name = match &file.name {
                Some(name) => name.clone(),
                None => format!("_{}_{}", resource.name, file.field.keys().join("_")),
            };
            if name.is_empty() || include.iter().any(|known| known.name == name) {
                at.wrong(problems, "expected a name that no other field has");
            }
            include.push(Include {
                field: file.field.clone(),
                name,
            });
        }
        Parent {
            resource,
            fields,
            include,
            missing: match self.parent.missing {
                MissingWord::Skip => Missing::Skip,
                MissingWord::Fail => Missing::Fail,
            },
            gone: self.parent.gone.clone(),
            concurrency: self.parent.concurrency.get(),
            batch,
            merge: self.parent.merge,
            only_changed: matches!(self.parent.read, ReadWord::Changed),
        }
    }
}

impl Parent {
    /// The outermost parent, and whether only those of its records are read that changed.
    #[must_use]
    pub fn outermost(&self) -> (&Resource, bool) {
        match &self.resource.parent {
            Some(parent) => parent.outermost(),
            None => (&self.resource, self.only_changed),
        }
    }

    /// The parent and its own parents, the nearest first.
    pub fn line(&self) -> impl Iterator<Item = &Resource> {
        let first = Some(&*self.resource);
        std::iter::successors(first, |resource| {
            resource.parent.as_ref().map(|parent| &*parent.resource)
        })
    }
}
