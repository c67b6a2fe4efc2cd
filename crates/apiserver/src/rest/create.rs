//! POST to a collection.

use api::{Status, Value};
use http::StatusCode;

use super::{Answer, Call, management::Management, options::WriteOptions, write};
use crate::{
    admission::{Operation, Review},
    alloc::Fate,
    cache::Object,
    negotiate, strategy,
};

/// How many generated names are tried before a create gives up.
const NAME_TRIES: usize = 8;

impl Call<'_> {
    pub(super) async fn create(&self) -> Answer {
        let options = WriteOptions::of(self)?;
        let parsed = negotiate::decode_body(self.headers, &self.body)?;
        let (mut object, mut warnings) = write::read_object(&self.resource, parsed, options.validation)?;
        if !self.resource.is_stored() {
            return crate::subresource::answer_only(self, object).await;
        }
        self.own_new(&mut object, &options.manager);
        let stored = self.create_object(object, options.dry_run, &mut warnings).await;
        self.warn(warnings);
        self.respond(StatusCode::CREATED, &stored?)
    }

    /// Makes `manager` the owner of all that a client says of a new object.
    pub(crate) fn own_new(&self, object: &mut Value, manager: &str) {
        // What only a server says of an object is nobody's.
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            object.take(&["metadata", name]);
        }
        Management::of(self.server, &self.resource, "").update(&Value::object(), object, manager);
    }

    /// Creates a decoded object of the request's version; a generated name that is taken is made anew.
    pub(crate) async fn create_object(
        &self,
        mut object: Value,
        dry_run: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Status> {
        self.resource.to_stored(&mut object);
        let generated =
            object.str_at(&["metadata", "name"]).is_empty() && !object.str_at(&["metadata", "generateName"]).is_empty();
        for _ in 1..if generated { NAME_TRIES } else { 1 } {
            match self.try_create(object.clone(), dry_run, warnings).await {
                Err(status) if status.reason == api::status::Reason::AlreadyExists => warnings.clear(),
                result => return result,
            }
        }
        self.try_create(object, dry_run, warnings).await
    }

    async fn try_create(&self, mut object: Value, dry_run: bool, warnings: &mut Vec<String>) -> Result<Object, Status> {
        let resource = self.hub();
        let strategy = strategy::of(resource);
        if let Some(why) = strategy.refuses_creation() {
            return Err(Status::forbidden(
                &resource.group,
                &resource.plural,
                object.str_at(&["metadata", "name"]),
                why,
            ));
        }
        strategy::prepare_create(resource, strategy, &mut object, &self.info.namespace, self.server.clock.now())?;
        let name = object.str_at(&["metadata", "name"]).to_owned();
        if !self.info.name.is_empty() && self.info.name != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.info.name
            )));
        }
        let review = Review {
            server: self.server,
            operation: Operation::Create,
            verb: self.info.verb,
            resource,
            subresource: "",
            namespace: &self.info.namespace,
            name: &name,
            user: self.user,
            dry_run,
            old: None,
            warnings: Default::default(),
        };
        self.server.admission.admit(&review, &mut object).await?;
        let mut errors = strategy::validate_meta(resource, strategy, &object);
        errors.extend(strategy.validate(resource, &object));
        errors.extend(strategy.validate_served(&self.resource.kind, &object, None));
        if !errors.is_empty() {
            return Err(Status::invalid(&resource.group, &resource.kind.kind, &name, errors));
        }
        warnings.extend(strategy.warnings(resource, &object, None));
        let admitted = self.server.admission.validate(&review, &object).await;
        warnings.extend(review.warnings.into_inner());
        admitted?;
        let reserved = self.server.before_create(resource, &self.info.namespace, &name, &mut object, dry_run).await?;
        let stored = write::insert(self.server, resource, &self.info.namespace, &name, object, dry_run).await;
        if stored.as_ref().is_err_and(|status| Fate::of(status) == Fate::Failed) {
            self.server.release(reserved).await;
        }
        stored
    }
}
