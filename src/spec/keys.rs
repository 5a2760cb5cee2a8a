//! The table of app keys: spelling, type, and what each sets.
    Ok(())
}
