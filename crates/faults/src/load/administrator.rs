//! Administrators: each makes topics one after the other, and removes most of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ottla_client::{Admin, ClientError, DEFAULT_API_TIMEOUT, ErrorCode, NewTopic};

use super::{PAUSE, STREAMS, Shared, connect};

/// Of so many topics one stays.
const KEPT: u64 = 50;
/// Between two topics.
const REST: Duration = Duration::from_millis(100);

/// Makes the topics that are written to.
pub(crate) async fn make_streams(shared: &Shared) -> Result<()> {
    let admin = Admin::new(connect(shared, 0).await, DEFAULT_API_TIMEOUT);
    for stream in STREAMS {
        let topic = NewTopic { partitions: Some(stream.partitions), ..NewTopic::new(stream.topic) };
        admin.create_topic(topic).await?;
        shared.topics.lock().insert(stream.topic.to_owned());
    }
    Ok(())
}

pub(crate) async fn run(shared: Arc<Shared>, number: usize) -> Result<()> {
    let admin = Admin::new(connect(&shared, number).await, DEFAULT_API_TIMEOUT);
    let who = format!("administrator-{number}");
    let mut made = 0;
    while !shared.is_ending() {
        let name = format!("churn-{number}-{made}");
        made += 1;
        if make(&admin, &shared, (&who, &name)).await && made % KEPT != 0 {
            remove(&admin, &shared, (&who, &name)).await;
        }
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

/// Makes a topic; false if the end came first.
async fn make(admin: &Admin, shared: &Shared, (who, name): (&str, &str)) -> bool {
    loop {
        let asked = Instant::now();
        match admin.create_topic(NewTopic { partitions: Some(1), ..NewTopic::new(name) }).await {
            // An earlier try made it, and its answer was lost.
            Ok(()) | Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => {
                shared.board.topic_made(asked);
                shared.topics.lock().insert(name.to_owned());
                return true;
            }
            Err(error) => {
                shared.board.failed(who, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn remove(admin: &Admin, shared: &Shared, (who, name): (&str, &str)) {
    loop {
        match admin.delete_topic(name).await {
            Ok(()) | Err(ClientError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. }) => {
                shared.topics.lock().remove(name);
                return;
            }
            Err(error) => {
                shared.board.failed(who, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
