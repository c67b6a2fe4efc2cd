//! What is measured: operations on ConfigMaps, each as a case with the objects that it needs.

use http::Method;

use crate::{
    load::{Numbers, Operation},
    template::{NUMBER, Template, VALUE},
};

/// Objects where their count is not what is measured.
const OBJECTS: u64 = 1000;
/// Label of all objects made here: `kept` are the ones that cases find, `new` those that cases make.
pub const LABEL: &str = "argosy-bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Verb {
    Get,
    List,
    Create,
    Update,
    /// A merge patch of one field
    Patch,
    /// Server-side apply of the whole object
    Apply,
    Delete,
    Deletecollection,
    /// Watch fan-out
    Watch,
    /// 75% get, 10% update, 5% each of patch, create and list with a limit of 100
    Mixed,
}

/// The objects that a case finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    pub objects: u64,
    /// Of the data of each, in bytes.
    pub size: usize,
}

/// What a round leaves behind that the next must not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoils {
    Nothing,
    /// Objects that it made.
    New,
    /// The population is gone.
    Population,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub label: String,
    pub operations: Vec<Operation>,
    pub population: Population,
    pub spoils: Spoils,
    /// Ends after so many requests, not after a time.
    pub requests: Option<u64>,
    /// Instead of what the flags say.
    pub connections: Option<usize>,
    /// Watches under which the operation runs.
    pub watchers: Option<usize>,
    /// The answer is always the same, so that a bare server can give it too.
    pub answers_alike: bool,
}

/// Over what the cases go.
#[derive(Clone, Debug)]
pub struct Ranges {
    pub verbs: Vec<Verb>,
    pub objects: Vec<u64>,
    pub sizes: Vec<usize>,
    pub watchers: Vec<usize>,
    pub writers: usize,
    /// Objects of a delete.
    pub deletes: u64,
    /// Added to a list's query.
    pub list_query: String,
}

/// `1Ki`, `10Ki`, `100`.
pub fn size_text(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) && bytes > 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() }
}

/// `1024`, `1Ki` or `1Mi`; a ConfigMap holds 1 MiB at most.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text {
        text if text.ends_with("Ki") => (text.trim_end_matches("Ki"), 1 << 10),
        text if text.ends_with("Mi") => (text.trim_end_matches("Mi"), 1 << 20),
        text => (text, 1),
    };
    let size = digits.parse::<usize>().ok().and_then(|digits| digits.checked_mul(unit));
    let size = size.ok_or_else(|| format!("{text:?} is not a size such as 1Ki"))?;
    if (1..=1 << 20).contains(&size) { Ok(size) } else { Err(format!("{text} is not from 1 to 1Mi")) }
}

impl Ranges {
    pub fn cases(&self, namespace: &str) -> Vec<Case> {
        let requests = Requests { collection: format!("/api/v1/namespaces/{namespace}/configmaps") };
        let mut cases = Vec::new();
        for verb in &self.verbs {
            for size in &self.sizes {
                match verb {
                    Verb::List | Verb::Deletecollection => {
                        let each = self.objects.iter().map(|objects| self.case(*verb, *objects, *size, &requests));
                        cases.extend(each);
                    }
                    Verb::Watch => {
                        let each = self.watchers.iter().map(|watchers| Case {
                            label: format!("watch {watchers}, {}", size_text(*size)),
                            watchers: Some(*watchers),
                            connections: Some(self.writers),
                            ..self.case(Verb::Update, OBJECTS, *size, &requests)
                        });
                        cases.extend(each);
                    }
                    Verb::Delete => cases.push(self.case(*verb, self.deletes, *size, &requests)),
                    _ => cases.push(self.case(*verb, OBJECTS, *size, &requests)),
                }
            }
        }
        cases
    }

    fn case(&self, verb: Verb, objects: u64, size: usize, requests: &Requests) -> Case {
        let text = size_text(size);
        let label = match verb {
            Verb::List => format!("list {objects} x {text}"),
            Verb::Deletecollection => format!("deletecollection {objects} x {text}"),
            verb => format!("{} {text}", format!("{verb:?}").to_lowercase()),
        };
        let one = |template, numbers| vec![Operation { template, numbers, weight: 1 }];
        let turns = Numbers::Turns(objects);
        let operations = match verb {
            Verb::Get => one(requests.get(), turns),
            Verb::List => one(requests.list(&self.list_query), turns),
            Verb::Create => one(requests.create("new", size), Numbers::Fresh),
            Verb::Update | Verb::Watch => one(requests.update(size), turns),
            Verb::Patch => one(requests.patch(), turns),
            Verb::Apply => one(requests.apply(size), turns),
            Verb::Delete => one(requests.delete(), turns),
            Verb::Deletecollection => one(requests.delete_collection("kept"), turns),
            Verb::Mixed => requests.mixed(size, objects),
        };
        let spoils = match verb {
            Verb::Create | Verb::Mixed => Spoils::New,
            Verb::Delete | Verb::Deletecollection => Spoils::Population,
            _ => Spoils::Nothing,
        };
        let once = verb == Verb::Deletecollection;
        Case {
            label,
            operations,
            population: Population { objects, size },
            spoils,
            requests: if once { Some(1) } else { (verb == Verb::Delete).then_some(objects) },
            connections: once.then_some(1),
            watchers: None,
            answers_alike: !matches!(verb, Verb::Delete | Verb::Deletecollection | Verb::Mixed),
        }
    }
}

/// The requests on the ConfigMaps of one namespace.
pub struct Requests {
    /// Path of the ConfigMaps.
    pub collection: String,
}

const JSON: Option<&str> = Some("application/json");

impl Requests {
    fn on_object(&self, method: Method, content_type: Option<&'static str>, query: &str, body: String) -> Template {
        let path = format!("{}/bench-{NUMBER}{query}", self.collection);
        Template { method, path, content_type, body }
    }

    fn get(&self) -> Template {
        self.on_object(Method::GET, None, "", String::new())
    }

    fn list(&self, query: &str) -> Template {
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let path = self.collection.clone() + &query;
        Template { method: Method::GET, path, content_type: None, body: String::new() }
    }

    /// `label` is `kept` for the population, whose objects the other requests are about, else `new`.
    pub fn create(&self, label: &str, size: usize) -> Template {
        let name = if label == "kept" { "bench" } else { "bench-new" };
        let body = object(name, label, size);
        Template { method: Method::POST, path: self.collection.clone(), content_type: JSON, body }
    }

    fn update(&self, size: usize) -> Template {
        self.on_object(Method::PUT, JSON, "", object("bench", "kept", size))
    }

    fn patch(&self) -> Template {
        let body = format!(r#"{{"data":{{"seq":"{VALUE}"}}}}"#);
        self.on_object(Method::PATCH, Some("application/merge-patch+json"), "", body)
    }

    fn apply(&self, size: usize) -> Template {
        let query = "?fieldManager=argosy-bench-apply&force=true";
        let content_type = Some("application/apply-patch+yaml");
        self.on_object(Method::PATCH, content_type, query, object("bench", "kept", size))
    }

    fn delete(&self) -> Template {
        self.on_object(Method::DELETE, None, "", String::new())
    }

    pub fn delete_collection(&self, label: &str) -> Template {
        let path = format!("{}?labelSelector={LABEL}%3D{label}", self.collection);
        Template { method: Method::DELETE, path, content_type: None, body: String::new() }
    }

    fn mixed(&self, size: usize, objects: u64) -> Vec<Operation> {
        let turns = Numbers::Turns(objects);
        let parts = [
            (self.get(), turns, 75),
            (self.update(size), turns, 10),
            (self.patch(), turns, 5),
            (self.create("new", size), Numbers::Fresh, 5),
            (self.list("limit=100"), turns, 5),
        ];
        parts.map(|(template, numbers, weight)| Operation { template, numbers, weight }).into()
    }
}

/// A ConfigMap with so much data, as JSON.
fn object(name: &str, label: &str, size: usize) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}-{NUMBER}","labels":{{"{LABEL}":"{label}"}}}},"data":{{"fill":"{}","seq":"{VALUE}"}}}}"#,
        filling(size)
    )
}

/// Letters without a pattern that a server could make use of, always the same.
fn filling(size: usize) -> String {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let letters = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    });
    letters.take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(verbs: &[Verb]) -> Ranges {
        Ranges {
            verbs: verbs.to_vec(),
            objects: vec![100, 7000],
            sizes: vec![1024, 10_240],
            watchers: vec![1, 1000],
            writers: 2,
            deletes: 500,
            list_query: "resourceVersion=0".into(),
        }
    }

    #[test]
    fn cases_are_named_by_what_makes_them_different() {
        let all = [Verb::Get, Verb::List, Verb::Deletecollection, Verb::Delete, Verb::Watch];
        let cases = ranges(&all).cases("n");
        let labels: Vec<&str> = cases.iter().map(|case| case.label.as_str()).collect();
        let wanted = "get 1Ki|get 10Ki|list 100 x 1Ki|list 7000 x 1Ki|list 100 x 10Ki|list 7000 x 10Ki|\
             deletecollection 100 x 1Ki|deletecollection 7000 x 1Ki|deletecollection 100 x 10Ki|\
             deletecollection 7000 x 10Ki|delete 1Ki|delete 10Ki|watch 1, 1Ki|watch 1000, 1Ki|watch 1, 10Ki|watch 1000, 10Ki";
        assert_eq!(labels.join("|"), wanted);
        let paths: Vec<&str> = cases.iter().map(|case| case.operations[0].template.path.as_str()).collect();
        assert_eq!(paths[0], "/api/v1/namespaces/n/configmaps/bench-@@@@@@@@");
        assert_eq!(paths[2], "/api/v1/namespaces/n/configmaps?resourceVersion=0");
        assert_eq!((cases[10].requests, cases[10].population.objects), (Some(500), 500));
        assert_eq!((cases[6].requests, cases[6].connections), (Some(1), Some(1)));
        assert_eq!((cases[13].watchers, cases[13].connections), (Some(1000), Some(2)));
    }

    #[test]
    fn bodies_are_objects_of_the_size_that_was_asked_for() {
        for verb in [Verb::Create, Verb::Update, Verb::Apply] {
            let case = &ranges(&[verb]).cases("n")[1];
            let object: serde_json::Value = serde_json::from_str(&case.operations[0].template.body).expect("JSON");
            assert_eq!(object["data"]["fill"].as_str().map(str::len), Some(10_240), "{verb:?}");
            assert_eq!(object["data"]["seq"], VALUE);
        }
    }

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [("1Ki", 1024), ("100", 100), ("1Mi", 1 << 20), ("10Ki", 10_240)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "Ki", "2Mi", "0", "1k", "-1"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!([size_text(1024), size_text(1000)], ["1Ki", "1000"]);
    }
}
