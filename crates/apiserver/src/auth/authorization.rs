//! May they: members of `system:masters`, then the Node authorizer, then RBAC. The first that allows or denies decides.

use std::sync::Arc;

use api::Status;

use super::{Attributes, Decision, MASTERS, node::NodeAuthorizer, rbac::Rbac};
use crate::cache::Cache;

pub struct Authorization {
    node: NodeAuthorizer,
    pub(crate) rbac: Rbac,
    cache: Arc<Cache>,
}

impl Authorization {
    pub fn new(cache: Arc<Cache>) -> Authorization {
        Authorization { node: NodeAuthorizer::new(cache.clone()), rbac: Rbac::new(cache.clone()), cache }
    }

    /// A refusal is judged again on the newest state, so that a role granted a moment ago counts.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Result<Decision, Status> {
        let decision = self.decide(attributes);
        if decision.is_allowed() {
            return Ok(decision);
        }
        self.cache.wait_until_current().await?;
        Ok(self.decide(attributes))
    }

    fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow { reason: Arc::default() };
        }
        match self.node.authorize(attributes) {
            Decision::NoOpinion { .. } => self.rbac.authorize(attributes),
            decided => decided,
        }
    }
}
