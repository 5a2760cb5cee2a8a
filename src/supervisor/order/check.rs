//! Whether apps can be brought up in an order at all. Looked at before anything changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::Refusal;
use crate::spec::{AppSpec, target};
use crate::supervisor::operation::Operation;
use crate::supervisor::state::Supervisor;

/// What each app is going to be, by namespace and name.
type Future<'a> = BTreeMap<(&'a str, &'a str), &'a AppSpec>;

impl Supervisor {
    /// Refuses specs with which an app would depend on one that is not known, on something that cannot come true, or on
    /// itself by way of others.
    pub(crate) fn check_order(&self, fresh: &[&AppSpec]) -> Result<(), Refusal> {
        let known = self.apps.values().map(|app| {
            let planned = app.operations.iter().rev().find_map(|operation: &Operation| operation.spec.as_ref());
            &**planned.unwrap_or(&app.spec)
        });
        let future: Future<'_> = known.chain(fresh.iter().copied()).map(|spec| (key(spec), spec)).collect();
        for spec in fresh {
            known_and_possible(spec, &future)?;
            let others = future.values().filter(|other| super::needs(other, spec));
            others.copied().try_for_each(|other| possible(other, spec))?;
            if let Some(circle) = circle(&mut vec![*spec], &mut BTreeSet::new(), &future) {
                let why = format!("the apps depend on each other in a circle: {circle}; remove one of these");
                return Err(bad(why));
            }
        }
        Ok(())
    }
}

fn key(spec: &AppSpec) -> (&str, &str) {
    (&spec.namespace, &spec.name)
}

fn bad(why: String) -> Refusal {
    Refusal::BadSetting { key: "depends_on".to_owned(), why }
}

fn known_and_possible(spec: &AppSpec, future: &Future<'_>) -> Result<(), Refusal> {
    for name in spec.depends_on.keys() {
        match future.get(&(&*spec.namespace, name.as_str())) {
            Some(other) => possible(spec, other)?,
            None => return Err(bad(unknown(spec, name, future))),
        }
    }
    Ok(())
}

fn unknown(spec: &AppSpec, name: &str, future: &Future<'_>) -> String {
    let near = future.keys().filter(|(namespace, other)| *namespace == spec.namespace && *other != spec.name);
    let names: Vec<&str> = near.map(|(_, other)| *other).collect();
    let meant = target::similar(name, &names).first().map_or_else(String::new, |near| format!("; is `{near}` meant?"));
    let elsewhere = future.keys().find(|(_, other)| *other == name);
    let elsewhere = elsewhere.map_or_else(String::new, |(there, _)| {
        format!(" in the namespace `{}` (there is one in `{there}`)", spec.namespace)
    });
    format!(
        "`{}` depends on `{name}`, which is not known{elsewhere}: start both from one config file, or `{name}` first{meant}",
        spec.name
    )
}

/// `spec` depends on `other`.
fn possible(spec: &AppSpec, other: &AppSpec) -> Result<(), Refusal> {
    let condition = spec.depends_on[&other.name];
    match other.never(condition) {
        None => Ok(()),
        Some(never) => {
            let (one, other, to_be) = (&spec.name, &other.name, condition.awaited());
            Err(bad(format!("`{one}` waits for `{other}` {to_be}, and `{other}` {never}")))
        }
    }
}

/// A way along dependencies from the last of `way` back to where it begins: `api → db → api`.
fn circle<'a>(way: &mut Vec<&'a AppSpec>, seen: &mut BTreeSet<&'a str>, future: &Future<'a>) -> Option<String> {
    let last = way[way.len() - 1];
    for name in last.depends_on.keys() {
        if *name == way[0].name {
            let names: Vec<&str> = way.iter().map(|spec| &*spec.name).chain([name.as_str()]).collect();
            return Some(names.join(" → "));
        }
        let Some(next) = future.get(&(&*last.namespace, name.as_str())) else { continue };
        if seen.insert(name) {
            way.push(next);
            let found = circle(way, seen, future);
            if found.is_some() {
                return found;
            }
            way.pop();
        }
    }
    None
}
