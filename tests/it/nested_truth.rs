//! Random documents against the tables that they become, the tables of their lists included.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};

use crate::{
    shapes::{document_of, is_same},
    support::documents::Documents,
};

/// A table as the catalogue and its rows have it.
struct Table {
    /// Path of the list in the record; empty for the root.
    path: Vec<String>,
    /// Names of the columns by path, from the list's element on.
    columns: BTreeMap<Vec<String>, String>,
    rows: Vec<Value>,
    /// Positions in `rows` by the id of the row that the list belongs to, in the list's order.
    by_parent: HashMap<String, Vec<usize>>,
}

struct Tables {
    root: Table,
    lists: HashMap<Vec<String>, Table>,
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|part| part.as_str().unwrap().to_owned()).collect()
}

async fn table(docs: &Documents, name: &str, path: Vec<String>) -> Table {
    let columns = docs
        .json(&format!("select source_path as path, column_name as name from rosterd.columns where table_name = '{name}'"))
        .await;
    let depth = if path.is_empty() { 0 } else { path.len() + 1 };
    let columns = columns.as_array().unwrap().iter().filter_map(|column| {
        let path = strings(&column["path"]);
        let path = path.get(depth..).filter(|path| !path.is_empty())?;
        Some((path.to_vec(), column["name"].as_str()?.to_owned()))
    });
    let columns = columns.collect();
    let order = if path.is_empty() {
        "key"
    } else {
        "_rosterd_list_idx"
    };
    let rows = docs
        .json(&format!("select * from hr.\"{name}\" order by \"{order}\""))
        .await;
    let rows = rows.as_array().unwrap().clone();
    let mut by_parent: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(parent) = row["_rosterd_parent_id"].as_str() {
            by_parent.entry(parent.to_owned()).or_default().push(at);
        }
    }
    Table {
        path,
        columns,
        rows,
        by_parent,
    }
}

async fn tables(docs: &Documents) -> Tables {
    let lists = docs
        .json("select table_name as name, source_path as path from rosterd.columns where column_name = '_rosterd_id' and source_path <> '{}'")
        .await;
    let mut found = HashMap::new();
    for list in lists.as_array().unwrap() {
        let path = strings(&list["path"]);
        let name = list["name"].as_str().unwrap();
        found.insert(path.clone(), table(docs, name, path).await);
    }
    Tables {
        root: table(docs, "docs", Vec::new()).await,
        lists: found,
    }
}

/// The holding of one document against the tables.
struct Comparison<'t> {
    tables: &'t Tables,
    /// Rows of lists that documents account for, by the list's path.
    told_rows: HashMap<&'t [String], usize>,
}

impl<'t> Comparison<'t> {
    fn row(&mut self, table: &'t Table, row: &'t Value, said: &Value) {
        let mut told = HashSet::new();
        self.value(table, row, said, &mut Vec::new(), &mut told);
        for column in table.columns.values() {
            assert!(
                row[column].is_null() || told.contains(column.as_str()),
                "{column} of {:?} holds {}, which {said} does not say",
                table.path,
                row[column]
            );
        }
    }

    fn value(
        &mut self,
        table: &'t Table,
        row: &'t Value,
        said: &Value,
        path: &mut Vec<String>,
        told: &mut HashSet<&'t str>,
    ) {
        let column = table.columns.get(path);
        let found = column.map_or(&Value::Null, |column| &row[column]);
        match said {
            Value::Null => assert_eq!(*found, Value::Null, "{path:?}"),
            Value::Object(members) if path.is_empty() || !found.is_object() => {
                for (name, member) in members {
                    path.push(name.clone());
                    self.value(table, row, member, path, told);
                    path.pop();
                }
            }
            Value::Array(elements) if !found.is_array() => {
                let mut place = table.path.clone();
                if !place.is_empty() {
                    place.push("[]".to_owned());
                }
                place.extend(path.iter().cloned());
                self.list(row, elements, &place);
            }
            said => {
                assert!(is_same(said, found), "{path:?}: {said} became {found}");
                told.extend(column.map(String::as_str));
            }
        }
    }

    fn list(&mut self, owner: &Value, elements: &[Value], place: &[String]) {
        let tables = self.tables;
        let Some(table) = tables.lists.get(place) else {
            assert!(elements.is_empty(), "{place:?} has no table");
            return;
        };
        let id = owner["_rosterd_id"].as_str().unwrap();
        let rows = table.by_parent.get(id).map_or(&[][..], Vec::as_slice);
        assert_eq!(rows.len(), elements.len(), "{place:?}");
        *self.told_rows.entry(&table.path).or_default() += rows.len();
        for (at, (&row, element)) in rows.iter().zip(elements).enumerate() {
            let row = &table.rows[row];
            assert_eq!(row["_rosterd_list_idx"], at, "{place:?}");
            let wrap = |name: &str| {
                let member = (name.to_owned(), element.clone());
                Value::Object(Map::from_iter([member]))
            };
            match element {
                Value::Object(_) => self.row(table, row, element),
                Value::Array(_) => self.row(table, row, &wrap("list")),
                _ => self.row(table, row, &wrap("value")),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_equal_random_documents_after_two_runs_with_changes_between() {
    let mut runner = TestRunner::deterministic();
    for nesting in ["", "", "", "", "0", "1", "1", "2", "2", "3", "6"] {
        let levels = match nesting {
            "" => String::new(),
            levels => format!("max_table_nesting: {levels}\n"),
        };
        let docs = Documents::new(&format!(
            "primary_key: key\nwrite_disposition: merge\n{levels}"
        ))
        .await;
        let mut truth: BTreeMap<u64, Value> = BTreeMap::new();
        for run in 0..2_u64 {
            // The second run leaves a third as it was, changes a third, and brings new ones.
            let page: Vec<Value> = (run * 15..run * 15 + 25)
                .map(|key| {
                    if let Some(known) = truth.get(&key)
                        && key % 3 == 0
                    {
                        return known.clone();
                    }
                    let mut document: Map<String, Value> = Map::new();
                    document.insert("key".to_owned(), key.into());
                    let tree = document_of(&mut runner);
                    document.extend(tree.as_object().unwrap().clone());
                    let document = Value::Object(document);
                    truth.insert(key, document.clone());
                    document
                })
                .collect();
            docs.load(serde_json::to_vec(&page).unwrap()).await;
        }
        let tables = tables(&docs).await;
        assert_eq!(tables.root.rows.len(), truth.len(), "levels {nesting}");
        let mut comparison = Comparison {
            tables: &tables,
            told_rows: HashMap::new(),
        };
        for (said, row) in truth.values().zip(&tables.root.rows) {
            comparison.row(&tables.root, row, said);
        }
        let of_lists: usize = tables.lists.values().map(|table| table.rows.len()).sum();
        assert_eq!(
            of_lists > 20,
            !matches!(nesting, "" | "0"),
            "levels {nesting}: {of_lists} rows"
        );
        for table in tables.lists.values() {
            let told = comparison.told_rows.get(table.path.as_slice()).copied();
            assert_eq!(
                table.rows.len(),
                told.unwrap_or_default(),
                "levels {nesting}: {:?} has rows that no document says",
                table.path
            );
        }
    }
}
