//! Which names a topic may have. Kafka: `Topic.validate`.

/// Why a topic cannot have this name.
pub(super) fn check(name: &str) -> Result<(), String> {
    const MAX_LENGTH: usize = 249;
    if name.is_empty() {
        return Err("a topic name cannot be empty".into());
    }
    if name == "." || name == ".." {
        return Err(format!("a topic cannot be called '{name}'"));
    }
    if name.len() > MAX_LENGTH {
        return Err(format!("a topic name has at most {MAX_LENGTH} characters"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(format!(
            "topic name '{name}' has characters other than letters, digits, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Whether two names are the same once `.` and `_` are: their metrics would be.
pub(super) fn collide(a: &str, b: &str) -> bool {
    let unify = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.bytes().map(unify).eq(b.bytes().map(unify))
}
