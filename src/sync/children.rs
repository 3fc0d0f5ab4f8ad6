//! The tables of nested lists beside the table of their resource: found, fitted, written, swapped.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::{
    Error,
    commit::{Named, Store, marks_deleted},
};
use crate::{
    load::{
        children, replace,
        sql::TableName,
        table::{self, Change},
        write::{Segment, Written},
    },
    record::{self, CatalogColumn, Claim, Level},
    shape::{Column, ELEMENT, Family, Layout, ROW_ID, list_table},
};

/// What the child tables have now, by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    target: HashMap<String, Vec<Column>>,
    /// Those that have the column that marks rows as deleted.
    marks: HashSet<String>,
    /// Tables of a `replace` walk.
    walk: HashMap<String, Vec<Column>>,
}

impl Known {
    /// Forgets a `replace` walk.
    pub(super) fn restart(&mut self) {
        self.walk.clear();
    }
}

/// Finds the child tables that earlier runs made.
pub(super) async fn find(
    connection: &mut PgConnection,
    claim: &Claim,
    root: &TableName,
) -> Result<(Vec<Family>, Known), Error> {
    let mut families = Vec::new();
    let mut known = Known::default();
    for (table, path) in record::list_tables(connection, claim.resource_id, ROW_ID).await? {
        let name = TableName::new(root.schema.name(), &table);
        let Some(found) = table::inspect(connection, &name).await? else {
            continue;
        };
        if children::is_of_another(connection, &name, root).await? {
            continue;
        }
        let catalogue = record::columns(connection, name.schema.name(), &table).await?;
        let paths: Vec<(String, Vec<String>)> = catalogue
            .into_iter()
            .map(|column| {
                let path = column.source_path.get(path.len() + 1..).unwrap_or_default();
                (column.column_name, path.to_vec())
            })
            .collect();
        let columns = found.known(&name, &paths)?;
        known.target.insert(table.clone(), columns.clone());
        if found.marks() {
            known.marks.insert(table.clone());
        }
        families.push(Family {
            table,
            path,
            layout: Layout {
                columns,
                ..Layout::default()
            },
        });
    }
    Ok((families, known))
}

impl Store {
    /// Makes the child tables fit the layout, those of the walk under `replace`. Returns the number
    /// of changes.
    pub(super) async fn fit_children(
        &self,
        connection: &mut PgConnection,
        layout: &Layout,
    ) -> Result<i64, Error> {
        let mut known = self.children.lock().await;
        let mut count = 0;
        for family in &layout.children {
            let name = children::table_name(&self.table, family);
            if self.walk.is_some() {
                let walk = replace::walk_table(&name);
                let mut transaction = self.begin_ddl(connection).await?;
                match known.walk.get(&family.table) {
                    None => {
                        children::begin_walk(&mut transaction, &walk, &family.layout).await?;
                    }
                    Some(had) => {
                        let changes = table::changes(&walk, had, &family.layout);
                        table::apply(&mut transaction, &changes).await?;
                    }
                }
                self.commit_fenced(transaction).await?;
                let columns = family.layout.columns.clone();
                known.walk.insert(family.table.clone(), columns);
                continue;
            }
            let changes = self.child_changes(&known, &name, family);
            if changes.is_empty() {
                continue;
            }
            let mut transaction = self.begin_ddl(connection).await?;
            self.change_child(&mut transaction, &name, family, &changes)
                .await?;
            self.commit_fenced(transaction).await?;
            let target = known.target.entry(family.table.clone()).or_default();
            table::learn(target, &family.layout.columns);
            if marks_deleted(&self.context.resource) {
                known.marks.insert(family.table.clone());
            }
            count += i64::try_from(changes.len()).unwrap_or(i64::MAX);
        }
        Ok(count)
    }

    /// Replaces the lists of the rows in `segments`. Returns how many rows changed in their lists only.
    pub(super) async fn write_children(
        &self,
        transaction: &mut PgConnection,
        segments: &[Segment],
        written: &Written,
    ) -> Result<u64, Error> {
        let refused: Vec<&str> = written
            .refused
            .iter()
            .filter_map(|row| row.root.as_deref())
            .chain(written.kept.iter().map(String::as_str))
            .collect();
        let Some(layout) = segments.last().map(|segment| &segment.layout) else {
            return Ok(0);
        };
        if layout.children.is_empty() {
            return Ok(0);
        }
        let root = self.walk.as_ref().unwrap_or(&self.table);
        for (place, family) in layout.children.iter().enumerate() {
            let mut name = children::table_name(&self.table, family);
            if self.walk.is_some() {
                name = replace::walk_table(&name);
            }
            children::write(
                transaction,
                root,
                &name,
                place,
                &family.layout,
                segments,
                &refused,
            )
            .await?;
        }
        let marks = self.target().await.marks;
        let known = self.children.lock().await;
        for name in self.marking(&known).into_iter().filter(|_| marks) {
            children::unmark(transaction, root, &name, segments, self.claim.run_id).await?;
        }
        Ok(children::touch_roots(transaction, root, self.claim.run_id, segments, &refused).await?)
    }

    /// The end of a `replace` walk, after that of the root table.
    ///
    /// `has_scope`: not all rows of the table were replaced.
    pub(super) async fn swap_children(
        &self,
        transaction: &mut PgConnection,
        has_scope: bool,
    ) -> Result<(), Error> {
        let Some(layout) = self.walked().await else {
            return Ok(());
        };
        let known = self.children.lock().await;
        for family in &layout.children {
            let name = children::table_name(&self.table, family);
            let changes = self.child_changes(&known, &name, family);
            if !changes.is_empty() {
                self.change_child(transaction, &name, family, &changes)
                    .await?;
            }
            let walk = replace::walk_table(&name);
            let columns = &family.layout.columns;
            match has_scope {
                true => {
                    replace::add_lists(transaction, &self.table, &name, &walk, columns).await?;
                }
                false => {
                    replace::swap(transaction, &name, &walk, columns, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Drops the tables of a `replace` walk that came to nothing.
    pub(super) async fn abandon_children(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), Error> {
        let known = self.children.lock().await;
        for table in known.walk.keys() {
            let name = TableName::new(self.table.schema.name(), table);
            replace::drop_walk(connection, &replace::walk_table(&name)).await?;
        }
        Ok(())
    }

    /// Gives the child tables that earlier runs made the column that marks rows as deleted, where rows
    /// are to be marked. Returns the number of changes.
    pub(super) async fn adopt_children(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let mut known = self.children.lock().await;
        if !marks_deleted(&self.context.resource) || self.walk.is_some() {
            return Ok(0);
        }
        let tables = known.target.keys();
        let lacking: Vec<String> = tables
            .filter(|table| !known.marks.contains(*table))
            .cloned()
            .collect();
        for table in &lacking {
            let name = TableName::new(self.table.schema.name(), table);
            let change = children::mark_column(&self.table, &name);
            let mut transaction = self.begin_ddl(connection).await?;
            table::bound_locks(&mut transaction, self.context.lock_timeout).await?;
            table::apply(&mut transaction, std::slice::from_ref(&change)).await?;
            self.tell_child(&mut transaction, &name, &change).await?;
            self.commit_fenced(transaction).await?;
            known.marks.insert(table.clone());
        }
        Ok(i64::try_from(lacking.len()).unwrap_or(i64::MAX))
    }

    /// Marks the lists of the rows that this transaction marked as deleted.
    pub(super) async fn mark_children(&self, transaction: &mut PgConnection) -> Result<(), Error> {
        let known = self.children.lock().await;
        if marks_deleted(&self.context.resource) {
            for name in self.marking(&known) {
                children::mark(transaction, &self.table, &name, self.claim.run_id).await?;
            }
        }
        Ok(())
    }

    /// The child tables whose rows can be marked.
    fn marking(&self, known: &Known) -> Vec<TableName> {
        let schema = self.table.schema.name();
        let tables = known.marks.iter().filter(|_| self.walk.is_none());
        tables.map(|table| TableName::new(schema, table)).collect()
    }

    fn child_changes(&self, known: &Known, name: &TableName, family: &Family) -> Vec<Change> {
        let Some(columns) = known.target.get(&family.table) else {
            let mut changes = children::creation(&self.table, name, &family.layout);
            if marks_deleted(&self.context.resource) && self.walk.is_none() {
                changes.push(children::mark_column(&self.table, name));
            }
            return changes;
        };
        table::changes(name, columns, &family.layout)
    }

    /// Notes a change of a child table in the history.
    async fn tell_child(
        &self,
        transaction: &mut PgConnection,
        name: &TableName,
        change: &Change,
    ) -> Result<(), Error> {
        let change = record::SchemaChange {
            table_name: name.to_string(),
            ..super::commit::schema_change(change)
        };
        Ok(record::schema_change(transaction, &self.claim, &change).await?)
    }

    /// Tells of a table whose lists' name was taken by that of other lists.
    async fn tell_list_clash(
        &self,
        transaction: &mut PgConnection,
        name: &TableName,
        family: &Family,
    ) -> Result<(), Error> {
        if family.table == list_table(self.table.table.name(), &family.path) {
            return Ok(());
        }
        let field = family.path.join(".");
        let message = format!("a table got a suffix, as the name of its lists was taken ({name})");
        let data = serde_json::json!({ "table": family.table, "field": field });
        self.tell(transaction, Level::Warn, "name_clash", &message, data)
            .await
    }

    async fn change_child(
        &self,
        transaction: &mut PgConnection,
        name: &TableName,
        family: &Family,
        changes: &[Change],
    ) -> Result<(), Error> {
        table::bound_locks(&mut *transaction, self.context.lock_timeout).await?;
        table::apply(&mut *transaction, changes).await?;
        if changes.iter().any(|change| change.change == "create_table") {
            table::comment(
                &mut *transaction,
                name,
                &self.claim.source,
                &self.claim.resource,
            )
            .await?;
            self.tell_list_clash(&mut *transaction, name, family)
                .await?;
        }
        for change in changes {
            self.tell_child(&mut *transaction, name, change).await?;
        }
        children::doubt_roots(&mut *transaction, &self.table, name, changes).await?;
        let named: Vec<Named<'_>> = family
            .layout
            .columns
            .iter()
            .map(|column| {
                let mut path = family.path.clone();
                if column.name != ROW_ID {
                    path.push(ELEMENT.to_owned());
                    path.extend(column.path.iter().cloned());
                }
                Named { column, path }
            })
            .collect();
        let entries: Vec<CatalogColumn> = named
            .iter()
            .map(|named| self.catalogue_entry(name, &named.path, named.column))
            .collect();
        record::save_columns(&mut *transaction, &self.claim, &entries).await?;
        let own: Vec<Named<'_>> = named
            .into_iter()
            .filter(|named| !named.column.path.is_empty())
            .collect();
        self.comment(transaction, name, changes, &own).await
    }
}
