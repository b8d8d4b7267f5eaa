//! What is asked of a driver, and how it answers; whatever its library is.

use std::io::Write as _;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) call: String,
    pub(crate) with: Value,
}

#[derive(Deserialize)]
pub(crate) struct Producing {
    pub(crate) codec: String,
    pub(crate) idempotent: bool,
    #[serde(rename = "smallBatches")]
    pub(crate) small_batches: bool,
    pub(crate) large: bool,
}

#[derive(Deserialize)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Option<Vec<Header>>,
    pub(crate) timestamp: i64,
}

#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// One line, whole.
pub(crate) fn say(said: &Value) {
    let mut output = std::io::stdout().lock();
    // Nobody listens any more: the input ends too.
    let _ended = writeln!(output, "{said}").and_then(|()| output.flush());
}

pub(crate) fn bytes(text: Option<&String>) -> Result<Option<Vec<u8>>> {
    Ok(text.map(|text| BASE64_STANDARD.decode(text)).transpose()?)
}

pub(crate) fn base64_of(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| json!(BASE64_STANDARD.encode(bytes)))
}

pub(crate) fn text<'a>(with: &'a Value, name: &str) -> &'a str {
    with[name].as_str().unwrap_or_default()
}

pub(crate) fn number(with: &Value, name: &str) -> Result<i64> {
    match with[name].as_i64() {
        Some(number) => Ok(number),
        None => bail!("{name} is missing"),
    }
}
