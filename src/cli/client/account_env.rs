//! Adds home and name of the account that an app runs as to the environment that is shown.
//!
//! The daemon sets these variables when it starts a process, from the system's user database. The database may be
//! across a network, so the command looks the account up, and the daemon does not.

use std::collections::HashMap;

use crate::os::process::identity::{self, Account};
use crate::protocol::Description;

/// The descriptions, with `HOME`, `USER` and `LOGNAME` as the processes have them. For an account that no longer exists
/// nothing is added.
pub fn add_accounts(mut described: Vec<Description>) -> Vec<Description> {
    let mut accounts: HashMap<(Option<String>, Option<String>), Option<Account>> = HashMap::new();
    for one in &mut described {
        let rules = &one.spec.confinement;
        let account = accounts
            .entry((rules.user.clone(), rules.group.clone()))
            .or_insert_with(|| identity::account(rules.user.as_deref(), rules.group.as_deref()).ok().flatten());
        let variables = account.iter().flat_map(Account::variables);
        let inherited = variables.filter(|(name, _)| !one.spec.env.contains_key(*name));
        one.own_env.extend(inherited.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    #[test]
    fn an_app_with_a_user_has_that_users_home_unless_its_spec_sets_another() {
        let plain = sample::description();
        let mut confined = sample::description();
        confined.spec.confinement.user = Some("daemon".to_owned());
        let mut declared = confined.clone();
        declared.spec.env.insert("HOME".to_owned(), "/mine".to_owned());
        let shown = add_accounts(vec![plain, confined, declared]);
        let variable = |at: usize, name: &str| shown[at].own_env.get(name).cloned();
        assert_eq!(variable(0, "HOME"), None);
        let home = nix::unistd::User::from_name("daemon").unwrap().unwrap().dir;
        assert_eq!(variable(1, "HOME").as_deref(), home.to_str());
        assert_eq!(variable(1, "LOGNAME").as_deref(), Some("daemon"));
        assert_eq!((variable(2, "HOME"), variable(2, "USER").as_deref()), (None, Some("daemon")));
    }
}
