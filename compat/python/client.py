"""What the scenarios are written with: assertions, and clients with nothing but their defaults and what is asked for."""

import os
import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DEADLINE_SECONDS = 40
POLL_SECONDS = 0.1
# Recent, so that retention does not take the records away.
FIRST_TIMESTAMP = int(time.time() * 1_000) - 3_600_000

# How many there are. Where there is more than one, one or another is being killed and started again at any time: only an
# idempotent producer is promised that each record arrives once.
BROKERS = int(os.environ.get("BROKERS", "1"))
IDEMPOTENT = {"enable.idempotence": True} if BROKERS > 1 else {}
# And a goodbye that meets a dead coordinator is not said again: the end of the session has to do.
SESSION = {"session.timeout.ms": 6_000} if BROKERS > 1 else {}

# Answers to ask again after: the connection broke, the broker is missing from the metadata meanwhile, or it is not the one to
# ask any more, or not yet.
PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._DESTROY_BROKER,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)

# Set once, before the first scenario.
bootstrap = ""


def check(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def equal(expected, actual, what):
    check(expected == actual, f"{what}: expected {expected!r}, got {actual!r}")


def until(what, holds):
    """Asks again until the answer is yes; each question waits a little for something to happen."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        check(time.monotonic() < end, f"waited {DEADLINE_SECONDS} s for: {what}")


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Asking:
    """librdkafka asks an operator's question once, and fails if the connection breaks under it: this one asks again."""

    def __init__(self):
        self._admin = admin_client(1)

    def __getattr__(self, call):
        return lambda *given, **named: lambda: getattr(self._admin, call)(*given, **named)

    def list_topics(self, **named):
        return asked(lambda: self._admin.list_topics(**named))


def asked(ask):
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as broken:
            if broken.args[0].code() not in PASSING or time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def admin_client(brokers=BROKERS):
    return AdminClient({"bootstrap.servers": bootstrap}) if brokers == 1 else Asking()


def answer(futures):
    """The one answer of an admin call about one thing, which may come alone or in a dictionary."""
    if callable(futures):
        return asked(lambda: answer(futures()))
    future = next(iter(futures.values())) if isinstance(futures, dict) else futures
    return future.result(DEADLINE_SECONDS)


def done(already, ask):
    """A change. Where nodes are killed, one may have made it and not have lived to say so; then the change, which the
    library asks for again, is refused, for it is made already."""
    try:
        ask()
    except KafkaException as refusal:
        if BROKERS == 1 or refusal.args[0].code() != already:
            raise


def refused(code, what, ask):
    try:
        ask()
    except KafkaException as refusal:
        equal(code, refusal.args[0].code(), f"error code of {what}")
    else:
        raise AssertionError(f"{what} was accepted")


def create_topic(prefix, partitions=1, **rest):
    topic = unique(prefix)
    admin = admin_client()
    done(KafkaError.TOPIC_ALREADY_EXISTS, lambda: answer(admin.create_topics([NewTopic(topic, partitions, **rest)])))
    return topic


class Acknowledged:
    """A producer that remembers what became of each record."""

    def __init__(self, **settings):
        self.failures = []
        self.offsets = []
        names = {name.replace("_", "."): value for name, value in settings.items()}
        self.producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 30_000, **IDEMPOTENT, **names})

    def _told(self, error, message):
        if error is None:
            self.offsets.append(message.offset())
        else:
            self.failures.append(error)

    def send(self, topic, value, **rest):
        self.producer.produce(topic, value=value, on_delivery=self._told, **rest)
        self.producer.poll(0)

    def flush(self):
        equal(0, self.producer.flush(DEADLINE_SECONDS), "records never answered for")

    def finish(self):
        self.flush()
        equal([], self.failures, "failed deliveries")
        return self.offsets


def consumer(**settings):
    names = {name.replace("_", "."): value for name, value in settings.items()}
    return Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": unique("unused"),
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        **SESSION,
        **names,
    })


def poll(reader):
    message = reader.poll(POLL_SECONDS)
    if message is not None and message.error():
        raise KafkaException(message.error())
    return message


def take(reader, count):
    taken = []

    def enough():
        message = poll(reader)
        if message is not None:
            taken.append(message)
        return len(taken) >= count

    until(f"{count} records", enough)
    return taken


def read_all(topic, count, partition=0):
    """Everything in one partition, read from its start to its end."""
    reader = consumer()
    place = TopicPartition(topic, partition, OFFSET_BEGINNING)
    reader.assign([place])
    taken = take(reader, count)
    marks = asked(lambda: reader.get_watermark_offsets(place, timeout=DEADLINE_SECONDS))
    equal((0, count), marks, "low and high watermark")
    reader.close()
    return taken


def filled(prefix):
    """Value i at offset i, one second apart, in several batches."""
    topic = create_topic(prefix)
    more(topic, 0, 100)
    return topic


def more(topic, first, end):
    producer = Acknowledged(batch_num_messages=10)
    for i in range(first, end):
        producer.send(topic, str(i).encode(), partition=0, timestamp=FIRST_TIMESTAMP + 1_000 * i)
    producer.finish()
