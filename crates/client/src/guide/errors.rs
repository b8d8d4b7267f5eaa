//! What can go wrong, and what to do about it.
//!
//! Clients try again by themselves what may pass, for as long as their configuration says:
//! `delivery.timeout.ms` for a record, `default.api.timeout.ms` for a call, and
//! [`Consumer::poll`](crate::Consumer::poll) for ever, answering with nothing meanwhile. What comes out
//! is for the program to decide about. Each error is one enum with the broker's own
//! [`ErrorCode`] where there is one, and answers:
//!
//! | question | [`ClientError`] | [`ProduceError`] | [`ConsumerError`] |
//! |---|---|---|---|
//! | may the same succeed later? | [`is_retriable`](ClientError::is_retriable) | [`is_retriable`](ProduceError::is_retriable) | [`is_retriable`](ConsumerError::is_retriable) |
//! | may it have had its effect all the same? | [`is_indeterminate`](ClientError::is_indeterminate) | [`maybe_stored`](ProduceError::maybe_stored) | – |
//! | what did the broker say? | [`code`](ClientError::code) | in `error` | in [`Client`](ConsumerError::Client) |
//!
//! No answer is never taken for a no: a request that was sent and not answered *may* have been carried
//! out. Where that matters, look first, or do what has the same effect twice.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use ottla_client::{Admin, ClientError, CommonClientConfig, Env, ErrorCode, NewTopic};
//!
//! /// Makes a topic, or finds that it is there: the same whether it runs once or twice.
//! async fn ensure_topic(admin: &Admin, name: &str) -> Result<(), ClientError> {
//!     loop {
//!         match admin.create_topic(NewTopic::new(name)).await {
//!             Ok(()) => return Ok(()),
//!             Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => return Ok(()),
//!             // Also where it may have been carried out: the next try finds the topic.
//!             Err(error) if error.is_retriable() => eprintln!("again: {error}"),
//!             Err(error) => return Err(error),
//!         }
//!     }
//! }
//!
//! let given = [("bootstrap.servers", servers)];
//! let (config, _warnings) = CommonClientConfig::from_properties(given)?;
//! let admin = Admin::connect(&Env::os(), &config).await?;
//! ensure_topic(&admin, "orders").await?;
//! ensure_topic(&admin, "orders").await?;
//! let wrong = ensure_topic(&admin, "no/slashes").await.unwrap_err();
//! assert_eq!(wrong.code(), Some(ErrorCode::InvalidTopicException));
//! # Ok(()) });
//! ```

#[allow(unused_imports, reason = "links")]
use crate::{ClientError, ConsumerError, ErrorCode, ProduceError};
