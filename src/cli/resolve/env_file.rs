//! Reads files of variables (`env_file`).

use std::path::Path;

use super::caller::Caller;
use super::input_error::{InputError, reason};
use super::path::absolute;
use crate::spec::Env;

/// The declared variables: those of the files (later files win), overridden by `env`. A file is searched like a script:
/// in the app's directory, then in the caller's.
pub(super) fn declared(files: &[String], env: Env, cwd: &Path, caller: &Caller) -> Result<Env, InputError> {
    let mut declared = Env::new();
    for file in files {
        let paths = [cwd, caller.cwd.as_path()].map(|base| absolute(file, base, caller.home()));
        read(paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]), &mut declared)?;
    }
    declared.extend(env);
    Ok(declared)
}

fn read(path: &Path, into: &mut Env) -> Result<(), InputError> {
    let fail = |why: String| InputError::new(format!("the env file {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| fail(reason(&error)))?;
    for pair in dotenvy::from_read_iter(text.as_slice()) {
        let (name, value) = pair.map_err(|error| fail(describe(error)))?;
        if value.contains('\0') {
            return Err(fail(format!("the value of {name} holds a NUL character")));
        }
        into.insert(name, value);
    }
    Ok(())
}

/// The error without the value, which may be a secret.
fn describe(error: dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(line, _) => {
            let name = line.split('=').next().unwrap_or_default().trim();
            format!("the line of `{name}` is not `NAME=value`; a value with spaces or # needs quotes")
        }
        dotenvy::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        other => other.to_string(),
    }
}
