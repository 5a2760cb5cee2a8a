//! An app: its spec and the operations on its processes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::id::AppId;
use super::operation::Operation;
use crate::spec::AppSpec;

/// An app and what is being done to it.
#[derive(Debug)]
pub struct App {
    /// Unique in the whole life of the state, across daemons.
    pub id: AppId,
    /// What it is.
    pub spec: Arc<AppSpec>,
    /// Operations under way and waiting, oldest first.
    pub(super) operations: VecDeque<Operation>,
}
