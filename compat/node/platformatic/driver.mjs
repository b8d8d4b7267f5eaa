// The scenarios through Platformatic's client for Node.

import { randomUUID } from 'node:crypto'
import {
  Admin, apiVersionsV4, ConfigResourceTypes, Connection, Consumer, consumerHeartbeatChannel, cooperativeStickyAssigner,
  Producer, roundRobinAssigner, updateFeaturesV1,
} from '@platformatic/kafka'
import { bytes, chunks, drive, END, refusal, text } from '../driver.mjs'

const SET = 0
const DELETE = 1
const UNKNOWN_TOPIC_OR_PARTITION = 3
const KILLED = process.env.BROKERS > 1

function codeOf(error) {
  if (error.apiCode > 0 || Number.isInteger(error.code)) {
    return error.apiCode || error.code
  }
  for (const inner of [error.cause, ...(error.errors ?? [])]) {
    const code = inner && codeOf(inner)
    if (code) {
      return code
    }
  }
  return 0
}

function open(bootstrap, emit) {
  // Three tries are over before another leads.
  const retries = KILLED ? 100 : 3
  const settings = { clientId: 'platformatic', bootstrapBrokers: bootstrap.split(','), retries, retryDelay: 100 }
  const admin = new Admin({ ...settings, metadataMaxAge: 0 })

  // A stream ends for good when the broker that it fetches from is not in the metadata any more: who wants to read on
  // begins another one. Until then the consumer knows no topic, and is assigned none.
  async function deliver(begin, { stream }, isWanted = () => true) {
    const reading = { closed: false, close: () => ((reading.closed = true), reading.messages.close()) }
    async function start() {
      reading.messages = await begin()
      reading.messages.on('data', message => isWanted(message) && emit(stream, 'record', recordOf(message)))
      reading.messages.on('error', error => {
        emit(stream, 'failed', error)
        goOn()
      })
    }
    function goOn() {
      if (KILLED && !reading.closed) {
        setTimeout(() => reading.closed || start().catch(goOn), settings.retryDelay)
      }
    }
    await start()
    return reading
  }

  async function connected(ask) {
    const { brokers } = await admin.metadata({ topics: [], forceUpdate: true })
    const connection = new Connection('platformatic')
    const { host, port } = brokers.values().next().value
    await connection.connect(host, port)
    try {
      return await ask(connection)
    } finally {
      await connection.close()
    }
  }

  return {
    async produce({ topic, how, records }) {
      const producer = new Producer({ ...settings, idempotent: how.idempotent, compression: how.codec || 'none' })
      try {
        const offsets = []
        for (const chunk of chunks(records, how.smallBatches ? 10 : 1_000)) {
          const sent = await producer.send({ acks: -1, messages: chunk.map(record => messageOf(topic, record)) })
          chunk.forEach((_, i) => offsets.push(Number(sent.offsets[0].offset) + i))
        }
        return offsets
      } finally {
        await producer.close()
      }
    },

    // There is no reading without a group; a group of its own commits nothing.
    async read({ stream, topic, partition, from }) {
      const consumer = new Consumer({ ...settings, groupId: randomUUID(), maxWaitTime: 100, autocommit: false })
      let next = from
      const begin = () => {
        const offsets = [{ topic, partition, offset: BigInt(next) }]
        const at = next >= 0 ? { mode: 'manual', offsets, fallbackMode: 'earliest' } : { mode: next === END ? 'latest' : 'earliest' }
        return consumer.consume({ topics: [topic], ...at })
      }
      const isWanted = message => message.partition === partition && (next = Number(message.offset) + 1)
      const reading = await deliver(begin, { stream }, isWanted)
      return { close: () => ((reading.closed = true), consumer.close(true)) }
    },

    async join({ stream, topic, group, strategy, clientId, instance, session, heartbeat }) {
      const bySteps = strategy === 'cooperative-sticky'
      const consumer = new Consumer({
        ...settings,
        ...(clientId ? { clientId } : {}),
        ...(instance ? { groupInstanceId: instance } : {}),
        groupId: group,
        sessionTimeout: session,
        rebalanceTimeout: session,
        heartbeatInterval: heartbeat,
        maxWaitTime: 100,
        autocommit: false,
        protocols: [{ name: bySteps ? strategy : 'roundrobin', version: 1 }],
        partitionAssigner: bySteps ? cooperativeStickyAssigner : roundRobinAssigner,
      })
      let owned = []
      const now = assignments => {
        const next = (assignments ?? []).find(mine => mine.topic === topic)?.partitions ?? []
        const kept = bySteps ? owned.filter(partition => next.includes(partition)) : []
        emit(stream, 'revoked', owned.filter(partition => !kept.includes(partition)))
        emit(stream, 'assigned', next.filter(partition => !kept.includes(partition)))
        owned = next
      }
      consumer.on('consumer:group:join', () => now(consumer.assignments))
      consumer.on('consumer:group:leave', () => now([]))
      // Of a member that must join anew, as one that was fenced, nothing else tells: it does so by itself.
      const heard = ({ client, error }) => client === consumer && emit(stream, 'failed', error)
      consumerHeartbeatChannel.error.subscribe(heard)
      consumer.on('error', error => emit(stream, 'failed', error))
      const begin = () => consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
      const reading = await deliver(begin, { stream })
      async function close() {
        reading.closed = true
        consumerHeartbeatChannel.error.unsubscribe(heard)
        if (instance) {
          // It would leave; a static member lets its session go on.
          await reading.close()
          consumer.memberId = null
        }
        await consumer.close(true)
      }
      return { consumer, close }
    },

    commit({ topic, partition, offset }, { consumer }) {
      return consumer.commit({ offsets: [{ topic, partition, offset: BigInt(offset), leaderEpoch: -1 }] })
    },

    async createTopic({ topic, partitions, configs }) {
      const all = Object.entries(configs).map(([name, value]) => ({ name, value }))
      await admin.createTopics({ topics: [topic], partitions, replicas: -1, configs: all })
    },
    async createPartitions({ topic, total }) {
      await admin.createPartitions({ topics: [{ name: topic, count: total, assignments: null }] })
    },
    async deleteTopic({ topic }) {
      await admin.deleteTopics({ topics: [topic] })
    },
    async leaders({ topic }) {
      const metadata = await admin.metadata({ topics: [topic], forceUpdate: true, autocreateTopics: false }).catch(error => {
        // What the node refuses, the library says in its own words.
        throw /unknown topic/i.test(error.message) ? refusal(error.message, UNKNOWN_TOPIC_OR_PARTITION) : error
      })
      return metadata.topics.get(topic).partitions.map(({ leader }) => leader)
    },
    async offset({ topic, partition, at }) {
      const partitions = [{ partitionIndex: partition, timestamp: BigInt(at) }]
      const [found] = await admin.listOffsets({ topics: [{ name: topic, partitions }] })
      return Number(found.partitions[0].offset)
    },
    async deleteRecords({ topic, partition, before }) {
      const partitions = [{ partition, offset: BigInt(before) }]
      const [deleted] = await admin.deleteRecords({ topics: [{ name: topic, partitions }] })
      return Number(deleted.partitions[0].lowWatermark)
    },

    groups: async () => [...(await admin.listGroups()).keys()],
    async describeGroup({ group }) {
      const found = (await admin.describeGroups({ groups: [group] })).get(group)
      const members = [...found.members.values()].map(member => ({
        clientId: member.clientId,
        partitions: [...(member.assignments ?? new Map()).values()].flatMap(({ partitions }) => partitions),
      }))
      const state = found.state[0] + found.state.slice(1).toLowerCase()
      return { state, strategy: '', members }
    },
    async deleteGroup({ group }) {
      await admin.deleteGroups({ groups: [group] })
    },
    async deleteOffset({ group, topic, partition }) {
      await admin.deleteConsumerGroupOffsets({ groupId: group, topics: [{ name: topic, partitionIndexes: [partition] }] })
    },
    async committed({ group, topic, partition }) {
      const asked = { groupId: group, topics: [{ name: topic, partitionIndexes: [partition] }] }
      const [{ topics }] = await admin.listConsumerGroupOffsets({ groups: [asked] })
      const found = topics[0].partitions[0]
      return { offset: Number(found.committedOffset), metadata: found.metadata }
    },

    async describeConfigs({ kind, name }) {
      const resourceType = ConfigResourceTypes[kind.toUpperCase()]
      const asked = { resourceType, resourceName: name, configurationKeys: null }
      const [found] = await admin.describeConfigs({ resources: [asked] })
      return Object.fromEntries(
        found.configs.map(({ name, value, configSource, readOnly }) => {
          return [name, { value: value ?? '', source: configSource, readOnly }]
        })
      )
    },
    async alterConfig({ kind, name, key, value }) {
      const config = value === null ? { name: key, configOperation: DELETE } : { name: key, configOperation: SET, value }
      const resource = { resourceType: ConfigResourceTypes[kind.toUpperCase()], resourceName: name, configs: [config] }
      await admin.incrementalAlterConfigs({ resources: [resource] })
    },
    async describeCluster() {
      const { id, brokers, controllerId } = await admin.metadata({ topics: [], forceUpdate: true })
      return { id, brokers: [...brokers.keys()], controller: controllerId }
    },

    // The library has these two as messages only, which go over a connection of one's own.
    features: () => connected(async connection => {
      const { supportedFeatures, finalizedFeatures } = await apiVersionsV4.api.async(connection, 'platformatic', '1')
      const levels = new Map(finalizedFeatures.map(({ name, maxVersionLevel }) => [name, maxVersionLevel]))
      return Object.fromEntries(
        supportedFeatures.map(({ name, maxVersion }) => [name, { level: levels.get(name) ?? 0, newest: maxVersion }])
      )
    }),
    updateFeature: ({ feature, level }) => connected(async connection => {
      const update = { feature, maxVersionLevel: level, upgradeType: 1 }
      await updateFeaturesV1.api.async(connection, 30_000, [update], false)
    }),
  }
}

function messageOf(topic, { partition, key, value, headers, timestamp }) {
  const all = new Map((headers ?? []).map(header => [Buffer.from(header.key), bytes(header.value)]))
  const when = timestamp ? { timestamp: BigInt(timestamp) } : {}
  return { topic, partition, key: bytes(key) ?? undefined, value: bytes(value) ?? undefined, headers: all, ...when }
}

function recordOf({ partition, offset, key, value, headerEntries, timestamp }) {
  const headers = headerEntries.map(([key, value]) => ({ key: String(key), value: text(value) }))
  return { partition, offset: Number(offset), key: text(key), value: text(value), headers, timestamp: Number(timestamp) }
}

drive({
  lacks: { scenarios: ['client-quotas'], metadata: true, strategy: true, allBrokers: true },
  codeOf,
  open,
})
