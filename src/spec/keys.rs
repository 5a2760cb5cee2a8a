//! The table of app keys: spelling, type, and what each sets.
/// x
pub fn apply_changes(_: &mut crate::spec::AppSpec, _: &[(String, serde_json::Value)]) -> Result<(), (String, String)> {
    Ok(())
}
