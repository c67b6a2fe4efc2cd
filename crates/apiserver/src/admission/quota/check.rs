//! One write against one quota, as a pure function (upstream `resourcequota/controller.go`, CheckRequest).

use api::{Value, quantity::Quantity};
use jiff::Timestamp;

use super::{
    super::amounts::{self, Amounts},
    scopes,
    usage::Evaluator,
};

pub(super) struct Request<'a> {
    pub evaluator: &'a Evaluator,
    pub object: &'a Value,
    /// As it was before; `None` for a create.
    pub old: Option<&'a Value>,
    /// A change of the status has happened already: it is charged, and never refused.
    pub is_status: bool,
    pub now: Timestamp,
}

impl Request<'_> {
    /// What the quota's `status.used` becomes, in the parts that change; `None` where this write does not concern it. An
    /// error says why the write is refused.
    pub(super) fn check(&self, quota: &Value) -> Result<Option<Amounts>, String> {
        let hard = amounts::read(quota.at(&["status", "hard"]));
        let limited: Vec<&str> = hard.keys().map(String::as_str).filter(|name| self.evaluator.measures(name)).collect();
        if limited.is_empty() || !scopes::contain(quota, self.evaluator, self.object) {
            return Ok(None);
        }
        let name = quota.str_at(&["metadata", "name"]);
        if let Some(missing) = self.evaluator.missing(&limited, self.object) {
            return Err(format!("failed quota: {name}: {missing}"));
        }
        let used = amounts::read(quota.at(&["status", "used"]));
        if limited.iter().any(|name| !used.contains_key(*name)) {
            return Err(format!("status unknown for quota: {name}, resources: {}", limited.join(",")));
        }
        let added = self.added(quota)?;
        let asked: Amounts = added.into_iter().filter(|(name, _)| hard.contains_key(name)).collect();
        if asked.is_empty() {
            return Ok(None);
        }
        let mut sum: Amounts = used
            .iter()
            .filter(|(name, _)| asked.contains_key(*name))
            .map(|(name, amount)| (name.clone(), *amount))
            .collect();
        amounts::add(&mut sum, &asked);
        let exceeded: Vec<&str> = sum
            .iter()
            .filter(|(name, amount)| hard.get(*name).is_some_and(|most| *amount > most))
            .map(|(name, _)| name.as_str())
            .collect();
        if !exceeded.is_empty() && !self.is_status {
            return Err(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                print(&asked, &exceeded),
                print(&used, &exceeded),
                print(&hard, &exceeded)
            ));
        }
        Ok(Some(sum))
    }

    /// What the write adds, without zeros. What an update frees is left to the quota controller.
    fn added(&self, quota: &Value) -> Result<Amounts, String> {
        let mut usage = self.evaluator.usage(self.object, self.now);
        let negative: Vec<&str> =
            usage.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
        }
        if let Some(old) = self.old.filter(|old| scopes::contain(quota, self.evaluator, old)) {
            let before = self.evaluator.usage(old, self.now);
            for (name, amount) in &mut usage {
                *amount -= before.get(name).copied().unwrap_or(Quantity::ZERO);
            }
        }
        usage.retain(|_, amount| amount.is_positive());
        Ok(usage)
    }
}

fn print(amounts: &Amounts, names: &[&str]) -> String {
    let parts: Vec<String> = names.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?))).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Value {
        api::json::parse(text.as_bytes()).expect("json")
    }

    #[test]
    fn a_quota_charges_or_refuses() {
        let pod = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]}}"#;
        let bare = r#"{"spec":{"containers":[{"name":"b"},{"name":"a"}]}}"#;
        let cases = [
            ("another kind's limit", r#"{"hard":{"services":"1"}}"#, pod, "none"),
            ("room", r#"{"hard":{"pods":"2","cpu":"2"},"used":{"pods":"1","cpu":"1"}}"#, pod, "cpu=2 pods=2"),
            (
                "no room",
                r#"{"hard":{"pods":"2","cpu":"2"},"used":{"pods":"2","cpu":"500m"}}"#,
                pod,
                "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
            ),
            (
                "not counted yet",
                r#"{"hard":{"pods":"2","cpu":"2"},"used":{"pods":"1"}}"#,
                pod,
                "status unknown for quota: q, resources: cpu,pods",
            ),
            (
                "compulsory requests",
                r#"{"hard":{"limits.cpu":"2","requests.cpu":"2"},"used":{}}"#,
                bare,
                "failed quota: q: must specify limits.cpu for: a,b; requests.cpu for: a,b",
            ),
        ];
        for (case, status, object, wanted) in cases {
            let quota = parse(&format!(r#"{{"metadata":{{"name":"q"}},"spec":{{}},"status":{status}}}"#));
            let object = parse(object);
            let request = Request {
                evaluator: &Evaluator::Pods,
                object: &object,
                old: None,
                is_status: false,
                now: Timestamp::UNIX_EPOCH,
            };
            let text = match request.check(&quota) {
                Ok(None) => "none".to_owned(),
                Ok(Some(used)) => {
                    used.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
                }
                Err(why) => why,
            };
            assert_eq!(text, wanted, "{case}");
        }
    }

    #[test]
    fn an_update_is_charged_for_what_it_adds() {
        let service = |kind: &str| parse(&format!(r#"{{"spec":{{"type":"{kind}","ports":[{{}}]}}}}"#));
        let quota = parse(
            r#"{"spec":{},"status":{"hard":{"services":"1","services.nodeports":"1"},"used":{"services":"1","services.nodeports":"0"}}}"#,
        );
        let (old, new) = (service("ClusterIP"), service("NodePort"));
        let request = |object, old| Request {
            evaluator: &Evaluator::Services,
            object,
            old: Some(old),
            is_status: false,
            now: Timestamp::UNIX_EPOCH,
        };
        let charged = request(&new, &old).check(&quota).expect("room").expect("a charge");
        assert_eq!(
            charged.into_iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>(),
            ["services.nodeports=1"]
        );
        assert_eq!(request(&old, &new).check(&quota), Ok(None));
    }
}
