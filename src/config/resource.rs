//! Section `resources`: one endpoint that fills one table.

use indexmap::IndexMap;
use std::num::{NonZeroU64, NonZeroUsize};

use chrono_tz::Tz;
use serde_json::{Value, json};
use url::Url;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    columns::{ColumnFile, ColumnHint, DetectFile, NestedFile, TextFile},
    contract::{Contract, ContractShort},
    decode::{Json, OneOrMany, Period, Short, Size, Tried, section},
    deletes::DeletesShort,
    disposition::{self, DispositionFile, KeyFile, hinted_path},
    endpoint::{Body, DottedPath, Endpoint, EndpointFile, Step, beside},
    incremental::{Incremental, Watermark},
    jq::Program,
    name::plain,
    parent::{IncludeFile, ParentFile, ParentRules},
    privacy::{PrivacyFile, PrivacyKey, RowRetentionFile},
    problem::{Place, Problems},
    rejects::RejectsFile,
    schedule::ScheduleFile,
    source::{
        Batch, DeleteFeed, DeleteMode, Deletes, Flag, KeyHash, ProcessingLimits, ProcessingStep,
        Resource, StepKind, Strategy, WriteDisposition,
    },
    tree::Node,
};

section! {
    /// One endpoint that fills one table.
    pub(super) struct ResourceFile {
        /// Name of the resource, unique in its source. Must be given, but not in `resource_defaults`.
        name: String,
        /// Whether the resource is synced.
        selected: bool = "true",
        /// What is requested. Left out: the path is the name.
        endpoint: Tried<Short<EndpointFile>>,
        /// What becomes of each record before anything else looks at it, in this order: programs of jq. They see the record and nothing else; numbers that they only move keep all digits.
        processing_steps: Vec<StepFile>,
        /// What the programs of `processing_steps` and `deletes.when` may take. They run in a process of their own; a record that takes more is a reject (`step_too_long`, `step_exhausted`), and a run with more than 20 of them fails.
        processing_limits: ProcessingLimitsFile; section,
        /// Fields of the parent's record that become fields of these records: `id` as `_<parent>_id`. A map gives another name: `{field: department.name, name: department}`.
        include_from_parent: Vec<IncludeFile>,
        /// How the resource is walked for each record of its parent: the resource that its placeholders name.
        parent: ParentFile; section,
        /// Records that stand here instead of being asked for, to be the parents of other resources: a list of maps, or of texts and numbers, each of which is the record's field `value`. A resource with values fills no table.
        values: Vec<Json>,
        /// Table of the rows. Left out: the name.
        table_name: String,
        /// Field, or list of fields, that tells one record from all others; `employee.id` for a nested one. Records without one get a key in the column `_rosterd_key`: `{hash: [name, start]}`, or `{hash: "*"}` for all that a record holds.
        primary_key: KeyFile,
        /// What happens to the rows: `append`, `replace`, `merge` (needs a `primary_key`), `skip` (the resource is not synced). Must be given where there is no `primary_key`.
        write_disposition: DispositionFile = "append",
        /// Field, or list of fields, whose value names a set of rows: the records that a complete walk brings of a set replace all its rows, in one transaction. A record needs no key of its own then.
        merge_key: OneOrMany<DottedPath>,
        /// Records may leave fields out that they do not speak of: these stay as they are in the row. Otherwise a field that is missing is null.
        partial_records: bool = "false",
        /// Another name for `merge_key`, which says what it does: `replace_by: employee_id`.
        replace_by: OneOrMany<DottedPath>,
        /// Under `replace`: a complete walk without records empties the table.
        allow_empty: bool = "false",
        /// How records that are gone are noticed, and what becomes of their rows: `none`, `snapshot`, or a map.
        deletes: DeletesShort = "none",
        /// What becomes of a run whose records could not all become rows.
        rejects: RejectsFile; section,
        /// When the resource is due: `*/15 * * * *`, `every 15m`, or a map. Left out or null: only on request.
        schedule: ScheduleFile,
        /// When everything is read, whatever the cursor says, for what came too late and for `deletes: snapshot`; written like `schedule`: `0 3 * * 0`.
        reconcile: ScheduleFile,
        /// The table should never be older than this; `resource_health` says `late` when it is.
        freshness: Period,
        /// When the rows in hand are committed: whichever bound is met first.
        batch: BatchFile; section,
        /// A walk that asks for more pages fails.
        max_pages: NonZeroU64 = "100000",
        /// A run that takes longer fails.
        max_run_time: Period = "6h",
        /// Left out: objects become columns (`address__city`), lists are kept as jsonb. 0: objects too are kept as jsonb. N: lists become tables `<table>__<field>`, N levels deep, with `_rosterd_id`, `_rosterd_parent_id`, `_rosterd_root_id` and `_rosterd_list_idx`.
        max_table_nesting: u32,
        /// What is known of columns beforehand, by the column's name (`address__city`) or the field's (`address.city`).
        columns: IndexMap<String, ColumnFile>,
        /// What is known of the tables of lists (`max_table_nesting` above 0), by the list's field: `jobs`, `address.phones`, `jobs.tasks` for a list in the elements of another.
        nested_hints: IndexMap<String, NestedFile>,
        /// What may become of the table's shape once its first load is done: `evolve`, `freeze`, `discard_row`, `discard_value`, or a map. Left out: as the source says.
        schema_contract: ContractShort,
        /// Strings that stand for null in every column without `null_values` of its own, keys excepted: `""`, `None`.
        null_values: Vec<String>,
        /// Which strings are taken for more than text.
        detect: DetectFile; section,
        /// What becomes of text that Postgres cannot hold.
        text: TextFile; section,
        /// What is done to records in memory, before anything of them is stored, logged or compared.
        privacy: Tried<PrivacyFile>; section,
        /// How long rows are kept.
        retention: Tried<RowRetentionFile>,
        /// Taken for dlt's sake: resources run side by side, and known pages are fetched ahead, under `client.limits`.
        parallelized: bool,
        /// Taken for dlt's sake: rows always go to Postgres by `COPY`.
        file_format: String,
        /// Taken for dlt's sake, which makes no foreign keys of them either.
        references: Vec<Json>,
    }
    refused [
        "table_format": "names a format of data lakes; tables are Postgres tables",
        "incremental": "is a Python object of dlt; write `endpoint.incremental`",
    ]
}

section! {
    /// When the rows in hand are committed: whichever bound is met first.
    pub(super) struct BatchFile {
        /// Records. Too low: many small transactions; too high: more is lost when a run is cut.
        rows: NonZeroUsize = "10000",
        /// Bytes of records; bounds the memory of a run.
        bytes: Size = "2MiB",
        /// Time since the last commit.
        wait: Period = "2s",
    }
}

section! {
    /// What the programs may take for one record.
    pub(super) struct ProcessingLimitsFile {
        /// Longest time.
        time: Period = "10s",
        /// Memory of their process.
        memory: Size = "256MiB",
    }
}

section! {
    /// One step of the processing: exactly one of its keys.
    pub(super) struct StepFile {
        /// Records for which the program gives `false` or `null` are left out: `.status == "active"`.
        filter: Program,
        /// The record becomes the program's one output: `{id, name: .full_name}`.
        map: Program,
        /// The record becomes all outputs of the program, of which there may be none: `.morning, .evening`.
        yield_map: Program,
    }
}

/// What a resource takes from its surroundings.
pub(super) struct Shared<'a> {
    pub(super) schema: &'a str,
    pub(super) base_url: Option<&'a Url>,
    /// What endpoints name as `{vars.<name>}`.
    pub(super) vars: &'a IndexMap<String, Value>,
    /// Names of the source's resources.
    pub(super) names: &'a [String],
    pub(super) timezone: Tz,
    pub(super) max_table_nesting: Option<u32>,
    pub(super) schema_contract: Option<&'a ContractShort>,
    pub(super) privacy_keys: &'a [PrivacyKey],
}

impl ResourceFile {
    /// Whether it is to be synced.
    pub(super) fn is_synced(&self) -> bool {
        self.selected && !self.write_disposition.skips()
    }

    /// The resource as the program knows it; the file's own fields get the defaults that hang on others.
    pub(super) fn resolve(
        &mut self,
        shared: &Shared<'_>,
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Resource> {
        let Some(name) = self.name.clone() else {
            node.wrong(problems, "the key `name` is missing");
            return None;
        };
        if name.is_empty()
            || name.len() > 255
            || name.contains(|c: char| c == '/' || c.is_control())
        {
            node.nearest(&["name"]).wrong(
                problems,
                "expected a name without `/`, at most 255 bytes long",
            );
        }
        let table = self.table_name.get_or_insert_with(|| name.clone()).clone();
        if !table.contains(char::is_alphanumeric) {
            node.nearest(&["table_name"])
                .wrong(problems, "expected a name with letters or digits");
        }
        let columns = self.column_hints(node, problems);
        let steps = steps_of(self.processing_steps.as_deref(), node, problems);
        let key_fields = self.primary_key.as_ref().map_or(&[][..], KeyFile::fields);
        let mut key_hash = self.primary_key.as_ref().and_then(KeyFile::hash).cloned();
        let mut primary_key = match key_hash {
            Some(_) => Vec::new(),
            None => key_fields.to_vec(),
        };
        for path in columns
            .iter()
            .filter(|(_, hint)| hint.primary_key)
            .filter_map(|(name, _)| hinted_path(name))
        {
            if !primary_key.contains(&path) {
                primary_key.push(path);
            }
        }
        if (1..primary_key.len()).any(|end| {
            let (before, rest) = primary_key.split_at(end);
            rest.first().is_some_and(|field| before.contains(field))
        }) {
            node.nearest(&["primary_key"])
                .wrong(problems, "a field stands twice");
        }
        let at = node.nearest(&["write_disposition"]);
        let mut replace_by = self.sets(&columns, node, problems);
        let disposition = self.write_disposition.resolve(&replace_by, at, problems);
        if disposition.history.is_some() {
            replace_by.clear();
            // As in dlt, a row is then told by all that it holds.
            if primary_key.is_empty() {
                key_hash.get_or_insert(KeyHash::Whole);
            }
        }
        let by_sets = !replace_by.is_empty();
        if key_hash.is_some() {
            if !primary_key.is_empty() {
                node.nearest(&["primary_key"]).wrong(
                    problems,
                    "a hash is the whole key: take `primary_key` out of `columns`",
                );
            }
            primary_key = vec![disposition::hashed_key()];
        }
        let write_disposition = disposition.word;
        if write_disposition == WriteDisposition::Merge
            && primary_key.is_empty()
            && !by_sets
            && self.values.is_none()
        {
            node.nearest(&["write_disposition"]).wrong(
                problems,
                "`merge` needs a `primary_key` or a `merge_key`; without one use `append` or `replace`",
            );
        }
        if node.get("write_disposition").is_none()
            && primary_key.is_empty()
            && !by_sets
            && self.is_synced()
            && self.values.is_none()
        {
            node.wrong(
                problems,
                "neither a `primary_key` nor a `write_disposition`: name the key (`{hash: \"*\"}` makes one), or choose `append` or `replace`",
            );
        }
        let at = node.nearest(&["deletes"]);
        let mut deletes = self.deletes.0.resolve(write_disposition, at, problems);
        if let Some(flag) = self.hard_delete(&columns, &deletes, write_disposition, node, problems)
        {
            deletes.flag = Some(flag);
            deletes.hard = true;
        }
        if let Some((name, _)) = columns.iter().find(|(_, hint)| hint.unique)
            && disposition.history.is_some()
        {
            node.nearest(&["columns", name, "unique"])
                .wrong(problems, "several versions of a row have the same value");
        }
        if disposition.history.is_some() {
            // Rows that are gone end like versions that are over.
            deletes.hard = true;
            if deletes.mode == DeleteMode::None {
                if node.get("deletes").is_some() {
                    at.wrong(
                        problems,
                        "`scd2` ends the versions of records that are gone: leave `deletes` out, or set a `merge_key` to limit it",
                    );
                }
                deletes.mode = DeleteMode::Snapshot;
            }
        }
        if by_sets && (deletes.mode != DeleteMode::None || deletes.flag.is_some()) {
            at.wrong(
                problems,
                "with a `merge_key` rows go when their set is delivered without them, and not otherwise",
            );
        }
        if disposition.strategy == Strategy::InsertOnly
            && (deletes.mode != DeleteMode::None || deletes.flag.is_some())
        {
            at.wrong(
                problems,
                "`insert-only` never touches a row that is there, so that none can be told to be gone",
            );
        }
        if self.partial_records {
            let is_upsert = write_disposition == WriteDisposition::Merge
                && disposition.strategy == Strategy::Upsert
                && self.write_disposition.may_be_partial()
                && !by_sets
                && key_hash != Some(KeyHash::Whole);
            if !is_upsert {
                node.nearest(&["partial_records"]).wrong(
                    problems,
                    "only `merge` with the strategy `upsert` and a key of fields leaves parts of a row as they are",
                );
            }
        }
        let schedule = match &mut self.schedule {
            Some(file) => {
                let at = node.nearest(&["schedule"]);
                Some(file.resolve(shared.timezone, at, problems))
            }
            None => None,
        };
        let reconcile = match &mut self.reconcile {
            Some(file) => {
                let at = node.nearest(&["reconcile"]);
                Some(file.resolve(shared.timezone, at, problems))
            }
            None => None,
        };
        if self.max_table_nesting.is_none() {
            self.max_table_nesting = shared.max_table_nesting;
        }
        if self.schema_contract.is_none() {
            self.schema_contract = shared.schema_contract.cloned();
        }
        if self.max_table_nesting.is_some_and(|levels| levels > 0) {
            if self.partial_records {
                node.nearest(&["partial_records"]).wrong(
                    problems,
                    "does not go with tables for lists (`max_table_nesting` above 0)",
                );
            }
            if write_disposition != WriteDisposition::Append && primary_key.is_empty() {
                node.nearest(&["max_table_nesting"]).wrong(
                    problems,
                    "tables for lists need a `primary_key`, to tell which row a list belongs to",
                );
            }
            if primary_key
                .iter()
                .any(|path| path.0.iter().any(|step| matches!(step, Step::Index(_))))
            {
                node.nearest(&["primary_key"]).wrong(
                    problems,
                    "a key inside a list does not go with tables for lists (`max_table_nesting` above 0)",
                );
            }
        }
        let at = node.nearest(&["endpoint"]);
        let endpoint = self.endpoint.as_mut()?.0.as_mut()?.0.resolve(
            &name,
            shared.base_url,
            shared.vars,
            shared.names,
            at,
            problems,
        );
        let endpoint = endpoint?;
        let has_cursor = endpoint
            .incremental
            .as_ref()
            .is_some_and(|incremental| incremental.end_value.is_none());
        if reconcile.is_some() && !has_cursor {
            node.nearest(&["reconcile"]).wrong(
                problems,
                "every run reads everything: without a cursor there is nothing to reconcile",
            );
        }
        if deletes.mode == DeleteMode::Snapshot
            && endpoint
                .incremental
                .as_ref()
                .is_some_and(Incremental::has_end)
        {
            node.nearest(&["deletes"]).wrong(
                problems,
                "`snapshot` needs walks without an end, or what lies behind it would count as gone: `until: open`",
            );
        }
        if self.values.is_some() {
            // It was made for the sake of the others; the file has none.
            self.endpoint = None;
        }
        if write_disposition == WriteDisposition::Replace && endpoint.asks_for_changes() {
            node.nearest(&["write_disposition"]).wrong(
                problems,
                "`replace` with `incremental` would leave only the latest changes in the table",
            );
        }
        let delete_feed = match deletes.mode {
            DeleteMode::Feed => {
                let at = node.nearest(&["deletes"]);
                let key = self.deletes.0.key.as_ref().map(|key| key.0.clone());
                let key = key.unwrap_or_else(|| primary_key.clone());
                if key.len() != primary_key.len() || key_hash.is_some() {
                    at.nearest(&["key"]).wrong(
                        problems,
                        "expected one field for each of `primary_key`, which is no hash",
                    );
                }
                if disposition.history.is_some() {
                    at.wrong(problems, "`feed` does not go with `strategy: scd2`");
                }
                let own = at.get("endpoint")?;
                let main = node.nearest(&["endpoint"]);
                let endpoint = beside(&name, shared.base_url, shared.vars, main, own, problems)?;
                if has_cursor && endpoint.incremental.is_none() {
                    own.wrong(
                        problems,
                        "beside a cursor the list needs an `incremental` of its own, to tell old entries from new ones",
                    );
                }
                if let Some(incremental) = &endpoint.incremental
                    && (incremental.window.is_some()
                        || incremental.end_value.is_some()
                        || incremental.watermark == Watermark::Token
                        || incremental.first.is_some())
                {
                    own.nearest(&["incremental"]).wrong(
                        problems,
                        "a feed of deletions is one walk from its cursor on: no `window`, `end_value`, `first`, `watermark: token`",
                    );
                }
                let steps = steps_of(self.deletes.0.processing_steps.as_deref(), at, problems);
                let fingerprint = fingerprint(&endpoint, &key, None, &steps, own);
                Some(DeleteFeed {
                    endpoint,
                    key,
                    steps,
                    max_records: self.deletes.0.max_records.get(),
                    fingerprint,
                })
            }
            _ => None,
        };
        let version = disposition::version(columns.iter(), &endpoint, node, problems);
        let keeps_one = write_disposition != WriteDisposition::Append && !primary_key.is_empty();
        if !keeps_one
            && let Some((name, _)) = columns.iter().find(|(_, hint)| hint.dedup_sort.is_some())
        {
            node.nearest(&["columns", name, "dedup_sort"]).wrong(
                problems,
                "chooses between records with one key: it needs a `primary_key` under `merge` or `replace`",
            );
        }
        let privacy = self.privacy.0.as_ref()?.resolve(
            shared.privacy_keys,
            match key_hash {
                Some(_) => key_fields,
                None => &primary_key,
            },
            node.nearest(&["privacy"]),
            problems,
        );
        if deletes.mode == DeleteMode::Feed && primary_key.iter().any(|field| privacy.hashes(field))
        {
            node.nearest(&["deletes"]).wrong(
                problems,
                "`feed` cannot find rows by a key that the privacy rules hash",
            );
        }
        let history = disposition.history.iter();
        let history = history.flat_map(|history| history.within.iter().chain(&history.row_version));
        let flag = deletes.flag.iter().map(|flag| &flag.field);
        for field in flag.chain(&replace_by).chain(history) {
            let names = field.keys();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let is_out = privacy.exclude.iter().any(|pattern| pattern.covers(&names))
                || (!privacy.only.is_empty() && !privacy.only.iter().any(|p| p.covers(&names)));
            if is_out {
                node.nearest(&["privacy"]).wrong(
                    problems,
                    format!("leaves out `{field}`, which decides what becomes of rows"),
                );
            }
        }
        let retention = match &self.retention {
            Some(Tried(file)) => {
                let at = node.nearest(&["retention"]);
                Some(file.as_ref()?.resolve(&privacy, at, problems))
            }
            None => None,
        };
        let fingerprint = fingerprint(&endpoint, &primary_key, key_hash.as_ref(), &steps, at);
        Some(Resource {
            name,
            schema: shared.schema.to_owned(),
            table,
            primary_key,
            key_hash,
            write_disposition,
            strategy: disposition.strategy,
            history: disposition.history,
            partial_records: self.partial_records,
            replace_by,
            version: version.filter(|_| keeps_one),
            allow_empty: self.allow_empty,
            deletes,
            delete_feed,
            tolerated_rejects: self.rejects.tolerate.0,
            kept_of_rejects: self.rejects.keep(),
            schedule: match schedule {
                Some(schedule) => Some(schedule?),
                None => None,
            },
            reconcile: match reconcile {
                Some(reconcile) => Some(reconcile?),
                None => None,
            },
            max_table_nesting: self.max_table_nesting,
            columns,
            nested_hints: self.nested_hints(node, problems),
            schema_contract: self
                .schema_contract
                .as_ref()
                .map_or_else(Contract::default, ContractShort::resolve),
            null_values: self.null_values.clone().unwrap_or_default(),
            detect: self.detect.resolve(),
            steps,
            processing_limits: ProcessingLimits {
                time: self.processing_limits.time.0,
                memory: self.processing_limits.memory.0,
            },
            nul: self.text.resolve(),
            parent: None,
            values: self.plain_values(node, problems),
            endpoint,
            max_pages: self.max_pages.get(),
            max_run_time: self.max_run_time.0,
            batch: Batch {
                rows: self.batch.rows.get(),
                bytes: usize::try_from(self.batch.bytes.0).unwrap_or(usize::MAX),
                wait: self.batch.wait.0,
            },
            privacy,
            retention,
            freshness: self.freshness.map(|freshness| freshness.0),
            fingerprint,
        })
    }
}

impl ResourceFile {
    /// What the resource says of its parent.
    pub(super) fn parent_rules(&self) -> ParentRules {
        ParentRules::new(&self.parent, self.include_from_parent.as_ref())
    }

    fn plain_values(&self, node: &Node, problems: &mut Problems) -> Option<Vec<Value>> {
        let values = self.values.as_ref()?;
        if let Some(endpoint) = node.get("endpoint")
            && endpoint.place != Place::Default
        {
            endpoint.wrong(problems, "a resource with `values` asks for nothing");
        }
        let node = node.nearest(&["values"]);
        if values.is_empty() {
            node.wrong(problems, "expected at least one value");
        }
        let nodes = node.list().into_iter().flatten();
        let records = values
            .iter()
            .zip(nodes)
            .map(|(json, at)| match &json.value {
                map @ Value::Object(_) => map.clone(),
                Value::Null | Value::Array(_) => {
                    at.wrong(problems, "expected a map, a text, a number or a boolean");
                    Value::Null
                }
                value => json!({ "value": value }),
            });
        Some(records.collect())
    }

    /// Fields of the merge key, wherever they are named.
    fn sets(
        &self,
        columns: &IndexMap<String, ColumnHint>,
        node: &Node,
        problems: &mut Problems,
    ) -> Vec<DottedPath> {
        let long = self.write_disposition.merge_key();
        let keys = [&self.merge_key, &self.replace_by];
        let given = keys.into_iter().flatten().map(|key| key.0.as_slice());
        let given: Vec<&[DottedPath]> = given.chain((!long.is_empty()).then_some(long)).collect();
        if given.len() > 1 {
            node.nearest(&["replace_by"])
                .wrong(problems, "the merge key is given twice");
        }
        let mut fields = given.first().map_or_else(Vec::new, |key| key.to_vec());
        let hinted = columns.iter().filter(|(_, hint)| hint.merge_key);
        for field in hinted.filter_map(|(name, _)| hinted_path(name)) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        fields
    }

    /// The column that says of a row that it is to be deleted.
    fn hard_delete(
        &self,
        columns: &IndexMap<String, ColumnHint>,
        deletes: &Deletes,
        disposition: WriteDisposition,
        node: &Node,
        problems: &mut Problems,
    ) -> Option<Flag> {
        let mut hinted = columns.iter().filter(|(_, hint)| hint.hard_delete);
        let (name, _) = hinted.next()?;
        let at = node.nearest(&["columns", name, "hard_delete"]);
        if let Some((other, _)) = hinted.next() {
            node.nearest(&["columns", other, "hard_delete"])
                .wrong(problems, "another column has `hard_delete` already");
        }
        if disposition != WriteDisposition::Merge {
            at.wrong(
                problems,
                "rows are deleted under `write_disposition: merge` only",
            );
        }
        if deletes.mode != DeleteMode::None
            && !(deletes.mode == DeleteMode::Snapshot && deletes.hard)
        {
            at.wrong(
                problems,
                "goes with `deletes: {mode: snapshot, hard: true}` or without `deletes`: rows of one table go in one way",
            );
        }
        Some(Flag {
            field: hinted_path(name)?,
            values: None,
        })
    }

    fn column_hints(&self, node: &Node, problems: &mut Problems) -> IndexMap<String, ColumnHint> {
        let node = node.nearest(&["columns"]);
        let is_key = |name: &str| {
            let keys = self.primary_key.iter().filter(|key| key.hash().is_none());
            let keys = keys.flat_map(KeyFile::fields);
            keys.map(DottedPath::keys)
                .any(|keys| keys.join(".") == name || keys.join("__") == name)
        };
        let mut names: Vec<String> = Vec::new();
        let mut hints = IndexMap::new();
        for (name, file) in self.columns.iter().flatten() {
            let at = node.nearest(&[name]);
            let path: Vec<String> = name.split('.').map(str::to_owned).collect();
            let column = plain(&path);
            if names.contains(&column) {
                at.wrong(problems, "another entry names the same column");
            }
            names.push(column);
            let hint = file.resolve(at, problems);
            if is_key(name) && !hint.primary_key {
                file.check_key(hint.data_type, at, problems);
            }
            hints.insert(name.clone(), hint);
        }
        hints
    }

    /// Hints by the list's field.
    fn nested_hints(
        &self,
        node: &Node,
        problems: &mut Problems,
    ) -> IndexMap<String, IndexMap<String, ColumnHint>> {
        let node = node.nearest(&["nested_hints"]);
        let lists = self.nested_hints.as_ref();
        if lists.is_some_and(|lists| !lists.is_empty())
            && self.max_table_nesting.is_none_or(|levels| levels == 0)
        {
            node.wrong(
                problems,
                "no list has a table: set `max_table_nesting` above 0",
            );
        }
        let lists = lists.into_iter().flatten();
        lists
            .map(|(field, file)| {
                (
                    field.clone(),
                    file.resolve(node.nearest(&[field]), problems),
                )
            })
            .collect()
    }
}

/// The steps of the key `processing_steps` of a section.
fn steps_of(
    given: Option<&[StepFile]>,
    node: &Node,
    problems: &mut Problems,
) -> Vec<ProcessingStep> {
    let nodes = node.nearest(&["processing_steps"]).list();
    let files = given.into_iter().flatten();
    let steps = files.zip(nodes.into_iter().flatten()).map(|(file, node)| {
        let all = [
            (StepKind::Filter, &file.filter),
            (StepKind::Map, &file.map),
            (StepKind::YieldMap, &file.yield_map),
        ];
        let mut given = all.into_iter().filter_map(|(kind, program)| {
            let program = program.clone()?;
            Some(ProcessingStep { kind, program })
        });
        let step = given.next();
        if step.is_none() || given.next().is_some() {
            node.wrong(
                problems,
                "expected exactly one of filter, map, yield_map; write one step for each",
            );
        }
        step
    });
    steps.flatten().collect()
}

/// A hash of what decides the meaning of a cursor.
///
/// Variables count (a tenant's name in a parameter changes what is read), values from files and
/// credentials do not: a rotated key must not restart a resource.
fn fingerprint(
    endpoint: &Endpoint,
    primary_key: &[DottedPath],
    key_hash: Option<&KeyHash>,
    steps: &[ProcessingStep],
    node: &Node,
) -> String {
    let mut params = endpoint.params.clone();
    params.retain(|name, _| !endpoint.secret_params.contains(name));
    let open = |key| !node.get(key).is_some_and(Node::holds_secret);
    let (mut body, mut data) = (None, None);
    match &endpoint.body {
        Some(Body::Json(json)) if open("json") => body = Some(json),
        Some(Body::Form(form)) if open("data") => data = Some(json!(form)),
        Some(Body::Raw(text)) if open("data") => data = Some(text.as_str().into()),
        _ => {}
    }
    let mut meaning = json!({
        "path": endpoint.path,
        "params": params,
        "json": body,
        "selector": endpoint.data_selector.to_string(),
        "cursor": endpoint.incremental.as_ref().map(Incremental::meaning),
        "start": endpoint.incremental.as_ref().and_then(|incremental| incremental.start_param.clone()),
        "key": primary_key.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let (Some(hash), Value::Object(meaning)) = (key_hash, &mut meaning) {
        meaning.insert("key_hash".to_owned(), format!("{hash:?}").into());
    }
    if let (Some(data), Value::Object(meaning)) = (data, &mut meaning) {
        meaning.insert("data".to_owned(), data);
    }
    // Records that another filter left out have never been read.
    if let (false, Value::Object(meaning)) = (steps.is_empty(), &mut meaning) {
        let steps = steps
            .iter()
            .map(|step| json!([step.kind.word(), step.program.text()]));
        meaning.insert("steps".to_owned(), steps.collect());
    }
    hash(&meaning)
}

/// Hash of a JSON value, as hexadecimal digits.
pub(super) fn hash(value: &Value) -> String {
    format!("{:032x}", xxh3_128(value.to_string().as_bytes()))
}
