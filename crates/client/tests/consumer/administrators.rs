//! Administrators of brokers that stand still, or are cut off, while others decide in their place.

use ottla_client::{NewTopic, OffsetQuery, OffsetSpec};
use ottla_protocol::messages::CreateTopicsResponse;
use ottla_protocol::messages::ListOffsetsResponse;
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};

use super::*;

/// Which requests came, and where.
type Came = Arc<Mutex<Vec<(i32, ApiKey)>>>;

/// Brokers that make every topic, but that 2 knows `existing` already.
async fn brokers(existing: &'static str) -> (Brokers, Came) {
    let came = Came::default();
    let noted = Arc::clone(&came);
    let brokers = Brokers::start(&[], move |asked| {
        noted.lock().unwrap().push((asked.node, asked.request.api_key()));
        let Request::CreateTopics(request) = &asked.request else { return None };
        let rows = request.topics.iter().map(|topic| {
            let exists = asked.node == 2 && topic.name.as_str() == existing;
            let code = if exists { ErrorCode::TopicAlreadyExists } else { ErrorCode::None };
            message!(CreatableTopicResult { name: topic.name.clone(), error_code: code.code() })
        });
        Some(message!(CreateTopicsResponse { topics: rows.collect() }).into())
    });
    (brokers.await, came)
}

/// An administrator who was told of the broker `first`.
async fn admin(brokers: &Brokers, first: i32) -> Admin {
    let (env, options) = (Env::os(), ConnectionOptions::default());
    let client = Client::connect(&env, vec![brokers.address_of(first)], options).await.unwrap();
    Admin::new(client, PATIENCE)
}

/// Where topics were to be made.
fn makers(came: &Came) -> Vec<i32> {
    let came = came.lock().unwrap();
    came.iter().filter(|(_, api)| *api == ApiKey::CreateTopics).map(|(node, _)| *node).collect()
}

async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        Env::os().clock.sleep(Duration::from_millis(5)).await;
    }
}

/// Has the silent controller 1 asked for a topic, and then 2 speak for the controller.
async fn made_by_the_next(brokers: &Brokers, topic: &str) -> Result<(), ClientError> {
    let admin = admin(brokers, 1).await;
    brokers.owe(1, ApiKey::CreateTopics);
    brokers.owe(1, ApiKey::Metadata);
    let making = admin.create_topic(NewTopic::new(topic));
    let moving = async {
        until(|| brokers.owes(1, ApiKey::CreateTopics)).await;
        brokers.set_controller(2);
    };
    let both = async { tokio::join!(making, moving).0 };
    Env::os().timeout(PATIENCE / 2, both).await.unwrap()
}

#[tokio::test]
async fn a_controller_that_is_silent_is_left_for_the_one_in_its_place() {
    let (brokers, came) = brokers("").await;
    made_by_the_next(&brokers, "new").await.unwrap();
    assert_eq!(makers(&came), [2], "the first has said nothing");
}

#[tokio::test]
async fn that_a_topic_exists_may_be_the_doing_of_a_try_without_an_answer() {
    let (brokers, _) = brokers("made").await;
    let error = made_by_the_next(&brokers, "made").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert!(error.to_string().contains("was not answered, and may have done it"), "{error}");
    // Asked once and answered, it was somebody else.
    let error = admin(&brokers, 2).await.create_topic(NewTopic::new("made")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert!(!error.to_string().contains("may have done it"), "{error}");
}

#[tokio::test]
async fn whoever_passes_a_request_on_is_not_left_for_a_controller_that_cannot_be_reached() {
    let (brokers, came) = brokers("").await;
    let admin = admin(&brokers, 2).await;
    brokers.owe(1, ApiKey::ApiVersions);
    brokers.owe(2, ApiKey::CreateTopics);
    let making = admin.create_topic(NewTopic::new("new"));
    let waiting = async {
        until(|| brokers.owes(2, ApiKey::CreateTopics)).await;
        let questions =
            || came.lock().unwrap().iter().filter(|it| it.1 == ApiKey::Metadata).count();
        let before = questions();
        until(|| questions() > before + 3).await;
        brokers.pay(2, ApiKey::CreateTopics);
    };
    let both = async { tokio::join!(making, waiting).0 };
    Env::os().timeout(PATIENCE / 2, both).await.unwrap().unwrap();
    assert_eq!(makers(&came), [2]);
}

#[tokio::test]
async fn a_controller_that_is_slow_but_speaks_is_not_left_whoever_else_is_named() {
    let (brokers, came) = brokers("").await;
    let admin = admin(&brokers, 1).await;
    brokers.owe(1, ApiKey::CreateTopics);
    let making = admin.create_topic(NewTopic::new("new"));
    let waiting = async {
        until(|| brokers.owes(1, ApiKey::CreateTopics)).await;
        brokers.set_controller(2);
        let asked = (1, ApiKey::Metadata);
        let questions = || came.lock().unwrap().iter().filter(|it| **it == asked).count();
        let before = questions();
        until(|| questions() > before + 5).await;
        brokers.pay(1, ApiKey::CreateTopics);
    };
    let both = async { tokio::join!(making, waiting).0 };
    Env::os().timeout(PATIENCE / 2, both).await.unwrap().unwrap();
    assert_eq!(makers(&came), [1]);
}

/// Brokers of which each tells its own number as every offset.
async fn leaders() -> Brokers {
    Brokers::start(&[], |asked| {
        let Request::ListOffsets(request) = &asked.request else { return None };
        let offset = i64::from(asked.node);
        let topics = request.topics.iter().map(|topic| {
            let row = message!(ListOffsetsPartitionResponse { offset: offset, leader_epoch: -1 });
            message!(ListOffsetsTopicResponse { name: topic.name.clone(), partitions: vec![row] })
        });
        Some(message!(ListOffsetsResponse { topics: topics.collect() }).into())
    })
    .await
}

async fn latest(admin: &Admin) -> i64 {
    let query = BTreeMap::from([(t0(), OffsetQuery::Latest)]);
    let listed = Env::os().timeout(PATIENCE / 2, admin.list_offsets(&query, false)).await.unwrap();
    listed.unwrap().remove(&t0()).unwrap().unwrap().offset.0
}

#[tokio::test]
async fn a_leader_is_asked_that_is_a_broker_only_since_the_administrator_came() {
    let brokers = leaders().await;
    brokers.set_members(&[1]);
    let admin = admin(&brokers, 1).await;
    brokers.set_members(&[1, 2]);
    brokers.set_leader(2);
    assert_eq!(latest(&admin).await, 2);
}

#[tokio::test]
async fn a_leader_of_the_past_is_not_asked_whoever_names_it() {
    let brokers = leaders().await;
    let admin = admin(&brokers, 1).await;
    brokers.set_leader(2);
    brokers.set_epoch(5);
    assert_eq!(latest(&admin).await, 2);
    brokers.set_leader(1);
    brokers.set_epoch(4);
    assert_eq!(latest(&admin).await, 2, "1 led before");
    brokers.set_epoch(6);
    assert_eq!(latest(&admin).await, 1);
}

#[tokio::test]
async fn a_leader_that_is_silent_is_not_waited_for_by_administrators_once_another_leads() {
    let brokers = leaders().await;
    let admin = admin(&brokers, 1).await;
    brokers.owe(1, ApiKey::ListOffsets);
    let moving = async {
        until(|| brokers.owes(1, ApiKey::ListOffsets)).await;
        brokers.set_leader(2);
    };
    assert_eq!(tokio::join!(latest(&admin), moving).0, 2);
}

#[tokio::test]
async fn a_leader_is_asked_that_is_no_broker_any_more_when_its_turn_comes() {
    let brokers = leaders().await;
    let consumer = consumer(&brokers, ConsumerOptions::default()).await;
    let ask = |partitions: &[TopicPartition]| {
        let wishes = partitions.iter().map(|it| (it.clone(), OffsetSpec::Latest));
        let found = consumer.offsets(wishes.collect());
        async { Env::os().timeout(PATIENCE / 2, found).await.unwrap().unwrap() }
    };
    assert_eq!(ask(&[t0()]).await[&t0()].offset, Offset(1));
    // Who leads another topic is asked for first, and the answer says that 1 is gone.
    brokers.owe(1, ApiKey::Metadata);
    let other = TopicPartition::new("u", 0);
    let both = [t0(), other.clone()];
    let moving = async {
        until(|| brokers.owes(1, ApiKey::Metadata)).await;
        brokers.set_members(&[2]);
        brokers.set_leader(2);
        brokers.pay(1, ApiKey::Metadata);
    };
    let (found, ()) = tokio::join!(ask(&both), moving);
    assert_eq!((found[&t0()].offset, found[&other].offset), (Offset(1), Offset(2)));
}
