// The scenarios through IBM's sarama.
package main

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"ottla/compat/scenarios"
)

type client struct {
	bootstrap []string
	sarama.ClusterAdmin
	cluster sarama.Client
}

func main() {
	scenarios.Main(func(bootstrap string) (scenarios.Client, error) {
		addresses := strings.Split(bootstrap, ",")
		cluster, err := sarama.NewClient(addresses, config())
		if err != nil {
			return nil, err
		}
		admin, err := sarama.NewClusterAdminFromClient(cluster)
		return &client{addresses, admin, cluster}, err
	})
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

// A few tries are over before another leads where nodes are killed (BROKERS). The heartbeats of a member are tried without a
// pause, and then it gives up all that it owns: a coordinator that is dead refuses at once.
func patient(config *sarama.Config) {
	if os.Getenv("BROKERS") != "" {
		config.Metadata.Retry.Max, config.Producer.Retry.Max = 100, 100
		config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, unhurried{&net.Dialer{Timeout: config.Net.DialTimeout}}
	}
}

// Waits before it says that nobody is there.
type unhurried struct{ *net.Dialer }

func (u unhurried) Dial(network, address string) (net.Conn, error) {
	connection, err := u.Dialer.Dial(network, address)
	if err != nil {
		time.Sleep(50 * time.Millisecond)
	}
	return connection, err
}

// It stays with the controller that it knows, dead or alive.
func (c *client) Refresh() { _, _ = c.cluster.RefreshController() }

func (c *client) Lacks() scenarios.Lacks { return scenarios.Lacks{Reset: true, MaxTimestamp: true} }

func (c *client) Code(err error) int16 {
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) && len(failed) > 0 {
		err = failed[0].Err
	}
	var topic *sarama.TopicError
	if errors.As(err, &topic) {
		return int16(topic.Err)
	}
	var partition *sarama.TopicPartitionError
	if errors.As(err, &partition) {
		return int16(partition.Err)
	}
	var code sarama.KError
	if errors.As(err, &code) {
		return int16(code)
	}
	return 0
}

var codecs = map[string]sarama.CompressionCodec{
	"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func encoder(bytes []byte) sarama.Encoder {
	if bytes == nil {
		return nil
	}
	return sarama.ByteEncoder(bytes)
}

// Whether all of so many messages failed for that reason.
func all(err, reason error, count int) bool {
	var failed sarama.ProducerErrors
	if !errors.As(err, &failed) {
		return false
	}
	return len(failed) == count && !slices.ContainsFunc(failed, func(one *sarama.ProducerError) bool {
		return !errors.Is(one.Err, reason)
	})
}

func (c *client) Produce(
	ctx context.Context, topic string, how scenarios.Producing, records []scenarios.Record,
) ([]int64, error) {
	config := config()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	patient(config)
	config.Producer.Compression = codecs[how.Codec]
	if how.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	if how.SmallBatches {
		config.Producer.Flush.MaxMessages = 10
	}
	if how.Large {
		config.Producer.MaxMessageBytes = 2 << 20
	}
	cluster, err := sarama.NewClient(c.bootstrap, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cluster.Close() }()
	producer, err := sarama.NewSyncProducerFromClient(cluster)
	if err != nil {
		return nil, err
	}
	defer func() { _ = producer.Close() }()
	var messages []*sarama.ProducerMessage
	for _, record := range records {
		message := &sarama.ProducerMessage{
			Topic: topic, Partition: record.Partition, Timestamp: record.Timestamp,
			Key: encoder(record.Key), Value: encoder(record.Value),
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
		}
		messages = append(messages, message)
	}
	err = producer.SendMessages(messages)
	// None was sent: the library asked for the partitions once, and a broker that has just come back may not have heard of a
	// new one yet.
	for ctx.Err() == nil && os.Getenv("BROKERS") != "" && all(err, sarama.ErrInvalidPartition, len(messages)) {
		time.Sleep(50 * time.Millisecond)
		_ = cluster.RefreshMetadata(topic)
		err = producer.SendMessages(messages)
	}
	var offsets []int64
	for _, message := range messages {
		offsets = append(offsets, message.Offset)
	}
	return offsets, err
}

type reader struct {
	consumer sarama.Consumer
	sarama.PartitionConsumer
}

func (c *client) Read(
	_ context.Context, topic string, partition int32, from int64,
) (scenarios.Reader, error) {
	config := config()
	config.Consumer.Return.Errors = true
	consumer, err := sarama.NewConsumer(c.bootstrap, config)
	if err != nil {
		return nil, err
	}
	one, err := consumer.ConsumePartition(topic, partition, from)
	if err != nil {
		_ = consumer.Close()
		return nil, err
	}
	return &reader{consumer, one}, nil
}

func (r *reader) Next(ctx context.Context) (scenarios.Record, error) {
	for {
		select {
		case message := <-r.Messages():
			return recordOf(message), nil
		case err := <-r.Errors():
			// After all others it goes on by itself.
			if errors.Is(err, sarama.ErrOffsetOutOfRange) {
				return scenarios.Record{}, err
			}
		case <-ctx.Done():
			return scenarios.Record{}, ctx.Err()
		}
	}
}

func (r *reader) Close() {
	_ = r.PartitionConsumer.Close()
	_ = r.consumer.Close()
}

func recordOf(message *sarama.ConsumerMessage) scenarios.Record {
	record := scenarios.Record{
		Partition: message.Partition, Offset: message.Offset,
		Key: message.Key, Value: message.Value, Timestamp: message.Timestamp,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, scenarios.Header{Key: string(header.Key), Value: header.Value})
	}
	return record
}

// One claim after the other tells the listener, from under the lock.
type member struct {
	topic    string
	group    sarama.ConsumerGroup
	listener scenarios.Listener
	stop     context.CancelFunc
	ended    sync.WaitGroup

	lock    sync.Mutex
	session sarama.ConsumerGroupSession
}

func strategyOf(name string) sarama.BalanceStrategy {
	switch name {
	case "roundrobin":
		return sarama.NewBalanceStrategyRoundRobin()
	case "cooperative-sticky":
		return sarama.NewBalanceStrategyCooperativeSticky()
	default:
		return sarama.NewBalanceStrategyRange()
	}
}

func (c *client) Join(membership scenarios.Membership, listener scenarios.Listener) (scenarios.Member, error) {
	config := config()
	config.Consumer.Return.Errors = true
	// One connection serves all: a commit waits behind the fetch that waits at the end of the partitions.
	config.Consumer.MaxWaitTime = 20 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = membership.Session
	config.Consumer.Group.Heartbeat.Interval = membership.Heartbeat
	config.Consumer.Group.InstanceId = membership.Instance
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategyOf(membership.Strategy)}
	patient(config)
	if membership.ClientID != "" {
		config.ClientID = membership.ClientID
	}
	group, err := sarama.NewConsumerGroup(c.bootstrap, membership.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	one := &member{topic: membership.Topic, group: group, listener: listener, stop: stop}
	one.ended.Go(func() {
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{membership.Topic}, one); err != nil {
				listener.Failed(err)
			}
		}
	})
	go func() {
		for err := range group.Errors() {
			listener.Failed(err)
		}
	}()
	return one, nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.listener.Assigned([]int32{claim.Partition()})
	defer m.listener.Revoked([]int32{claim.Partition()})
	for message := range claim.Messages() {
		m.listener.Received(recordOf(message))
	}
	return nil
}

func (m *member) Commit(_ context.Context, partition int32, commit scenarios.Commit) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session.MarkOffset(m.topic, partition, commit.Offset, commit.Metadata)
	m.session.Commit()
	return nil
}

func (m *member) Leave() {
	m.stop()
	m.ended.Wait()
	_ = m.group.Close()
}

func (c *client) CreateTopic(_ context.Context, topic string, partitions int32, configs map[string]string) error {
	entries := map[string]*string{}
	for key, value := range configs {
		entries[key] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: entries}
	return c.ClusterAdmin.CreateTopic(topic, detail, false)
}

func (c *client) CreatePartitions(_ context.Context, topic string, total int32) error {
	return c.ClusterAdmin.CreatePartitions(topic, total, nil, false)
}

func (c *client) DeleteTopic(_ context.Context, topic string) error {
	return c.ClusterAdmin.DeleteTopic(topic)
}

func (c *client) Leaders(_ context.Context, topic string) ([]int32, error) {
	described, err := c.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	var leaders []int32
	for _, one := range described {
		if one.Err != sarama.ErrNoError {
			return nil, one.Err
		}
		for _, partition := range one.Partitions {
			leaders = append(leaders, partition.Leader)
		}
	}
	return leaders, nil
}

func (c *client) Offset(_ context.Context, topic string, partition int32, at int64) (int64, error) {
	asked := map[string]map[int32]int64{topic: {partition: at}}
	answers, err := c.ListOffsets(asked, nil)
	if err != nil {
		return 0, err
	}
	answer := answers[topic][partition]
	if answer.Err != nil && c.Code(answer.Err) != 0 {
		return 0, answer.Err
	}
	return answer.Offset, nil
}

// The library keeps the low watermark of the answer for itself.
func (c *client) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) (int64, error) {
	if err := c.ClusterAdmin.DeleteRecords(topic, map[int32]int64{partition: before}); err != nil {
		return 0, err
	}
	return c.Offset(ctx, topic, partition, scenarios.Start)
}

func (c *client) Groups(context.Context) ([]string, error) {
	listed, err := c.ListConsumerGroups()
	var names []string
	for name := range listed {
		names = append(names, name)
	}
	return names, err
}

func (c *client) DescribeGroup(_ context.Context, group string) (scenarios.Group, error) {
	answers, err := c.DescribeConsumerGroups([]string{group})
	if err != nil {
		return scenarios.Group{}, err
	}
	described := scenarios.Group{State: answers[0].State, Strategy: answers[0].Protocol}
	for _, member := range answers[0].Members {
		one := scenarios.GroupMember{ClientID: member.ClientId}
		if assigned, err := member.GetMemberAssignment(); err == nil && assigned != nil {
			for _, partitions := range assigned.Topics {
				one.Partitions = append(one.Partitions, partitions...)
			}
		}
		described.Members = append(described.Members, one)
	}
	return described, nil
}

func (c *client) DeleteGroup(_ context.Context, group string) error {
	return c.DeleteConsumerGroup(group)
}

func (c *client) Committed(
	_ context.Context, group, topic string, partition int32,
) (scenarios.Commit, error) {
	answer, err := c.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return scenarios.Commit{}, err
	}
	block := answer.GetBlock(topic, partition)
	return scenarios.Commit{Offset: block.Offset, Metadata: block.Metadata}, nil
}

func (c *client) DeleteOffset(_ context.Context, group, topic string, partition int32) error {
	return c.DeleteConsumerGroupOffset(group, topic, partition)
}

func kindOf(of scenarios.Resource) sarama.ConfigResourceType {
	if of.Kind == scenarios.Broker {
		return sarama.BrokerResource
	}
	return sarama.TopicResource
}

func (c *client) DescribeConfigs(_ context.Context, of scenarios.Resource) (map[string]scenarios.Config, error) {
	entries, err := c.DescribeConfig(sarama.ConfigResource{Type: kindOf(of), Name: of.Name})
	configs := map[string]scenarios.Config{}
	for _, entry := range entries {
		configs[entry.Name] = scenarios.Config{Value: entry.Value, Source: int8(entry.Source), ReadOnly: entry.ReadOnly}
	}
	return configs, err
}

func (c *client) AlterConfig(_ context.Context, of scenarios.Resource, key string, value *string) error {
	change := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value}
	if value == nil {
		change.Operation = sarama.IncrementalAlterConfigsOperationDelete
	}
	changes := map[string]sarama.IncrementalAlterConfigsEntry{key: change}
	return c.IncrementalAlterConfig(kindOf(of), of.Name, changes, false)
}

// The cluster's id is in no answer of the library but this one.
func (c *client) DescribeCluster(context.Context) (scenarios.Cluster, error) {
	controller, err := c.cluster.Controller()
	if err != nil {
		return scenarios.Cluster{}, err
	}
	metadata, err := controller.GetMetadata(sarama.NewMetadataRequest(sarama.MaxVersion, nil))
	if err != nil {
		return scenarios.Cluster{}, err
	}
	cluster := scenarios.Cluster{Controller: controller.ID()}
	if metadata.ClusterID != nil {
		cluster.ID = *metadata.ClusterID
	}
	for _, broker := range metadata.Brokers {
		cluster.Brokers = append(cluster.Brokers, broker.ID())
	}
	slices.Sort(cluster.Brokers)
	return cluster, nil
}

func (c *client) Features(context.Context) (map[string]scenarios.Feature, error) {
	controller, err := c.cluster.Controller()
	if err != nil {
		return nil, err
	}
	request := &sarama.ApiVersionsRequest{Version: 3, ClientSoftwareName: "sarama", ClientSoftwareVersion: "1"}
	answer, err := controller.ApiVersions(request)
	if err != nil {
		return nil, err
	}
	levels := map[string]int16{}
	for _, feature := range answer.FinalizedFeatures {
		levels[feature.Name] = feature.MaxVersionLevel
	}
	features := map[string]scenarios.Feature{}
	for _, feature := range answer.SupportedFeatures {
		features[feature.Name] = scenarios.Feature{Level: levels[feature.Name], Newest: feature.MaxVersion}
	}
	return features, nil
}

func (c *client) UpdateFeature(_ context.Context, feature string, level int16) error {
	answers, err := c.UpdateFeatures([]sarama.FeatureUpdate{{Feature: feature, MaxVersionLevel: level}})
	for _, answer := range answers {
		if answer.ErrorCode != sarama.ErrNoError {
			err = errors.Join(err, answer.ErrorCode)
		}
	}
	return err
}

func (c *client) Quotas(_ context.Context, clientID string) (map[string]float64, error) {
	asked := sarama.QuotaFilterComponent{
		EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: clientID,
	}
	found, err := c.DescribeClientQuotas([]sarama.QuotaFilterComponent{asked}, true)
	quotas := map[string]float64{}
	for _, entity := range found {
		maps.Copy(quotas, entity.Values)
	}
	return quotas, err
}

func (c *client) AlterQuota(_ context.Context, clientID, key string, value *float64) error {
	entity := sarama.QuotaEntityComponent{
		EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: clientID,
	}
	change := sarama.ClientQuotasOp{Key: key, Remove: value == nil}
	if value != nil {
		change.Value = *value
	}
	return c.AlterClientQuotas([]sarama.QuotaEntityComponent{entity}, change, false)
}

// Only the metrics of the library tell of silences.
func (c *client) Throttled(
	_ context.Context, clientID, topic string, records []scenarios.Record,
) (time.Duration, error) {
	config := config()
	config.ClientID = clientID
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	producer, err := sarama.NewSyncProducer(c.bootstrap, config)
	if err != nil {
		return 0, err
	}
	var messages []*sarama.ProducerMessage
	for _, record := range records {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Value: encoder(record.Value)})
	}
	err = producer.SendMessages(messages)
	longest := int64(0)
	config.MetricRegistry.Each(func(name string, metric any) {
		if told, ok := metric.(metrics.Histogram); ok && strings.HasPrefix(name, "throttle-time-in-ms") {
			longest = max(longest, told.Max())
		}
	})
	return time.Duration(longest) * time.Millisecond, errors.Join(err, producer.Close())
}
