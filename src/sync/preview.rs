//! What a resource's first page would become, without writing anything.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgPool;

use super::{Binary, Error, intake::Intake, page::note_gone, privacy, stream, walk};
use crate::{
    clock,
    config::{Resource, Source, source::WriteDisposition},
    fetch,
    load::{
        sql::{Ident, TableName},
        table,
        write::{self, Standing, Target},
    },
    record::{self, CatalogColumn},
    shape::{Column, Layout, Mapper, Stamp, identifier},
};

/// One page, as it would be loaded.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// The request with its secrets masked.
    pub request: String,
    /// Records on the page.
    pub records: usize,
    /// The first of them, as the API sent them, with the privacy rules applied.
    pub sample: Vec<Box<RawValue>>,
    pub table: String,
    pub columns: Vec<PreviewColumn>,
    /// Statements that the run would begin with.
    pub ddl: Vec<String>,
    pub would_insert: usize,
    pub would_update: usize,
    /// Rows whose records say that they are gone.
    pub would_delete: usize,
    pub unchanged: usize,
    /// Reason and field of each record that would be rejected.
    pub rejects: Vec<(String, Option<String>)>,
}

/// A column of the table after the run.
#[derive(Debug, Serialize)]
pub struct PreviewColumn {
    pub name: String,
    pub kind: &'static str,
    /// Where in the record the value stands.
    pub path: String,
    pub key: bool,
}

/// The table as it is, as far as there is one.
struct Existing {
    columns: Vec<Column>,
    found: bool,
    /// Whether rows can be marked as deleted.
    marks: bool,
    /// The columns of this table and of those of its lists.
    catalogue: Vec<CatalogColumn>,
}

/// Fetches the first page and works out what loading it would do.
///
/// # Errors
///
/// What a run would fail with before its first commit.
pub async fn preview(
    source: &Source,
    resource: &Resource,
    api: &Arc<fetch::Api>,
    pool: &PgPool,
    sample: usize,
) -> Result<Preview, Error> {
    let name = TableName::new(&identifier(&resource.schema), &identifier(&resource.table));
    let existing = existing(pool, &name).await?;
    let (plan, page) = stream::first_page(resource, api).await?;
    let request = api.describe(&plan)?;

    let keyed =
        !resource.primary_key.is_empty() && resource.write_disposition != WriteDisposition::Append;
    let mut mapper = Mapper::new(
        walk::map_spec(resource),
        Layout {
            columns: existing.columns.clone(),
            ..Layout::default()
        },
    );
    let (mut standings, mut rejects, mut records, mut shown) =
        (Vec::new(), Vec::new(), 0, Vec::new());
    let mut later = 0;
    if let Some(page) = page {
        // As in a run: what the rules keep out is not shown either.
        let catalogue = existing.catalogue.clone();
        let screen = privacy::screen_to_look(source, resource, pool, catalogue).await?;
        let mut intake = Intake::new(resource, screen, &Binary::own());
        let mut taken = intake.take(&page).await?;
        let scan = taken.scan(&mapper, None);
        standings = standing(
            pool,
            &name,
            resource,
            &existing,
            keyed,
            &scan,
            mapper.layout(),
        )
        .await?;
        note_gone(&scan, &mut standings, true, !resource.deletes.hard);
        // Of a row that is not there and will not be, nothing becomes a column.
        let keep: Vec<bool> = (scan.rows.iter().zip(&standings))
            .map(|(row, standing)| !row.is_gone || *standing == Standing::Gone)
            .collect();
        let stamp = Stamp {
            run_id: 0,
            synced_at: clock::now(),
        };
        let encoded = mapper.encode(&taken.body, &taken.ranges, &scan, &keep, stamp);
        records = page.records.len();
        later = scan.later.len();
        rejects = scan.rejects.into_iter().chain(encoded.rejects).collect();
        rejects.append(&mut taken.rejects);
        let first = taken.ranges.iter().take(sample);
        shown = first
            .filter_map(|range| taken.body.get(range.start as usize..range.end as usize))
            .filter_map(|bytes| serde_json::from_slice::<Box<RawValue>>(bytes).ok())
            .collect();
    }

    let layout = mapper.layout();
    let changes = match (existing.found, layout.columns.is_empty()) {
        (true, _) => table::changes(&name, &existing.columns, layout),
        (false, true) => Vec::new(),
        (false, false) => vec![table::creation(&name, layout, keyed)],
    };
    let count = |wanted| {
        standings
            .iter()
            .filter(|standing| **standing == wanted)
            .count()
    };
    Ok(Preview {
        request,
        records,
        sample: shown,
        table: name.to_string(),
        columns: columns(layout),
        ddl: changes.into_iter().map(|change| change.ddl).collect(),
        would_insert: count(Standing::New),
        would_update: count(Standing::Changed) + later,
        would_delete: count(Standing::Gone),
        unchanged: count(Standing::Unchanged),
        rejects: rejects
            .into_iter()
            .map(|reject| (reject.reason.to_owned(), reject.path))
            .collect(),
    })
}

fn columns(layout: &Layout) -> Vec<PreviewColumn> {
    let columns = layout.columns.iter().enumerate();
    columns
        .map(|(at, column)| PreviewColumn {
            name: column.name.clone(),
            kind: column.kind.sql(),
            path: column.path.join("."),
            key: layout.key.contains(&at),
        })
        .collect()
}

async fn existing(pool: &PgPool, name: &TableName) -> Result<Existing, Error> {
    let mut connection = pool
        .acquire()
        .await
        .map_err(crate::load::Error::database("connecting"))?;
    let found = table::inspect(&mut connection, name).await?;
    let (schema, own) = (name.schema.name(), name.table.name());
    let catalogue = record::columns_beside(&mut connection, schema, own).await?;
    let paths: Vec<_> = catalogue
        .iter()
        .filter(|column| column.table_name == own)
        .map(|column| (column.column_name.clone(), column.source_path.clone()))
        .collect();
    Ok(match found {
        Some(found) => Existing {
            columns: found.known(name, &paths)?,
            found: true,
            marks: found.marks(),
            catalogue,
        },
        None => Existing {
            columns: Vec::new(),
            found: false,
            marks: false,
            catalogue: Vec::new(),
        },
    })
}

async fn standing(
    pool: &PgPool,
    name: &TableName,
    resource: &Resource,
    existing: &Existing,
    keyed: bool,
    scan: &crate::shape::Scan,
    layout: &Layout,
) -> Result<Vec<Standing>, Error> {
    let probe = scan.probe(layout).filter(|_| keyed && existing.found);
    let Some(probe) = probe else {
        return Ok(vec![Standing::New; scan.rows.len()]);
    };
    let key: Vec<_> = layout
        .key
        .iter()
        .filter_map(|at| layout.columns.get(*at))
        .map(|column| (Ident::new(&column.name), column.kind))
        .collect();
    let target = Target {
        table: name,
        marks: existing.marks,
        strategy: resource.strategy,
        version: resource.version.as_ref(),
        history: resource.history.as_ref(),
        hard: resource.deletes.hard,
    };
    let mut connection = pool
        .acquire()
        .await
        .map_err(crate::load::Error::database("connecting"))?;
    Ok(write::probe(&mut connection, target, &key, &probe, scan.rows.len()).await?)
}
