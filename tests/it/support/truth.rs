//! Compares a table with what the API holds, field by field and in both directions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rosterd::postgres::Pool;
use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;

/// The rows that `filter` (a condition in SQL) leaves, as JSON, rosterd's own columns included.
pub(crate) async fn rows(pool: &Pool, table: &str, filter: &str) -> Vec<Value> {
    let query = format!("select to_jsonb(t)::text from {table} t where {filter}");
    let texts: Vec<String> = match sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(pool)
        .await
    {
        Ok(texts) => texts,
        // No table yet.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    texts
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

/// What is wrong with the rows, told by key; empty when each record has exactly one row and they are equal.
pub(crate) fn differences(rows: &[Value], records: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut left: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for row in rows {
        left.entry(row["id"].to_string()).or_default().push(row);
    }
    for record in records {
        let id = record["id"].to_string();
        match left.remove(&id).as_deref() {
            None => wrong.push(format!("{id} is missing")),
            Some([row]) => {
                if let Some(field) = differing_field(row, record) {
                    wrong.push(format!("{id} differs in {field}"));
                }
            }
            Some(more) => wrong.push(format!("{id} stands there {} times", more.len())),
        }
    }
    wrong.extend(left.keys().map(|id| format!("{id} is not in the API")));
    wrong
}

/// The first field in which a row is not what its record says.
pub(crate) fn differing_field(row: &Value, record: &Value) -> Option<String> {
    let mut wanted = BTreeMap::new();
    flatten("", record.as_object().unwrap(), &mut wanted);
    let columns = row.as_object().unwrap();
    for (name, value) in columns.iter().filter(|(name, _)| !name.starts_with('_')) {
        if !same(value, wanted.remove(name).unwrap_or(&Value::Null)) {
            return Some(name.clone());
        }
    }
    wanted
        .into_iter()
        .find(|(_, value)| !value.is_null())
        .map(|(name, _)| name)
}

fn flatten<'v>(
    prefix: &str,
    record: &'v Map<String, Value>,
    into: &mut BTreeMap<String, &'v Value>,
) {
    for (name, value) in record {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}__"), inner, into),
            other => {
                into.insert(name, other);
            }
        }
    }
}

/// Whether a column's value means the same as the API's: instants may be spelled differently.
fn same(column: &Value, api: &Value) -> bool {
    match (column, api) {
        (Value::Number(a), Value::Number(b)) => {
            a.to_string() == b.to_string() || a.as_f64() == b.as_f64()
        }
        (Value::String(a), Value::String(b)) => {
            a == b || instant(a).is_some_and(|at| Some(at) == instant(b))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

pub(crate) fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.to_utc())
}
