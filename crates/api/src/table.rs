//! Printer columns: what `kubectl get` shows of every kind, and how each cell is made from the object. The server answers
//! with all columns; those of priority 1 are shown for `-o wide`.

mod cells;
mod custom;
pub mod duration;
mod hpa;
mod jsonpath;
mod kinds;
mod pod;
mod special;

use std::borrow::Cow;

use jiff::Timestamp;

use crate::value::{Map, Value};

pub use custom::{ColumnError, custom_columns};
use jsonpath::JsonPath;
pub use pod::row_conditions;

/// A column: its definition and the rule for its cells.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// OpenAPI's word: `string`, `integer`, `number`, `boolean`, or `date`.
    pub kind: Cow<'static, str>,
    /// `name` for the column that names the object.
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// 0: always shown.
    pub priority: i64,
    cell: Cell,
}

/// How a cell is made. Paths are member names with dots between.
#[derive(Clone, Debug)]
enum Cell {
    /// The text at a path, or another one where it is missing or empty.
    Text(&'static str, &'static str),
    /// The number at a path, 0 where it is missing.
    Int(&'static str),
    Bool(&'static str, bool),
    /// How many members or items there are at a path.
    Count(&'static str),
    /// The items' texts with commas between, or another text where there is none.
    Join(&'static str, &'static str),
    /// The same of one member of each item.
    Pluck(&'static str, &'static str),
    /// The time that has passed since, or a text where there is no time.
    Since(&'static str, &'static str),
    /// A map as `a=b,c=d`.
    Labels(&'static str),
    /// A LabelSelector object as text.
    Selector(&'static str),
    With(fn(&Value, Timestamp) -> Value),
    Path(JsonPath),
}

const fn column(name: &'static str, kind: &'static str, cell: Cell) -> Column {
    Column {
        name: Cow::Borrowed(name),
        kind: Cow::Borrowed(kind),
        format: Cow::Borrowed(""),
        description: Cow::Borrowed(""),
        priority: 0,
        cell,
    }
}

const fn text(name: &'static str, cell: Cell) -> Column {
    column(name, "string", cell)
}

const fn integer(name: &'static str, cell: Cell) -> Column {
    column(name, "integer", cell)
}

const fn boolean(name: &'static str, cell: Cell) -> Column {
    column(name, "boolean", cell)
}

/// An assignment would drop the former text, which constants cannot; that text is borrowed, so nothing is lost with it.
const fn set(place: &mut Cow<'static, str>, text: &'static str) {
    std::mem::forget(std::mem::replace(place, Cow::Borrowed(text)));
}

impl Column {
    const fn wide(mut self) -> Column {
        self.priority = 1;
        self
    }

    const fn named(mut self) -> Column {
        set(&mut self.format, "name");
        self
    }

    const fn about(mut self, description: &'static str) -> Column {
        set(&mut self.description, description);
        self
    }

    /// The `TableColumnDefinition`.
    pub fn definition(&self) -> Value {
        let texts =
            [("name", &self.name), ("type", &self.kind), ("format", &self.format), ("description", &self.description)];
        let mut definition: Map = texts.into_iter().map(|(name, text)| (name, Value::from(&**text))).collect();
        definition.insert("priority", self.priority);
        definition.into()
    }
}

/// The columns of a kind, the same for all versions; name and creation time for kinds without columns of their own.
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    kinds::columns(group, kind)
}

/// An object's cells, one for each column.
pub fn row(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    columns.iter().map(|column| cells::cell(column, object, now)).collect()
}
