//! How a cluster is looked after: [`Admin`], Kafka's `Admin`.
//!
//! Each call goes where it belongs (any broker, the controller, a group's coordinator, a partition's
//! leader, one broker), and is tried again while the failure may pass, for `default.api.timeout.ms` in
//! all. A controller that is silent is left once the others name another; what it was asked to do it may have done
//! ([`create_topics`](Admin::create_topics) says what that means). A call fails if nobody can be asked. What is said of one of several things stands beside that
//! thing, in [`Answers`]: one topic that cannot be made does not hide that the others were.
//!
//! # Topics and configurations
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use std::collections::BTreeMap;
//! use ottla_client::{
//!     Admin, CommonClientConfig, ConfigChange, ConfigResource, ConfigResourceType, Env, ErrorCode,
//!     NewPartitions, NewTopic,
//! };
//!
//! let given = [("bootstrap.servers", servers)];
//! let (config, _warnings) = CommonClientConfig::from_properties(given)?;
//! let admin = Admin::connect(&Env::os(), &config).await?;
//!
//! admin.create_topic(NewTopic { partitions: Some(3), ..NewTopic::new("orders") }).await?;
//! let more = BTreeMap::from([("orders".to_owned(), NewPartitions { total: 5, assignments: None })]);
//! for (topic, answer) in admin.create_partitions(&more, false).await? {
//!     answer.map_err(|error| format!("{topic}: {error}"))?;
//! }
//! let described = admin.describe_topics(&["orders", "missing"]).await?;
//! assert_eq!(described["orders"].as_ref().unwrap().partitions.len(), 5);
//! let missing = described["missing"].as_ref().unwrap_err();
//! assert_eq!(missing.code(), Some(ErrorCode::UnknownTopicOrPartition));
//!
//! let orders = ConfigResource::new(ConfigResourceType::Topic, "orders");
//! let week = ("retention.ms".to_owned(), ConfigChange::Set("604800000".to_owned()));
//! let changes = BTreeMap::from([(orders.clone(), vec![week])]);
//! for (_, answer) in admin.incremental_alter_configs(&changes, false).await? {
//!     answer?;
//! }
//! let configs = admin.describe_configs(&[orders.clone()], Some(&["retention.ms"]), false).await?;
//! let entry = &configs[&orders].as_ref().unwrap()[0];
//! println!("{} = {:?}, set by {:?}", entry.name, entry.value, entry.source);
//! # assert_eq!(entry.value.as_deref(), Some("604800000"));
//! admin.delete_topic("orders").await?;
//! # Ok(()) });
//! ```
//!
//! # Groups, offsets, records
//! ```
//! # ottla_doc_node::run(async |servers| {
//! # ottla_doc_node::fill(servers, "orders", 10).await?;
//! use std::collections::BTreeMap;
//! use ottla_client::{
//!     Admin, CommittedOffset, CommonClientConfig, Env, Offset, OffsetQuery, TopicPartition,
//! };
//!
//! let given = [("bootstrap.servers", servers)];
//! let (config, _warnings) = CommonClientConfig::from_properties(given)?;
//! let admin = Admin::connect(&Env::os(), &config).await?;
//! let orders = TopicPartition::new("orders", 0);
//!
//! // A group without members can be put anywhere: here, three records before the end.
//! let ends = admin.list_offsets(&BTreeMap::from([(orders.clone(), OffsetQuery::Latest)]), false).await?;
//! let end = ends[&orders].as_ref().unwrap().offset;
//! let back = CommittedOffset::at(Offset(end.0 - 3));
//! for (_, answer) in admin.alter_group_offsets("billing", &BTreeMap::from([(orders.clone(), back)])).await? {
//!     answer?;
//! }
//! let committed = admin.list_group_offsets("billing", None, false).await?;
//! assert_eq!(committed[&orders].as_ref().unwrap().offset, Offset(7));
//!
//! // The first five records are not needed any more.
//! let begins = admin.delete_records(&BTreeMap::from([(orders.clone(), Offset(5))])).await?;
//! assert_eq!(*begins[&orders].as_ref().unwrap(), Offset(5));
//!
//! for (group, answer) in admin.delete_groups(&["billing"]).await? {
//!     answer.map_err(|error| format!("{group}: {error}"))?;
//! }
//! # Ok(()) });
//! ```
//!
//! # All calls
//! - Topics: [`create_topics`](Admin::create_topics), [`delete_topics`](Admin::delete_topics),
//!   [`list_topics`](Admin::list_topics), [`describe_topics`](Admin::describe_topics),
//!   [`create_partitions`](Admin::create_partitions), [`delete_records`](Admin::delete_records).
//! - Configurations: [`describe_configs`](Admin::describe_configs),
//!   [`incremental_alter_configs`](Admin::incremental_alter_configs), [`alter_configs`](Admin::alter_configs),
//!   [`list_config_resources`](Admin::list_config_resources).
//! - Groups: [`list_groups`](Admin::list_groups), [`describe_groups`](Admin::describe_groups),
//!   [`delete_groups`](Admin::delete_groups), [`remove_members`](Admin::remove_members),
//!   [`list_group_offsets`](Admin::list_group_offsets), [`alter_group_offsets`](Admin::alter_group_offsets),
//!   [`delete_group_offsets`](Admin::delete_group_offsets).
//! - Partitions: [`list_offsets`](Admin::list_offsets), [`elect_leaders`](Admin::elect_leaders),
//!   [`alter_reassignments`](Admin::alter_reassignments), [`list_reassignments`](Admin::list_reassignments),
//!   [`describe_producers`](Admin::describe_producers).
//! - The cluster: [`describe_cluster`](Admin::describe_cluster), [`describe_quorum`](Admin::describe_quorum),
//!   [`describe_features`](Admin::describe_features), [`update_features`](Admin::update_features),
//!   [`describe_log_dirs`](Admin::describe_log_dirs), [`alter_replica_log_dirs`](Admin::alter_replica_log_dirs),
//!   [`api_versions`](Admin::api_versions).
//! - Quotas: [`describe_client_quotas`](Admin::describe_client_quotas),
//!   [`alter_client_quotas`](Admin::alter_client_quotas).

#[allow(unused_imports, reason = "links")]
use crate::{Admin, Answers};
