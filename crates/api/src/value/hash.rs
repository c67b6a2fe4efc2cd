//! Values as keys: items of lists are told apart by them.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash, Hasher},
    sync::LazyLock,
};

use super::Value;

/// No value that was read is NaN: neither JSON nor YAML's part of it has that.
impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Null => {}
            Value::Bool(flag) => flag.hash(state),
            Value::Int(number) => number.hash(state),
            // Zero is equal to what it is with a sign.
            Value::Float(number) => (number + 0.0).to_bits().hash(state),
            Value::String(text) => text.hash(state),
            Value::Array(items) => items.hash(state),
            // Members are equal in any order.
            Value::Object(map) => {
                static MEMBERS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
                let members = map.iter().map(|member| MEMBERS.hash_one(member));
                members.fold(0, u64::wrapping_add).hash(state);
            }
        }
    }
}
