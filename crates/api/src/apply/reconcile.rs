//! Field sets that were written under another schema: fields below what has since become one value are owned as that value
//! (`typed/reconcile_schema.go`).

use super::{
    path::PathElement,
    schema::{Form, Schema, Spot},
    set::{Node, Set},
};
use crate::model::{Model, TypeId};

/// `None` where the set fits the schema already.
pub fn reconcile(model: &Model, ty: TypeId, set: &Set) -> Option<Set> {
    below(Schema { model }, Spot::Type(ty), set)
}

fn below<'m>(schema: Schema<'m>, spot: Spot<'m>, set: &Set) -> Option<Set> {
    let form = schema.form(spot);
    let mut out: Option<Set> = None;
    for (at, node) in set.nodes.iter().enumerate() {
        let spot = match (form, &node.element) {
            (Form::Map(map), PathElement::Field(name)) => map.member(name).map(|(spot, _)| spot),
            (Form::List(list), _) => Some(list.item),
            _ => None,
        };
        // What the schema does not know is left alone.
        let Some(changed) = spot.and_then(|spot| reconciled(schema, spot, node)) else { continue };
        out.get_or_insert_with(|| set.clone()).nodes[at] = changed;
    }
    out
}

fn reconciled<'m>(schema: Schema<'m>, spot: Spot<'m>, node: &Node) -> Option<Node> {
    if node.children.is_empty() {
        return None;
    }
    let form = schema.form(spot);
    if matches!(form, Form::List(_) | Form::Map(_)) && form.is_atomic() {
        return Some(Node { element: node.element.clone(), member: true, children: Set::new() });
    }
    let children = below(schema, spot, &node.children)?;
    Some(Node { element: node.element.clone(), member: node.member, children })
}
