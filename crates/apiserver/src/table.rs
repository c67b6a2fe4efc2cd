//! `meta.k8s.io/v1` Tables: what `kubectl get` shows.

use api::{Resource, Value, table};
use jiff::Timestamp;

/// Which rows a table has, which decides on its head.
pub enum Rows {
    /// One object's; the table carries its resourceVersion.
    One,
    /// A list's, with the list's metadata.
    List { meta: Value },
    /// A further event of a watch: the columns were sent before.
    Next,
}

/// A table of stored objects: all versions of a kind have the cells of the stored one. `include` is the request's
/// `includeObject`: `None`, `Metadata` (unless it says otherwise) or `Object`; ages are those of `now`.
pub fn of_objects(resource: &Resource, objects: &[Value], rows: Rows, include: Option<&str>, now: Timestamp) -> Value {
    let columns = match &resource.custom {
        Some(custom) => &custom.columns,
        None => table::columns(&resource.stored_as.group, &resource.stored_as.kind),
    };
    let mut out = Value::object();
    out.set(&["kind"], "Table");
    out.set(&["apiVersion"], "meta.k8s.io/v1");
    let with_columns = !matches!(rows, Rows::Next);
    match rows {
        Rows::List { meta } => out.set(&["metadata"], meta),
        Rows::One | Rows::Next => {
            let version =
                objects.first().map(|object| object.str_at(&["metadata", "resourceVersion"])).unwrap_or_default();
            out.set(&["metadata", "resourceVersion"], version)
        }
    };
    let definitions: Vec<Value> =
        if with_columns { columns.iter().map(table::Column::definition).collect() } else { Vec::new() };
    out.set(&["columnDefinitions"], definitions);
    let rows: Vec<Value> = objects.iter().map(|object| row(resource, columns, object, include, now)).collect();
    out.set(&["rows"], rows);
    out
}

fn row(resource: &Resource, columns: &[table::Column], object: &Value, include: Option<&str>, now: Timestamp) -> Value {
    let mut row = Value::object();
    row.set(&["cells"], table::row(columns, object, now));
    if let Some(conditions) = table::row_conditions(&resource.stored_as.group, &resource.stored_as.kind, object) {
        row.set(&["conditions"], conditions);
    }
    match include {
        Some("None") => {}
        Some("Object") => {
            let mut object = object.clone();
            resource.from_stored(&mut object);
            row.set(&["object"], object);
        }
        _ => {
            row.set(&["object"], crate::rest::partial(object));
        }
    }
    row
}
