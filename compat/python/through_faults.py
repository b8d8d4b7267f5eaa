"""A producer and a group of two that go on through whatever happens to the nodes.

    through_faults.py BOOTSTRAP TOPIC

All is as librdkafka has it by default, but that the producer is idempotent, and that the group, which has the topic's name,
begins at the start.

Every now and then it prints how many records were acknowledged and read, and how many wait to be acknowledged,
`at ACKNOWLEDGED READ WAITING`. A line on its standard input begins a new time; it answers with the longest that a partition
went without an acknowledgement, and without being read, in the time that ends: `gaps MS MS`. When its standard input ends it sends no more, waits until all is read, and looks
at what each partition holds. Each complaint is a line `FAIL why`.
"""

import os
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
RECORDS_PER_SECOND = 1_200
REPORT_SECONDS = 0.05
DEADLINE_SECONDS = 60

failures = []
saying = threading.Lock()


class Progress:
    """What became of the records of each partition: value i belongs at offset i, and comes after i - 1."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = [0] * PARTITIONS
        self.longest = 0
        self.start()

    def next(self, partition, value):
        """Whether that is the next."""
        with self.lock:
            now = time.monotonic()
            self.longest = max(self.longest, now - self.last[partition])
            self.last[partition] = now
            expected = self.counts[partition]
            self.counts[partition] = max(expected, value + 1)
            return value == expected

    def begin(self):
        """Begins a new time, and answers the longest gap of the last in milliseconds."""
        with self.lock:
            now = time.monotonic()
            longest = max(self.longest, now - min(self.last))
            self.longest = 0
            return round(longest * 1_000)

    def start(self):
        """Nothing is missed before."""
        self.last = [time.monotonic()] * PARTITIONS

    def total(self):
        return sum(self.counts)


sent = [0] * PARTITIONS
acknowledged, read = Progress(), Progress()


def say(*words):
    # Two threads speak, and print writes word by word.
    with saying:
        print(*words, flush=True)


def say_progress():
    done = acknowledged.total()
    say("at", done, read.total(), sum(sent) - done)


def complain(of, error):
    """librdkafka goes on by itself after all that is not fatal, and says so; before anything was read a broker may not have
    heard of the new topic."""
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and read.total() == 0:
        return
    if error.fatal() or not error.retriable():
        failures.append(f"{of}: {error}")


def noted(error):
    """Of connections that come and go."""
    print("told:", error, file=sys.stderr)
    if error.fatal():
        failures.append(f"fatal: {error}")


def listen(ended):
    for _ in sys.stdin:
        say("gaps", acknowledged.begin(), read.begin())
    ended.set()


def produce(bootstrap, topic, ended):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "error_cb": noted})

    def told(error, message):
        partition, value = message.partition(), int(message.value())
        if error is not None:
            failures.append(f"record {value} of partition {partition} was not sent: {error}")
        elif not acknowledged.next(partition, value) or message.offset() not in (-1, value):
            failures.append(f"record {value} of partition {partition} was acknowledged at {message.offset()}")

    begin = said = time.monotonic()
    while not ended.is_set() and not failures:
        now = time.monotonic()
        while sum(sent) < (now - begin) * RECORDS_PER_SECOND:
            partition = sum(sent) % PARTITIONS
            try:
                producer.produce(topic, b"%d" % sent[partition], partition=partition, on_delivery=told)
            except BufferError:
                break
            sent[partition] += 1
        producer.poll(0.002)
        if now - said > REPORT_SECONDS:
            said = now
            say_progress()
    producer.flush(DEADLINE_SECONDS)
    if sent != acknowledged.counts:
        failures.append(f"sent {sent}, acknowledged {acknowledged.counts}")


def consume(bootstrap, topic, left):
    member = Consumer({
        "bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest", "error_cb": noted
    })
    member.subscribe([topic])
    while not left.is_set():
        message = member.poll(0.1)
        if message is None:
            continue
        if message.error():
            complain("a member", message.error())
            continue
        partition, offset = message.partition(), message.offset()
        wanted = read.counts[partition]
        if not read.next(partition, offset):
            failures.append(f"the group read offset {offset} of partition {partition} where {wanted} was the next")
    member.close()


def wait(what, holds):
    end = time.monotonic() + DEADLINE_SECONDS
    while not holds() and not failures:
        if time.monotonic() > end:
            failures.append(f"waited {DEADLINE_SECONDS} s for: {what}")
        time.sleep(0.05)


def verify(bootstrap, topic):
    """Every partition holds value i at offset i, and nothing else."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    places = [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)]
    for place in places:
        end = reader.get_watermark_offsets(place, timeout=DEADLINE_SECONDS)[1]
        if end != acknowledged.counts[place.partition]:
            failures.append(f"{place} ends at {end}, acknowledged were {acknowledged.counts}")
    reader.assign(places)
    found = [0] * PARTITIONS

    def all_of_it():
        for message in reader.consume(1_000, 0.1):
            if message.error():
                raise KafkaException(message.error())
            wanted = found[message.partition()]
            if message.offset() != wanted or message.value() != b"%d" % wanted:
                failures.append(f"{message.value()} at {message.offset()} of {message.partition()}, not {wanted}")
            found[message.partition()] += 1
        return found == acknowledged.counts

    wait("all records to be there", all_of_it)
    reader.close()


def main(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(DEADLINE_SECONDS)
    ended, left = threading.Event(), threading.Event()
    members = [threading.Thread(target=consume, args=[bootstrap, topic, left]) for _ in range(2)]
    for member in members:
        member.start()
    acknowledged.start()
    read.start()
    threading.Thread(target=listen, args=[ended], daemon=True).start()
    produce(bootstrap, topic, ended)
    say_progress()
    wait("the group to read all", lambda: read.total() >= acknowledged.total())
    left.set()
    for member in members:
        member.join()
    say_progress()
    if not failures:
        verify(bootstrap, topic)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        failures.append(repr(error))
    for failure in failures:
        say("FAIL", failure.replace("\n", " "))
    os._exit(1 if failures else 0)
