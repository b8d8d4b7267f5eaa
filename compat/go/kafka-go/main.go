// The scenarios through Segment's kafka-go.
package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"ottla/compat/scenarios"
)

type client struct {
	bootstrap []string
	address   net.Addr
	kafka.Client
}

func main() {
	scenarios.Main(func(bootstrap string) (scenarios.Client, error) {
		addresses := strings.Split(bootstrap, ",")
		address := kafka.TCP(addresses...)
		return &client{addresses, address, kafka.Client{Addr: address, Transport: transport()}}, nil
	})
}

// The one that is shared remembers the cluster as it was a while ago.
func transport() *kafka.Transport {
	return &kafka.Transport{MetadataTTL: time.Second}
}

func (c *client) Lacks() scenarios.Lacks {
	return scenarios.Lacks{
		Scenarios:    []string{"idempotent-producer", "cooperative-rebalance", "static-membership", "delete-records", "update-features"},
		Reset:        true,
		MaxTimestamp: true,
		Empty:        true,
		Strategy:     true,
		AllBrokers:   true,
	}
}

func (c *client) Code(err error) int16 {
	var failed kafka.WriteErrors
	if errors.As(err, &failed) && len(failed) > 0 {
		err = failed[0]
	}
	var code kafka.Error
	if errors.As(err, &code) {
		return int16(code)
	}
	return 0
}

var codecs = map[string]kafka.Compression{
	"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

func (c *client) Produce(
	ctx context.Context, topic string, how scenarios.Producing, records []scenarios.Record,
) ([]int64, error) {
	// It is the balancer that knows the partition, and the completion that knows the offset.
	var offsets []int64
	var lock sync.Mutex
	writer := &kafka.Writer{
		Addr: c.address, Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codecs[how.Codec],
		BatchSize: 100, BatchTimeout: 10 * time.Millisecond, Transport: transport(),
		Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return message.WriterData.(int) }),
		Completion: func(messages []kafka.Message, err error) {
			lock.Lock()
			defer lock.Unlock()
			for _, message := range messages {
				offsets = append(offsets, message.Offset)
			}
		},
	}
	defer func() { _ = writer.Close() }()
	if how.SmallBatches {
		writer.BatchSize = 10
	}
	if how.Large {
		writer.BatchBytes = 2 << 20
	}
	var messages []kafka.Message
	for _, record := range records {
		message := kafka.Message{
			WriterData: int(record.Partition), Key: record.Key, Value: record.Value, Time: record.Timestamp,
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: header.Key, Value: header.Value})
		}
		messages = append(messages, message)
	}
	err := writer.WriteMessages(ctx, messages...)
	// It asks for the partitions before it sends, and only once: a broker that has just come back may not have heard of a
	// new topic yet.
	for ctx.Err() == nil && os.Getenv("BROKERS") != "" && err == error(kafka.UnknownTopicOrPartition) {
		time.Sleep(50 * time.Millisecond)
		err = writer.WriteMessages(ctx, messages...)
	}
	lock.Lock()
	defer lock.Unlock()
	return offsets, err
}

type reader struct{ *kafka.Reader }

func (c *client) Read(
	_ context.Context, topic string, partition int32, from int64,
) (scenarios.Reader, error) {
	one := kafka.NewReader(kafka.ReaderConfig{
		Brokers: c.bootstrap, Topic: topic, Partition: int(partition),
		MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond, OffsetOutOfRangeError: true,
	})
	return reader{one}, one.SetOffset(from)
}

func (r reader) Next(ctx context.Context) (scenarios.Record, error) {
	message, err := r.ReadMessage(ctx)
	return recordOf(message), err
}

func (r reader) Close() { _ = r.Reader.Close() }

func recordOf(message kafka.Message) scenarios.Record {
	record := scenarios.Record{
		Partition: int32(message.Partition), Offset: message.Offset,
		Key: message.Key, Value: message.Value, Timestamp: message.Time,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, scenarios.Header{Key: header.Key, Value: header.Value})
	}
	return record
}

type member struct {
	*client
	topic string
	group *kafka.ConsumerGroup
	stop  context.CancelFunc
	ended sync.WaitGroup

	// Held while the listener is told.
	lock       sync.Mutex
	generation *kafka.Generation
}

func (c *client) Join(membership scenarios.Membership, listener scenarios.Listener) (scenarios.Member, error) {
	balancers := map[string]kafka.GroupBalancer{
		"range": kafka.RangeGroupBalancer{}, "roundrobin": kafka.RoundRobinGroupBalancer{},
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: membership.Group, Brokers: c.bootstrap, Topics: []string{membership.Topic},
		GroupBalancers:   []kafka.GroupBalancer{balancers[membership.Strategy]},
		SessionTimeout:   membership.Session,
		RebalanceTimeout: membership.Session, HeartbeatInterval: membership.Heartbeat,
		StartOffset:      kafka.FirstOffset,
		JoinGroupBackoff: 100 * time.Millisecond,
		Dialer:           &kafka.Dialer{ClientID: membership.ClientID, Timeout: 10 * time.Second},
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	one := &member{client: c, topic: membership.Topic, group: group, stop: stop}
	one.ended.Go(func() {
		for ctx.Err() == nil {
			generation, err := group.Next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					listener.Failed(err)
				}
				continue
			}
			one.lock.Lock()
			one.generation = generation
			one.lock.Unlock()
			for _, place := range generation.Assignments[membership.Topic] {
				generation.Start(func(ctx context.Context) { one.consume(ctx, place, listener) })
			}
		}
	})
	return one, nil
}

func (m *member) consume(ctx context.Context, place kafka.PartitionAssignment, listener scenarios.Listener) {
	partition := int32(place.ID)
	listener.Assigned([]int32{partition})
	defer listener.Revoked([]int32{partition})
	from := place.Offset
	one, err := m.Read(ctx, m.topic, partition, from)
	if err != nil {
		listener.Failed(err)
		return
	}
	defer one.Close()
	for {
		record, err := one.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			listener.Failed(err)
			return
		}
		listener.Received(record)
	}
}

func (m *member) Commit(ctx context.Context, partition int32, commit scenarios.Commit) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	offset := kafka.OffsetCommit{Partition: int(partition), Offset: commit.Offset, Metadata: commit.Metadata}
	answer, err := m.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: m.generation.GroupID, GenerationID: int(m.generation.ID), MemberID: m.generation.MemberID,
		Topics: map[string][]kafka.OffsetCommit{m.topic: {offset}},
	})
	if err != nil {
		return err
	}
	return answer.Topics[m.topic][0].Error
}

func (m *member) Leave() {
	m.stop()
	m.ended.Wait()
	_ = m.group.Close()
}

func (c *client) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	wanted := kafka.TopicConfig{Topic: topic, NumPartitions: int(partitions), ReplicationFactor: -1}
	for key, value := range configs {
		wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	answer, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
	if err != nil {
		return err
	}
	return answer.Errors[topic]
}

func (c *client) CreatePartitions(ctx context.Context, topic string, total int32) error {
	wanted := kafka.TopicPartitionsConfig{Name: topic, Count: total}
	answer, err := c.Client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{wanted},
	})
	if err != nil {
		return err
	}
	return answer.Errors[topic]
}

func (c *client) DeleteTopic(ctx context.Context, topic string) error {
	answer, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return answer.Errors[topic]
}

func (c *client) Leaders(ctx context.Context, topic string) ([]int32, error) {
	answer, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	one := answer.Topics[0]
	leaders := make([]int32, len(one.Partitions))
	for _, partition := range one.Partitions {
		leaders[partition.ID] = int32(partition.Leader.ID)
		if partition.Leader.Host == "" {
			leaders[partition.ID] = -1
		}
	}
	return leaders, one.Error
}

func (c *client) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	answer, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: int(partition), Timestamp: at}}},
	})
	if err != nil {
		return 0, err
	}
	found := answer.Topics[topic][0]
	switch at {
	case scenarios.Start:
		return found.FirstOffset, found.Error
	case scenarios.End:
		return found.LastOffset, found.Error
	}
	for offset := range found.Offsets {
		return offset, found.Error
	}
	return -1, found.Error
}

func (c *client) DeleteRecords(context.Context, string, int32, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

func (c *client) Features(context.Context) (map[string]scenarios.Feature, error) {
	return nil, errors.ErrUnsupported
}

func (c *client) UpdateFeature(context.Context, string, int16) error { return errors.ErrUnsupported }

func (c *client) Groups(ctx context.Context) ([]string, error) {
	answer, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, group := range answer.Groups {
		names = append(names, group.GroupID)
	}
	return names, answer.Error
}

func (c *client) DescribeGroup(ctx context.Context, group string) (scenarios.Group, error) {
	answer, err := c.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return scenarios.Group{}, err
	}
	described := scenarios.Group{State: answer.Groups[0].GroupState}
	for _, member := range answer.Groups[0].Members {
		one := scenarios.GroupMember{ClientID: member.ClientID}
		for _, topic := range member.MemberAssignments.Topics {
			for _, partition := range topic.Partitions {
				one.Partitions = append(one.Partitions, int32(partition))
			}
		}
		described.Members = append(described.Members, one)
	}
	return described, answer.Groups[0].Error
}

func (c *client) DeleteGroup(ctx context.Context, group string) error {
	answer, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return answer.Errors[group]
}

func (c *client) Committed(
	ctx context.Context, group, topic string, partition int32,
) (scenarios.Commit, error) {
	answer, err := c.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: group, Topics: map[string][]int{topic: {int(partition)}},
	})
	if err != nil {
		return scenarios.Commit{}, err
	}
	found := answer.Topics[topic][0]
	return scenarios.Commit{Offset: found.CommittedOffset, Metadata: found.Metadata}, errors.Join(answer.Error, found.Error)
}

func (c *client) DeleteOffset(ctx context.Context, group, topic string, partition int32) error {
	answer, err := c.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{
		GroupID: group, Topics: map[string][]int{topic: {int(partition)}},
	})
	if err != nil {
		return err
	}
	for _, found := range answer.Topics[topic] {
		err = errors.Join(err, found.Error)
	}
	return errors.Join(answer.Error, err)
}

func kindOf(of scenarios.Resource) kafka.ResourceType {
	if of.Kind == scenarios.Broker {
		return kafka.ResourceTypeBroker
	}
	return kafka.ResourceTypeTopic
}

func (c *client) DescribeConfigs(ctx context.Context, of scenarios.Resource) (map[string]scenarios.Config, error) {
	answer, err := c.Client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kindOf(of), ResourceName: of.Name}},
	})
	if err != nil {
		return nil, err
	}
	configs := map[string]scenarios.Config{}
	for _, entry := range answer.Resources[0].ConfigEntries {
		configs[entry.ConfigName] = scenarios.Config{
			Value: entry.ConfigValue, Source: entry.ConfigSource, ReadOnly: entry.ReadOnly,
		}
	}
	return configs, answer.Resources[0].Error
}

func (c *client) AlterConfig(ctx context.Context, of scenarios.Resource, key string, value *string) error {
	change := kafka.IncrementalAlterConfigsRequestConfig{Name: key, ConfigOperation: kafka.ConfigOperationDelete}
	if value != nil {
		change.Value, change.ConfigOperation = *value, kafka.ConfigOperationSet
	}
	answer, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kindOf(of), ResourceName: of.Name,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{change},
		}},
	})
	if err != nil {
		return err
	}
	return answer.Resources[0].Error
}

func (c *client) DescribeCluster(ctx context.Context) (scenarios.Cluster, error) {
	answer, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}})
	if err != nil {
		return scenarios.Cluster{}, err
	}
	cluster := scenarios.Cluster{ID: answer.ClusterID, Controller: int32(answer.Controller.ID)}
	for _, broker := range answer.Brokers {
		cluster.Brokers = append(cluster.Brokers, int32(broker.ID))
	}
	return cluster, nil
}

func (c *client) Quotas(ctx context.Context, clientID string) (map[string]float64, error) {
	asked := kafka.DescribeClientQuotasRequestComponent{EntityType: "client-id", MatchType: 0, Match: clientID}
	answer, err := c.DescribeClientQuotas(ctx, &kafka.DescribeClientQuotasRequest{
		Components: []kafka.DescribeClientQuotasRequestComponent{asked}, Strict: true,
	})
	if err != nil {
		return nil, err
	}
	quotas := map[string]float64{}
	for _, entity := range answer.Entries {
		for _, quota := range entity.Values {
			quotas[quota.Key] = quota.Value
		}
	}
	return quotas, answer.Error
}

func (c *client) AlterQuota(ctx context.Context, clientID, key string, value *float64) error {
	change := kafka.AlterClientQuotaOps{Key: key, Remove: value == nil}
	if value != nil {
		change.Value = *value
	}
	answer, err := c.AlterClientQuotas(ctx, &kafka.AlterClientQuotasRequest{Entries: []kafka.AlterClientQuotaEntry{{
		Entities: []kafka.AlterClientQuotaEntity{{EntityType: "client-id", EntityName: clientID}},
		Ops:      []kafka.AlterClientQuotaOps{change},
	}}})
	if err != nil {
		return err
	}
	for _, entry := range answer.Entries {
		err = errors.Join(err, entry.Error)
	}
	return err
}

func (c *client) Throttled(
	ctx context.Context, clientID, topic string, records []scenarios.Record,
) (time.Duration, error) {
	named := transport()
	named.ClientID = clientID
	producer := kafka.Client{Addr: c.address, Transport: named}
	defer named.CloseIdleConnections()
	var longest time.Duration
	for _, record := range records {
		answer, err := producer.Produce(ctx, &kafka.ProduceRequest{
			Topic: topic, Partition: int(record.Partition), RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes(record.Value)}),
		})
		if err != nil {
			return 0, err
		}
		if answer.Error != nil {
			return 0, answer.Error
		}
		longest = max(longest, answer.Throttle)
	}
	return longest, nil
}
