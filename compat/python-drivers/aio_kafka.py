"""The scenarios through aiokafka."""

import asyncio
import os
import sys
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import DeleteGroupsRequest
from driver import DEADLINE_SECONDS, END, POLL_MS, START, Teller, drive, membership, producing, sent_as

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}
BROKERS = int(os.environ.get("BROKERS", "1"))
# The sources of values that were set while the broker runs, as DescribeConfigs numbers them.
DYNAMIC = {"topic": 1, "broker": 2}


class Stream(Teller, ConsumerRebalanceListener):
    """A consumer and the task that reads from it."""

    def __init__(self, number, **settings):
        super().__init__(number)
        self.consumer = AIOKafkaConsumer(
            enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100, **settings
        )

    def begin(self):
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        while True:
            try:
                polled = await self.consumer.getmany(timeout_ms=POLL_MS)
            except errors.ConsumerStoppedError:
                return
            except Exception as error:
                self.tell_failed(error)
                continue
            self.tell_records(polled)

    async def close(self):
        await self.consumer.stop()
        await self.reading


class Client:
    def __init__(self, bootstrap):
        self.settings = {"bootstrap_servers": bootstrap}
        self.streams = {}

    async def start(self):
        self.admin = AIOKafkaAdminClient(**self.settings)
        self.looker = AIOKafkaConsumer(**self.settings)
        await self.admin.start()
        await self.looker.start()

    async def produce(self, topic, how, records):
        producer = AIOKafkaProducer(
            **self.settings,
            **producing(how),
            max_batch_size=512 if how["smallBatches"] else 16_384,
        )
        await producer.start()
        try:
            sent = [await producer.send(topic, **sent_as(record)) for record in records]
            return [acknowledged.offset for acknowledged in await asyncio.gather(*sent)]
        finally:
            await producer.stop()

    async def read(self, stream, topic, partition, **at):
        place = TopicPartition(topic, partition)
        reader = Stream(stream, **self.settings)
        reader.consumer.assign([place])
        await reader.consumer.start()
        if at["from"] >= 0:
            reader.consumer.seek(place, at["from"])
        elif at["from"] == START:
            await reader.consumer.seek_to_beginning(place)
        else:
            await reader.consumer.seek_to_end(place)
        reader.begin()
        self.streams[stream] = reader

    async def join(self, stream, topic, strategy, **asked):
        member = Stream(
            stream,
            **self.settings,
            **membership(**asked),
            partition_assignment_strategy=[ASSIGNORS[strategy]],
        )
        member.consumer.subscribe([topic], listener=member)
        await member.consumer.start()
        member.begin()
        self.streams[stream] = member

    async def commit(self, stream, topic, partition, offset, metadata):
        await self.streams[stream].consumer.commit({TopicPartition(topic, partition): (offset, metadata)})

    async def close(self, stream):
        await self.streams.pop(stream).close()

    async def createTopic(self, topic, partitions, configs):
        # It knows no default.
        created = await self.admin.create_topics([NewTopic(topic, partitions, BROKERS, topic_configs=configs)])
        refuse(created.topic_errors[0][1])

    async def createPartitions(self, topic, total):
        await self.admin.create_partitions({topic: NewPartitions(total)})

    async def deleteTopic(self, topic):
        deleted = await self.admin.delete_topics([topic])
        refuse(deleted.topic_error_codes[0][1])

    async def leaders(self, topic):
        # Asked of all, for asking for one creates it.
        for found in await self.admin.describe_topics():
            if found["topic"] == topic:
                refuse(found["error_code"])
                return [partition["leader"] for partition in sorted(found["partitions"], key=number_of)]
        raise errors.UnknownTopicOrPartitionError(topic)

    async def offset(self, topic, partition, at):
        place = TopicPartition(topic, partition)
        if at == START:
            return (await self.looker.beginning_offsets([place]))[place]
        if at == END:
            return (await self.looker.end_offsets([place]))[place]
        found = (await self.looker.offsets_for_times({place: at}))[place]
        return -1 if found is None else found.offset

    async def deleteRecords(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return (await self.admin.delete_records({place: RecordsToDelete(before)}))[place]

    async def groups(self):
        return [group for group, *_ in await self.admin.list_consumer_groups()]

    async def describeGroup(self, group):
        [answer] = await self.admin.describe_consumer_groups([group])
        code, _, state, _, strategy, members, *_ = answer.groups[0]
        refuse(code)
        return {"state": state, "strategy": strategy, "members": [member_of(*member) for member in members]}

    async def deleteGroup(self, group):
        # Its admin client has no call for it, its protocol has.
        coordinator = await self.admin.find_coordinator(group)
        answer = await self.admin._send_request(DeleteGroupsRequest([group]), coordinator)
        refuse(answer.results[0][1])

    async def committed(self, group, topic, partition):
        place = TopicPartition(topic, partition)
        found = (await self.admin.list_consumer_group_offsets(group, partitions=[place]))[place]
        return {"offset": found.offset, "metadata": found.metadata}

    async def describeConfigs(self, kind, name):
        [answer] = await self.admin.describe_configs([ConfigResource(ConfigResourceType[kind.upper()], name)])
        code, _, _, _, entries = answer.resources[0]
        refuse(code)
        return {
            key: {"value": value or "", "source": source, "readOnly": read_only}
            for key, value, read_only, source, *_ in entries
        }

    async def alterConfig(self, kind, name, key, value):
        """It only knows how to set all keys of a resource at once."""
        described = await self.describeConfigs(kind, name)
        own = {key: entry["value"] for key, entry in described.items() if entry["source"] == DYNAMIC[kind]}
        own.pop(key, None)
        if value is not None:
            own[key] = value
        answers = await self.admin.alter_configs([ConfigResource(ConfigResourceType[kind.upper()], name, own)])
        # The first is about topics, even if there are none.
        refuse(answers[-1].resources[0][0])

    async def describeCluster(self):
        cluster = await self.admin.describe_cluster()
        return {
            "id": cluster["cluster_id"],
            "brokers": [broker["node_id"] for broker in cluster["brokers"]],
            "controller": cluster["controller_id"],
        }


def number_of(partition):
    return partition["partition"]


def member_of(_member, client_id, _host, _metadata, assignment):
    assigned = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
    return {"clientId": client_id, "partitions": [place.partition for place in assigned]}


def refuse(code):
    if code:
        raise errors.for_code(code)()


def main():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def wait(task):
        return asyncio.run_coroutine_threadsafe(task, loop).result(DEADLINE_SECONDS)

    async def opened(bootstrap):
        client = Client(bootstrap)
        await client.start()
        return client

    client = wait(opened(sys.argv[1]))
    lacks = {
        "scenarios": ["cooperative-rebalance", "update-features", "delete-group-offsets", "client-quotas"],
        "allBrokers": True,
        "maxTimestamp": True,
        "nullRecord": True,
        "instance": True,
    }
    drive(lacks, lambda call, asked: wait(getattr(client, call)(**asked)))


if __name__ == "__main__":
    main()
