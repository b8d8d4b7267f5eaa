//! Names of metrics and labels as Prometheus takes them, by OpenTelemetry's rules: what is not a letter, a digit or `_`
//! becomes `_`.

/// Labels that the broker sets, or that have a meaning: a client's own of these names are left out.
pub const BROKER_LABELS: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "le",
    "quantile",
];
/// How the names of what the broker itself tells begin. What a client calls so is told with [`PREFIX`] before it.
const BROKERS_OWN: [&str; 2] = ["kafka_", "ottla_"];
const PREFIX: &str = "client_";

/// The name of a metric; none, if it has none.
pub(crate) fn metric_name(name: &str) -> Option<String> {
    let name = sanitized(name, |c| c == ':')?;
    let is_brokers = BROKERS_OWN.iter().any(|own| name.starts_with(own));
    Some(if is_brokers { format!("{PREFIX}{name}") } else { name })
}

/// The name of a label; none, if it is not one that a client may set.
pub(crate) fn label_name(name: &str) -> Option<String> {
    let name = sanitized(name, |_| false)?;
    // Two underscores are Prometheus's own.
    let is_taken = BROKER_LABELS.contains(&name.as_str()) || name.starts_with("__");
    (!is_taken).then_some(name)
}

fn sanitized(name: &str, also: impl Fn(char) -> bool) -> Option<String> {
    let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let mut sanitized = String::with_capacity(name.len() + 1);
    if starts_with_digit {
        sanitized.push('_');
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    sanitized.extend(name.chars().map(|c| if valid(c) { c } else { '_' }));
    (!sanitized.is_empty()).then_some(sanitized)
}
