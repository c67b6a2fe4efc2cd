//! Label and field selectors of a list, watch or collection delete, over what the cache keeps of an object.

use api::{
    Resource, Status,
    selector::{FieldSelector, LabelSelector},
};

use crate::{cache::Object, request::Query, strategy};

pub struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Where the values of fields stand in an object; empty where no selector asks for one.
    kept: Vec<strategy::Selectable>,
}

impl Filter {
    /// `name` narrows to one object, as a watch on a single name does; empty for none.
    pub fn new(query: &Query, resource: &Resource, name: &str) -> Result<Filter, Status> {
        let text = query.get("labelSelector").unwrap_or_default();
        let labels = LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
        let text = query.get("fieldSelector").unwrap_or_default();
        let mut fields = FieldSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
        // Kinds that know no fields of their own have other words for it (apimachinery `pkg/runtime/conversion.go`).
        let has_own = resource.custom.is_some() || !strategy::of(resource).fields().is_empty();
        let unsupported = |field: &str| {
            Status::bad_request(match has_own {
                true => format!("field label not supported: {field}"),
                false => {
                    format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }
            })
        };
        if let Some(conversion) = resource.conversion {
            fields = fields.renamed(|field| conversion.field_label(field)).map_err(|field| unsupported(&field))?;
        }
        for term in fields.terms() {
            let field = &*term.field;
            let known = field == "metadata.name"
                || (field == "metadata.namespace" && resource.namespaced)
                || strategy::is_selectable(resource, field);
            if !known {
                return Err(unsupported(field));
            }
        }
        let fields = if name.is_empty() || fields.exact("metadata.name").is_some() {
            fields
        } else {
            FieldSelector::equal("metadata.name", name)
        };
        let kept = if fields.is_everything() { Vec::new() } else { strategy::kept_fields(resource) };
        Ok(Filter { labels, fields, kept })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.labels.matches_with(|name| object.label(name))
            && self.fields.matches(|field| match field {
                "metadata.name" => Some(object.name()),
                "metadata.namespace" => Some(object.namespace()),
                _ => self.kept.iter().position(|known| *known.name == *field).map(|at| &*object.fields[at]),
            })
    }
}
