//! When a reload fails, the apps that depend on its app are not reloaded by the same request: their new release was
//! made for the new release of the dependency.
//!
//! A start or restart needs no such rule. An app that it fails to bring up does not serve, so operations that wait for
//! it do not begin. An app whose reload failed serves on as it was.

use std::sync::Arc;

use super::needs;
use crate::supervisor::id::AppId;
use crate::supervisor::operation::{Kind, Operation};
use crate::supervisor::persist::RecordKey;
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// An operation is over. If it was a reload that failed, the dependents' reloads of the same request do not begin,
    /// unless they are forced.
    pub(crate) fn skip_dependents(&mut self, app: AppId, over: &Operation) {
        if !over.failed || over.kind != Kind::Reload || over.request.is_none() {
            return;
        }
        let spec = Arc::clone(&self.apps[&app].spec);
        let why = match over.skip_reason {
            Some(_) => format!("not reloaded, because `{}` was not", spec.name),
            None => format!("not reloaded, because the reload of `{}` failed", spec.name),
        };
        let mut changed = Vec::new();
        for other in self.apps.values_mut().filter(|other| other.id != app) {
            for operation in &mut other.operations {
                let goes_along = operation.request == over.request && operation.kind == Kind::Reload;
                let planned = operation.spec.as_ref().unwrap_or(&other.spec);
                if goes_along && !operation.begun && !operation.transaction.is_forced() && needs(planned, &spec) {
                    operation.skip_reason = Some(why.clone());
                    changed.push(RecordKey::Work(other.id));
                }
            }
        }
        changed.into_iter().for_each(|key| self.touch(key));
    }
}
