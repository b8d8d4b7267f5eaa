"""Produces without a pause while its node is killed and started again, and checks what is left.

    crash.py BOOTSTRAP produce TOPIC    sends values 0, 1, 2, … to each partition until its standard input ends
    crash.py BOOTSTRAP check TOPIC ACKNOWLEDGED COMMITTED
        reads everything: a partition must hold value i at offset i, and as many as were acknowledged. Before that,
        the group's offsets must be those that the last check committed; after it, it commits where it came to, and
        prints that. Both are one number for each partition, with commas.

The producer is idempotent and is the only one, and it never gives up on a record. So a gap or a changed value is an
acknowledged record lost, and a repeated value is a retry that the node took for a new record.
"""

import os
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 3
DEADLINE_SECONDS = 60
# Few enough to read all of them after each crash, enough that there are always batches in flight.
RECORDS_PER_SECOND = 3_000
MAX_UNACKNOWLEDGED = 2_000


def settings(bootstrap):
    return {"bootstrap.servers": bootstrap, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}


def produce(bootstrap, topic):
    admin = AdminClient(settings(bootstrap))
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(DEADLINE_SECONDS)
    producer = Producer({
        **settings(bootstrap),
        "enable.idempotence": True,
        "message.timeout.ms": 300_000,
        "retry.backoff.ms": 20,
        "batch.num.messages": 50,
        "linger.ms": 2,
    })
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    sent = [0] * PARTITIONS
    acknowledged = [0] * PARTITIONS
    failures = []

    def told(error, message):
        if error is not None:
            failures.append(f"delivery failed: {error}")
            return
        partition, expected = message.partition(), acknowledged[message.partition()]
        # A record whose acknowledgement was lost in a crash may be acknowledged with no offset (-1).
        if message.offset() not in (-1, expected) or message.value() != b"%d" % expected:
            failures.append(f"{message.value()} acknowledged at {message.offset()}, the next was {expected}")
        acknowledged[partition] += 1

    begin = said = time.monotonic()
    while not ended.is_set() and not failures:
        now = time.monotonic()
        due = (now - begin) * RECORDS_PER_SECOND
        while sum(sent) < due and sum(sent) - sum(acknowledged) < MAX_UNACKNOWLEDGED:
            partition = sum(sent) % PARTITIONS
            producer.produce(topic, b"%d" % sent[partition], partition=partition, on_delivery=told)
            sent[partition] += 1
        begin = max(begin, now - sum(sent) / RECORDS_PER_SECOND - 1)
        producer.poll(0.002)
        if now - said > 0.02:
            print("acknowledged", *acknowledged, flush=True)
            said = now
    if producer.flush(DEADLINE_SECONDS) and not failures:
        failures.append("the rest was not acknowledged in time")
    print("acknowledged", *acknowledged, flush=True)
    return failures


def check(bootstrap, topic, acknowledged, committed):
    reader = Consumer({
        **settings(bootstrap),
        "group.id": "crash",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
    })
    ends = []
    for partition, wanted in enumerate(acknowledged):
        place = TopicPartition(topic, partition, OFFSET_BEGINNING)
        end = watermark(reader, place)
        if end < wanted:
            return [f"partition {partition} ends at {end}, but {wanted} records were acknowledged"]
        resumed = reader.committed([place], timeout=DEADLINE_SECONDS)[0].offset
        if resumed != committed[partition]:
            return [f"partition {partition}: the group is at {resumed}, but it committed {committed[partition]}"]
        reader.assign([place])
        failures = sequence_failures(reader, partition, end)
        if failures:
            return failures
        ends.append(end)
    reached = [TopicPartition(topic, partition, end) for partition, end in enumerate(ends)]
    reader.commit(offsets=reached, asynchronous=False)
    print("committed", *ends, flush=True)
    reader.close()
    return []


def sequence_failures(reader, partition, end):
    """Reads up to the end; value i belongs at offset i."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    offset = 0
    while offset < end:
        if time.monotonic() > deadline:
            return [f"partition {partition}: nothing at offset {offset}, though it ends at {end}"]
        for message in reader.consume(500, 0.1):
            if message.error():
                raise KafkaException(message.error())
            if message.offset() != offset or message.value() != b"%d" % offset:
                found = f"{message.value()} at offset {message.offset()}"
                return [f"partition {partition}: {found}, where {offset} belongs"]
            offset += 1
    return []


def watermark(reader, place):
    """The end of a partition, asked again while the node is still coming up."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return reader.get_watermark_offsets(place, timeout=5)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise


def main(arguments):
    match arguments:
        case [bootstrap, "produce", topic]:
            failures = produce(bootstrap, topic)
        case [bootstrap, "check", topic, *counts] if len(counts) == 2:
            acknowledged, committed = ([int(count) for count in some.split(",")] for some in counts)
            failures = check(bootstrap, topic, acknowledged, committed)
        case _:
            sys.exit(__doc__)
    for failure in failures:
        print("FAIL", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
