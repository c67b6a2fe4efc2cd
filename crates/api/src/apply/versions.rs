//! The versions that entries of one object are of: a set of fields is that of one version, so what a request changes is
//! looked at in the version of each entry (structured-merge-diff `merge/update.go`).

use std::{borrow::Cow, sync::Arc};

use crate::{
    model::{Gvk, TypeId},
    resource::{Resource, ResourceTable},
    value::Value,
};

/// The version in which the objects at hand are.
#[derive(Clone, Copy)]
pub(super) struct Versions<'a> {
    pub ty: TypeId,
    /// `None`: there are no others, or they are all the same.
    pub resource: Option<&'a Resource>,
}

/// A version of the kind.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub ty: TypeId,
    /// `None`: the version at hand, or one with its schema.
    other: Option<&'static Arc<Resource>>,
}

impl Versions<'_> {
    pub fn at_hand(&self) -> View {
        View { ty: self.ty, other: None }
    }

    /// The version that an entry names, as `apps/v1`.
    pub fn view(&self, api_version: &str) -> View {
        let own = self.at_hand();
        let Some(resource) = self.resource.filter(|resource| resource.custom.is_none()) else { return own };
        let named = Gvk::of(api_version, &resource.kind.kind);
        if named == resource.kind {
            return own;
        }
        let entry = ResourceTable::builtin().by_kind(&named);
        let differs = |entry: &&Arc<Resource>| match (resource.conversion, entry.conversion) {
            (None, None) => false,
            (Some(one), Some(other)) => !std::ptr::eq(one, other),
            _ => true,
        };
        match entry.filter(|entry| entry.storage == resource.storage).filter(differs) {
            Some(entry) => View { ty: entry.ty, other: Some(entry) },
            None => own,
        }
    }

    /// An object at hand as another version shows it.
    pub fn show<'o>(&self, object: &'o Value, view: View) -> Cow<'o, Value> {
        let mut shown = Cow::Borrowed(object);
        if let (Some(own), Some(other)) = (self.resource, view.other) {
            own.to_stored(shown.to_mut());
            other.from_stored(shown.to_mut());
        }
        shown
    }

    /// An object of one version as one of another.
    pub fn between(&self, mut object: Value, from: View, to: View) -> Value {
        if let (Some(own), Some(other)) = (self.resource, from.other) {
            other.to_stored(&mut object);
            own.from_stored(&mut object);
        }
        match to.other {
            Some(_) => self.show(&object, to).into_owned(),
            None => object,
        }
    }
}

impl View {
    pub fn is_at_hand(self) -> bool {
        self.other.is_none()
    }
}
