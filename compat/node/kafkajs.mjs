// The scenarios through kafkajs.

import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { bytes, chunks, drive, END, refusal, START, text, TOPIC_ALREADY_EXISTS } from './driver.mjs'

const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = snappy

// Sources of configuration values, as DescribeConfigs numbers them.
const DYNAMIC_TOPIC_CONFIG = 1
const DYNAMIC_BROKER_CONFIG = 2

function codeOf(error) {
  const inner = error.cause ?? error.errors?.[0] ?? error.groups?.[0]?.error ?? error.partitions?.[0]?.error
  return (inner && codeOf(inner)) || (Number.isInteger(error.code) ? error.code : 0)
}

function open(bootstrap, emit) {
  const settings = { brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 8 } }
  const kafka = new Kafka(settings)
  const admin = kafka.admin()
  const connected = admin.connect()
  const asked = call => async (...given) => (await connected, call(...given))

  // One that failed is not left half open.
  async function begin(consumer, subscription) {
    try {
      await consumer.connect()
      await consumer.subscribe(subscription)
    } catch (error) {
      await consumer.disconnect()
      throw error
    }
  }

  async function consume(consumer, { stream, topic }, wanted = () => true) {
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (wanted(partition, Number(message.offset))) {
          emit(stream, 'record', recordOf(partition, message))
        }
      },
    })
  }

  return {
    async produce({ topic, how, records }) {
      const producer = kafka.producer({ idempotent: how.idempotent, allowAutoTopicCreation: false })
      await producer.connect()
      try {
        const offsets = []
        // One partition in each call: if one moves to a broker that has answered for another, it is never sent to.
        const partitions = [...new Set(records.map(({ partition }) => partition))]
        const apart = partitions.map(partition => records.filter(record => record.partition === partition))
        for (const chunk of apart.flatMap(records => chunks(records, how.smallBatches ? 10 : 1_000))) {
          const [sent] = await producer.send({
            topic,
            acks: -1,
            compression: CompressionTypes[{ gzip: 'GZIP', snappy: 'Snappy' }[how.codec] ?? 'None'],
            messages: chunk.map(messageOf),
          })
          chunk.forEach((_, i) => offsets.push(Number(sent.baseOffset) + i))
        }
        return offsets
      } finally {
        await producer.disconnect()
      }
    },

    // There is no reading without a group; a group of its own commits nothing.
    async read({ stream, topic, partition, from }) {
      const consumer = kafka.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 })
      await begin(consumer, { topic, fromBeginning: from !== END })
      // When its coordinator moves it joins anew, and begins anew.
      let next = 0
      const isNew = (mine, offset) => mine === partition && offset >= next && (next = offset + 1)
      await consume(consumer, { stream, topic }, isNew)
      if (from >= 0) {
        consumer.seek({ topic, partition, offset: String(from) })
      }
      return { close: () => consumer.disconnect() }
    },

    async join({ stream, topic, group, clientId, session, heartbeat }) {
      const consumer = new Kafka({ ...settings, clientId: clientId || 'kafkajs' }).consumer({
        groupId: group,
        sessionTimeout: session,
        heartbeatInterval: heartbeat,
        rebalanceTimeout: session,
        maxWaitTimeInMs: 100,
      })
      let owned = []
      const lose = () => {
        emit(stream, 'revoked', owned)
        owned = []
      }
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        lose()
        owned = payload.memberAssignment[topic] ?? []
        emit(stream, 'assigned', owned)
      })
      consumer.on(consumer.events.REBALANCING, lose)
      consumer.on(consumer.events.CRASH, ({ payload }) => emit(stream, 'failed', payload.error))
      await begin(consumer, { topic, fromBeginning: true })
      await consume(consumer, { stream, topic })
      return { consumer, close: () => consumer.disconnect() }
    },

    commit({ topic, partition, offset, metadata }, { consumer }) {
      return consumer.commitOffsets([{ topic, partition, offset: String(offset), metadata }])
    },

    createTopic: asked(async ({ topic, partitions, configs }) => {
      const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
      const wanted = { topic, numPartitions: partitions, replicationFactor: -1, configEntries }
      if (!(await admin.createTopics({ topics: [wanted], waitForLeaders: false }))) {
        throw refusal('the topic exists', TOPIC_ALREADY_EXISTS)
      }
    }),
    createPartitions: asked(async ({ topic, total }) => {
      await admin.createPartitions({ topicPartitions: [{ topic, count: total }] })
    }),
    deleteTopic: asked(({ topic }) => admin.deleteTopics({ topics: [topic] })),
    leaders: asked(async ({ topic }) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return topics[0].partitions.map(({ leader }) => leader)
    }),

    offset: asked(async ({ topic, partition, at }) => {
      const [ends] = (await admin.fetchTopicOffsets(topic)).filter(found => found.partition === partition)
      if (at < 0) {
        return Number(at === START ? ends.low : ends.high)
      }
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, at)
      const { offset } = found.find(found => found.partition === partition)
      // It answers with the end where there is none.
      return offset === ends.high ? -1 : Number(offset)
    }),
    deleteRecords: asked(async ({ topic, partition, before }) => {
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
      return Number((await admin.fetchTopicOffsets(topic)).find(found => found.partition === partition).low)
    }),

    groups: asked(async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId)),
    describeGroup: asked(async ({ group }) => {
      const [found] = (await admin.describeGroups([group])).groups
      const members = found.members.map(member => ({
        clientId: member.clientId,
        partitions: Object.values(AssignerProtocol.MemberAssignment.decode(member.memberAssignment).assignment).flat(),
      }))
      return { state: found.state, strategy: '', members }
    }),
    deleteGroup: asked(async ({ group }) => void (await admin.deleteGroups([group]))),
    committed: asked(async ({ group, topic, partition }) => {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      const found = partitions.find(found => found.partition === partition)
      return { offset: Number(found.offset), metadata: found.metadata }
    }),

    describeConfigs: asked(async ({ kind, name }) => {
      const type = ConfigResourceTypes[kind.toUpperCase()]
      return configsOf(await admin.describeConfigs({ resources: [{ type, name }], includeSynonyms: false }))
    }),
    // It only knows how to set all keys of a resource at once.
    alterConfig: asked(async ({ kind, name, key, value }) => {
      const resource = { type: ConfigResourceTypes[kind.toUpperCase()], name }
      const described = await admin.describeConfigs({ resources: [resource], includeSynonyms: false })
      const own = kind === 'topic' ? DYNAMIC_TOPIC_CONFIG : DYNAMIC_BROKER_CONFIG
      const set = new Map(
        Object.entries(configsOf(described))
          .filter(([, { source }]) => source === own)
          .map(([name, { value }]) => [name, value])
      )
      value === null ? set.delete(key) : set.set(key, value)
      const configEntries = [...set].map(([name, value]) => ({ name, value }))
      await admin.alterConfigs({ resources: [{ ...resource, configEntries }], validateOnly: false })
    }),
    describeCluster: asked(async () => {
      const { brokers, controller, clusterId } = await admin.describeCluster()
      return { id: clusterId, brokers: brokers.map(({ nodeId }) => nodeId), controller }
    }),
  }
}

function messageOf({ partition, key, value, headers, timestamp }) {
  const all = {}
  for (const header of headers ?? []) {
    all[header.key] = header.key in all ? [all[header.key], bytes(header.value)].flat() : bytes(header.value)
  }
  const when = timestamp ? { timestamp: String(timestamp) } : {}
  return { partition, key: bytes(key), value: bytes(value), headers: all, ...when }
}

function recordOf(partition, { offset, key, value, headers, timestamp }) {
  return {
    partition,
    offset: Number(offset),
    key: text(key),
    value: text(value),
    headers: Object.entries(headers ?? {}).flatMap(([key, value]) =>
      [value].flat().map(value => ({ key, value: text(value) }))
    ),
    timestamp: Number(timestamp),
  }
}

function configsOf({ resources }) {
  return Object.fromEntries(
    resources[0].configEntries.map(entry => [
      entry.configName,
      { value: entry.configValue ?? '', source: entry.configSource ?? 0, readOnly: entry.readOnly },
    ])
  )
}

drive({
  lacks: {
    scenarios: [
      'produce-lz4', 'produce-zstd', 'cooperative-rebalance', 'static-membership', 'update-features',
      'delete-group-offsets', 'client-quotas',
    ],
    maxTimestamp: true,
    nullHeader: true,
    strategy: true,
    allBrokers: true,
  },
  codeOf,
  open,
})
