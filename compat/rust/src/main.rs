//! The scenarios through Ottla's own Rust client: a driver (`compat/go/driven`), which does what it is asked for on its
//! standard input, one JSON object a line, and answers on its standard output.

mod administration;
mod asked;
mod calls;
mod streams;

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_client::{Admin, Client, ClientError, ConsumerError, ProduceError};
use ottla_env::Env;
use serde_json::{Value, json};

use self::asked::{Call, say};
use self::streams::Streams;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all calls share.
pub(crate) struct Driver {
    env: Env,
    bootstrap: String,
    admin: Admin,
    streams: Streams,
}

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).context("usage: ottla-driver BOOTSTRAP")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let driver = runtime.block_on(async {
        let env = Env::os();
        let addresses = bootstrap.split(',').map(str::to_owned).collect();
        let client = Client::connect(&env, addresses, Default::default()).await?;
        let admin = Admin::new(client, PATIENCE);
        anyhow::Ok(Arc::new(Driver { env, bootstrap, admin, streams: Streams::default() }))
    })?;
    say(&json!({}));
    for line in std::io::stdin().lock().lines() {
        let asked: Call = serde_json::from_str(&line?)?;
        let driver = driver.clone();
        let answering = driver.env.clone();
        let _enter = runtime.enter();
        answering.spawn("call", async move {
            let id = asked.id;
            match Box::pin(driver.answer(asked)).await {
                Ok(value) => say(&json!({ "id": id, "value": value })),
                Err(error) => say(&with_error(json!({ "id": id }), &error)),
            }
        });
    }
    Ok(())
}

/// `said` with what went wrong.
pub(crate) fn with_error(mut said: Value, error: &anyhow::Error) -> Value {
    let of_client = |error: &ClientError| error.code().map(|code| code.code());
    let code = error.chain().find_map(|cause| {
        let refused = cause.downcast_ref::<ClientError>().and_then(of_client);
        let produced = match cause.downcast_ref::<ProduceError>() {
            Some(ProduceError::Refused { error, .. } | ProduceError::NoMetadata { error, .. }) => {
                of_client(error)
            }
            Some(ProduceError::TooLarge { .. }) => Some(10),
            _ => None,
        };
        let consumed = match cause.downcast_ref::<ConsumerError>() {
            Some(ConsumerError::Client(error)) => of_client(error),
            Some(ConsumerError::Rejected { code, .. } | ConsumerError::CommitFailed(code)) => {
                Some(code.code())
            }
            _ => None,
        };
        refused.or(produced).or(consumed)
    });
    said["error"] = json!(format!("{error:#}"));
    said["code"] = json!(code.unwrap_or(0));
    said
}
