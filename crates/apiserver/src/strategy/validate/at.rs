//! A place in an object that is being checked: the value there, the way that leads to it, and where errors go. The way is
//! a chain of borrowed steps on the stack and becomes text only when there is an error to report.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use api::{
    Value,
    quantity::Quantity,
    status::{ERRORS_BYTES_MAX, FieldError, FieldErrorKind},
};

static ABSENT: Value = Value::Null;

/// What is wrong with a text, in upstream's words: the checks of [`api::names`].
pub(super) type NameCheck = fn(&str) -> Vec<String>;

pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const IMMUTABLE: &str = "field is immutable";

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Member(&'p str),
    Index(usize),
    Key(&'p str),
}

/// The errors found so far.
#[derive(Default)]
pub(super) struct Sink {
    errors: RefCell<Vec<FieldError>>,
    bytes: Cell<usize>,
}

impl Sink {
    fn add(&self, error: FieldError) {
        let bytes = self.bytes.get();
        if bytes < ERRORS_BYTES_MAX {
            self.bytes.set(bytes + error.field.len() + error.value.len() + error.detail.len());
            self.errors.borrow_mut().push(error);
        }
    }

    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors.into_inner()
    }
}

/// See the module. A member that is missing is a place, too: its value is null.
#[derive(Clone, Copy)]
pub(super) struct At<'v, 'p> {
    value: &'v Value,
    parent: Option<&'p At<'v, 'p>>,
    step: Step<'p>,
    sink: &'p Sink,
}

impl<'v, 'p> At<'v, 'p> {
    pub fn root(value: &'v Value, sink: &'p Sink) -> Self {
        At { value, parent: None, step: Step::Root, sink }
    }

    fn child<'s>(&'s self, value: Option<&'v Value>, step: Step<'s>) -> At<'v, 's> {
        At { value: value.unwrap_or(&ABSENT), parent: Some(self), step, sink: self.sink }
    }

    pub fn get<'s>(&'s self, name: &'s str) -> At<'v, 's> {
        self.child(self.value.get(name), Step::Member(name))
    }

    /// This place with the value of another: upstream reports some errors at places that the fields do not have.
    pub fn holding(&self, other: &At<'v, '_>) -> At<'v, 'p> {
        At { value: other.value, ..*self }
    }

    /// The place without a name.
    pub fn nowhere(&self) -> At<'v, 'p> {
        At { parent: None, step: Step::Root, ..*self }
    }

    /// The member of a map.
    pub fn key<'s>(&'s self, name: &'s str) -> At<'v, 's> {
        self.child(self.value.get(name), Step::Key(name))
    }

    pub fn index(&self, index: usize) -> At<'v, '_> {
        self.child(self.value.as_array().and_then(|items| items.get(index)), Step::Index(index))
    }

    /// The items of a list.
    pub fn items(&self) -> impl Iterator<Item = At<'v, '_>> {
        let items = self.value.as_array().unwrap_or_default();
        items.iter().enumerate().map(|(index, item)| self.child(Some(item), Step::Index(index)))
    }

    /// The members of a map.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, At<'v, '_>)> {
        let members = self.value.as_object().into_iter().flat_map(|map| map.iter());
        members.map(|(key, value)| (key, self.child(Some(value), Step::Key(key))))
    }

    pub fn value(&self) -> &'v Value {
        self.value
    }

    /// The text here, empty if there is none.
    pub fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// The texts of a list.
    pub fn texts(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        self.value.as_array().unwrap_or_default().iter().filter_map(Value::as_str)
    }

    /// The items by their texts at `member`, the first of each: for whoever looks many of them up.
    pub fn by(&self, member: &str) -> HashMap<&'v str, At<'v, '_>> {
        let mut items = HashMap::with_capacity(self.len());
        for item in self.items() {
            items.entry(item.value().str_at(&[member])).or_insert(item);
        }
        items
    }

    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn quantity(&self) -> Option<Quantity> {
        match self.value {
            Value::String(text) => Quantity::parse(text).ok(),
            Value::Int(number) => Some(Quantity::new(*number, api::quantity::Format::DecimalSI)),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// How many items or members there are.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    pub fn contains(&self, text: &str) -> bool {
        self.texts().any(|item| item == text)
    }

    /// Nothing, or an empty text, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    pub fn same(&self, other: &At) -> bool {
        self.value == other.value
    }

    /// The way here, as errors and warnings name it.
    pub fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => path.push_str(&format!("[{key}]")),
        }
        path
    }

    fn push(&self, error: FieldError) {
        self.sink.add(error);
    }

    pub fn required(&self, detail: &str) {
        self.push(FieldError::required(self.path(), detail));
    }

    pub fn invalid(&self, detail: impl Into<String>) {
        self.invalid_value(self.value, detail);
    }

    /// An error about another value than the one that stands here.
    pub fn invalid_value(&self, value: impl serde::Serialize, detail: impl Into<String>) {
        self.push(FieldError::invalid(self.path(), value, detail));
    }

    /// An error that does not show the value.
    pub fn invalid_unseen(&self, detail: &str) {
        self.push(FieldError::new(FieldErrorKind::Invalid, self.path(), "", detail));
    }

    /// An error about a value that is shown as this text, without quotes.
    pub fn invalid_printed(&self, value: &str, detail: &str) {
        self.push(FieldError::new(FieldErrorKind::Invalid, self.path(), value, detail));
    }

    pub fn forbidden(&self, detail: impl Into<String>) {
        self.push(FieldError::forbidden(self.path(), detail));
    }

    pub fn duplicate(&self) {
        self.push(FieldError::duplicate(self.path(), self.value));
    }

    pub fn duplicate_value(&self, value: impl serde::Serialize) {
        self.push(FieldError::duplicate(self.path(), value));
    }

    pub fn duplicate_because(&self, detail: &str) {
        let value = self.value.to_string();
        self.push(FieldError::new(FieldErrorKind::Duplicate, self.path(), value, detail));
    }

    pub fn not_found(&self) {
        self.push(FieldError::not_found(self.path(), self.text()));
    }

    pub fn not_found_because(&self, name: &str, detail: String) {
        self.push(FieldError::new(FieldErrorKind::NotFound, self.path(), format!("{name:?}"), detail));
    }

    pub fn not_supported(&self, supported: &[&str]) {
        match self.value {
            Value::Null => self.not_supported_value("", supported),
            value => self.not_supported_value(value, supported),
        }
    }

    pub fn not_supported_value(&self, value: impl serde::Serialize, supported: &[&str]) {
        self.push(FieldError::not_supported(self.path(), value, supported));
    }

    pub fn too_long(&self, max: usize) {
        self.push(FieldError::too_long(self.path(), max));
    }

    pub fn too_many(&self, max: usize) {
        self.push(FieldError::too_many(self.path(), self.len(), max));
    }

    /// Something has to be here; tells whether it is.
    pub fn need(&self) -> bool {
        self.need_because("")
    }

    pub fn need_because(&self, detail: &str) -> bool {
        if self.is_empty() {
            self.required(detail);
        }
        !self.is_empty()
    }

    /// Nothing may be here.
    pub fn forbid(&self, detail: &str) {
        if self.is_set() {
            self.forbidden(detail);
        }
    }

    /// The text has to be one of these.
    pub fn one_of(&self, supported: &[&str]) {
        if !supported.contains(&self.text()) {
            self.not_supported(supported);
        }
    }

    /// The text, if there is one, has to be one of these.
    pub fn one_of_if_set(&self, supported: &[&str]) {
        if self.is_set() {
            self.one_of(supported);
        }
    }

    /// There has to be a text, one of these.
    pub fn need_one_of(&self, supported: &[&str]) {
        if self.need() {
            self.one_of(supported);
        }
    }

    pub fn non_negative(&self) {
        if self.int().is_some_and(|number| number < 0) {
            self.invalid(NEGATIVE);
        }
    }

    /// The number, absent being 0, has to be above 0.
    pub fn positive(&self) {
        if self.int().unwrap_or(0) <= 0 {
            self.invalid_value(self.int().unwrap_or(0), "must be greater than zero");
        }
    }

    pub fn in_range(&self, low: i64, high: i64) {
        if let Some(number) = self.int().filter(|number| !(low..=high).contains(number)) {
            self.invalid_value(number, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// A number that is one of a port; absent is 0.
    pub fn port(&self) {
        let number = self.int().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            self.invalid_value(number, "must be between 1 and 65535, inclusive");
        }
    }

    /// The text as it is, empty or not, obeys the rules of such names.
    pub fn named(&self, check: NameCheck) {
        self.problems(self.text(), check);
    }

    pub fn problems(&self, text: &str, check: NameCheck) {
        for problem in check(text) {
            self.invalid_value(text, problem);
        }
    }

    /// The text, if there is one, obeys the rules of such names.
    pub fn named_if_set(&self, check: NameCheck) {
        if !self.is_empty() {
            self.named(check);
        }
    }

    /// There is a text that obeys the rules of such names.
    pub fn need_named(&self, check: NameCheck) {
        if self.need() {
            self.named(check);
        }
    }

    /// How many errors there are so far, anywhere in the object.
    pub fn errors(&self) -> usize {
        self.sink.errors.borrow().len()
    }

    /// What stands here is what stood there before.
    pub fn immutable(&self, old: &At) {
        if !self.same(old) {
            self.invalid(IMMUTABLE);
        }
    }

    pub fn max_bytes(&self, max: usize) {
        if self.text().len() > max {
            self.too_long(max);
        }
    }

    /// No two items have the same text at `member`, but for the empty one; an empty `member` stands for the items themselves.
    pub fn unique(&self, member: &str) {
        self.unique_but(member, |text| text.is_empty());
    }

    /// The same without the exception.
    pub fn all_unique(&self, member: &str) {
        self.unique_but(member, |_| false);
    }

    fn unique_but(&self, member: &str, may_repeat: fn(&str) -> bool) {
        let mut seen: HashSet<&str> = HashSet::new();
        for item in self.items() {
            let place = if member.is_empty() { item } else { item.get(member) };
            if !seen.insert(place.text()) && !may_repeat(place.text()) {
                place.duplicate_value(place.text());
            }
        }
    }
}
