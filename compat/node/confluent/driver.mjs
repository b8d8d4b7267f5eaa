// The scenarios through Confluent's client for Node, which is librdkafka.

import { randomUUID } from 'node:crypto'
import confluent from '@confluentinc/kafka-javascript'
import { bytes, drive, refusal, START, text } from '../driver.mjs'

const { CODES, KafkaConsumer, KafkaJS, Producer } = confluent
const { ERR__ASSIGN_PARTITIONS, ERR__REVOKE_PARTITIONS } = CODES.ERRORS
const TIMEOUT = 30_000

function codeOf(error) {
  const inner = error.cause ?? error.errors?.[0] ?? error.groups?.[0]?.error ?? error.partitions?.[0]?.error
  return (inner && codeOf(inner)) || (error.code > 0 ? error.code : 0)
}

const promised = ask => new Promise((done, failed) => ask((error, value) => (error ? failed(error) : done(value))))
const connect = client => promised(told => client.connect({}, told))
const disconnect = client => promised(told => client.disconnect(told))

function open(bootstrap, emit) {
  const settings = { 'bootstrap.servers': bootstrap }
  const admin = new KafkaJS.Kafka({ kafkaJS: { brokers: bootstrap.split(',') } }).admin()
  const connected = admin.connect()
  const asked = call => async (...given) => (await connected, call(...given))

  function consume(consumer, stream) {
    consumer.on('data', message => emit(stream, 'record', recordOf(message)))
    consumer.on('event.error', error => emit(stream, 'failed', error))
    consumer.consume()
  }

  return {
    async produce({ topic, how, records }) {
      const producer = new Producer({
        ...settings,
        dr_cb: true,
        'enable.idempotence': how.idempotent,
        'compression.type': how.codec || 'none',
        'message.timeout.ms': TIMEOUT,
        ...(how.smallBatches ? { 'batch.num.messages': 10 } : {}),
        ...(how.large ? { 'message.max.bytes': 2 << 20 } : {}),
      })
      await connect(producer)
      producer.setPollInterval(10)
      try {
        return await new Promise((done, failed) => {
          const offsets = []
          let answers = 0
          producer.on('delivery-report', (error, report) => {
            if (error) {
              failed(error)
            }
            offsets[report.opaque] = report.offset
            if (++answers === records.length) {
              done(offsets)
            }
          })
          records.forEach(({ partition, key, value, headers, timestamp }, i) => {
            const all = (headers ?? []).map(header => ({ [header.key]: bytes(header.value) }))
            producer.produce(topic, partition, bytes(value), bytes(key), timestamp || null, i, all)
          })
        })
      } finally {
        await disconnect(producer)
      }
    },

    async read({ stream, topic, partition, from }) {
      const consumer = new KafkaConsumer(
        { ...settings, 'group.id': randomUUID(), 'enable.auto.commit': false, 'fetch.wait.max.ms': 100 },
        { 'auto.offset.reset': 'earliest' }
      )
      await connect(consumer)
      consumer.assign([{ topic, partition, offset: from }])
      consume(consumer, stream)
      return { close: () => disconnect(consumer) }
    },

    async join({ stream, topic, group, strategy, clientId, instance, session, heartbeat }) {
      const consumer = new KafkaConsumer(
        {
          ...settings,
          'group.id': group,
          'enable.auto.commit': false,
          'partition.assignment.strategy': strategy,
          'session.timeout.ms': session,
          'heartbeat.interval.ms': heartbeat,
          ...(clientId ? { 'client.id': clientId } : {}),
          ...(instance ? { 'group.instance.id': instance } : {}),
          rebalance_cb(error, places) {
            const partitions = places.map(({ partition }) => partition)
            const bySteps = consumer.rebalanceProtocol() === 'COOPERATIVE'
            if (error.code === ERR__ASSIGN_PARTITIONS) {
              bySteps ? consumer.incrementalAssign(places) : consumer.assign(places)
              emit(stream, 'assigned', partitions)
            } else if (error.code === ERR__REVOKE_PARTITIONS) {
              bySteps ? consumer.incrementalUnassign(places) : consumer.unassign()
              emit(stream, 'revoked', partitions)
            } else {
              emit(stream, 'failed', error)
            }
          },
        },
        { 'auto.offset.reset': 'earliest' }
      )
      await connect(consumer)
      consumer.subscribe([topic])
      consume(consumer, stream)
      return { consumer, close: () => disconnect(consumer) }
    },

    commit({ topic, partition, offset, metadata }, { consumer }) {
      consumer.commitSync([{ topic, partition, offset, metadata }])
    },

    createTopic: asked(async ({ topic, partitions, configs }) => {
      const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
      const wanted = { topic, numPartitions: partitions, replicationFactor: -1, configEntries }
      if (!(await admin.createTopics({ topics: [wanted] }))) {
        throw refusal('the topic exists', CODES.ERRORS.ERR_TOPIC_ALREADY_EXISTS)
      }
    }),
    deleteTopic: asked(({ topic }) => admin.deleteTopics({ topics: [topic] })),
    leaders: asked(async ({ topic }) => {
      const [found] = await admin.fetchTopicMetadata({ topics: [topic] }).then(found => found.topics ?? found)
      return found.partitions.map(({ leader, leaderNode }) => leader ?? leaderNode.id)
    }),

    offset: asked(async ({ topic, partition, at }) => {
      const mine = found => found.partition === partition
      const ends = (await admin.fetchTopicOffsets(topic)).find(mine)
      if (at < 0) {
        const end = Number(at === START ? ends.low : ends.high)
        if (end < 0) {
          throw refusal('the leader did not say', CODES.ERRORS.ERR_LEADER_NOT_AVAILABLE)
        }
        return end
      }
      const { offset } = (await admin.fetchTopicOffsetsByTimestamp(topic, at)).find(mine)
      // It answers with the end where there is none.
      return offset === ends.high ? -1 : Number(offset)
    }),
    deleteRecords: asked(async ({ topic, partition, before }) => {
      const partitions = [{ partition, offset: String(before) }]
      const [deleted] = await admin.deleteTopicRecords({ topic, partitions })
      return Number(deleted.lowWatermark)
    }),

    groups: asked(async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId)),
    describeGroup: asked(async ({ group }) => {
      const [found] = (await admin.describeGroups([group])).groups
      const members = found.members.map(member => ({
        clientId: member.clientId,
        partitions: member.assignment.topicPartitions.map(({ partition }) => partition),
      }))
      const states = Object.entries(KafkaJS.ConsumerGroupStates)
      const [state] = states.find(([, number]) => number === found.state)
      return { state: state[0] + state.slice(1).toLowerCase(), strategy: found.partitionAssignor, members }
    }),
    deleteGroup: asked(async ({ group }) => void (await admin.deleteGroups([group]))),
    committed: asked(async ({ group, topic, partition }) => {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      const found = partitions.find(found => found.partition === partition)
      return { offset: Number(found.offset), metadata: found.metadata ?? '' }
    }),
  }
}

function recordOf({ partition, offset, key, value, headers, timestamp }) {
  return {
    partition,
    offset,
    key: text(key),
    value: text(value),
    headers: (headers ?? []).flatMap(header =>
      Object.entries(header).map(([key, value]) => ({ key, value: text(value) }))
    ),
    timestamp,
  }
}

drive({
  lacks: {
    scenarios: [
      'describe-and-alter-configs', 'alter-broker-config', 'update-features', 'create-partitions', 'describe-cluster',
      'delete-group-offsets', 'client-quotas',
    ],
    maxTimestamp: true,
    nullHeader: true,
    empty: true,
  },
  codeOf,
  open,
})
