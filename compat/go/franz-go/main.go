// The scenarios through franz-go, with kadm for what an operator asks.
package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ottla/compat/scenarios"
)

type client struct {
	basic []kgo.Opt
	any   *kgo.Client
	admin *kadm.Client
}

func main() {
	scenarios.Main(func(bootstrap string) (scenarios.Client, error) {
		// It takes a node that is killed before it answers for one that wants another protocol, unless it is told not to.
		basic := []kgo.Opt{kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.AlwaysRetryEOF()}
		any, err := kgo.NewClient(basic...)
		if err != nil {
			return nil, err
		}
		return &client{basic, any, kadm.NewClient(any)}, nil
	})
}

// Another client of the same cluster.
func (c *client) open(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(slices.Concat(c.basic, options)...)
}

func (c *client) Lacks() scenarios.Lacks { return scenarios.Lacks{} }

func (c *client) Code(err error) int16 {
	var refusal *kerr.Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return 0
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func (c *client) Produce(
	ctx context.Context, topic string, how scenarios.Producing, records []scenarios.Record,
) ([]int64, error) {
	if how.Codec == "" {
		how.Codec = "none"
	}
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[how.Codec]),
	}
	if how.SmallBatches {
		options = append(options, kgo.ProducerBatchMaxBytes(512))
	}
	if how.Large {
		options = append(options, kgo.ProducerBatchMaxBytes(2<<20))
	}
	producer, err := c.open(options...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var sent []*kgo.Record
	for _, record := range records {
		one := &kgo.Record{
			Topic: topic, Partition: record.Partition, Key: record.Key, Value: record.Value, Timestamp: record.Timestamp,
		}
		for _, header := range record.Headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
		sent = append(sent, one)
	}
	err = producer.ProduceSync(ctx, sent...).FirstErr()
	var offsets []int64
	for _, record := range sent {
		offsets = append(offsets, record.Offset)
	}
	return offsets, err
}

type reader struct {
	*kgo.Client
	fetched []*kgo.Record
}

func (c *client) Read(
	_ context.Context, topic string, partition int32, from int64,
) (scenarios.Reader, error) {
	at := kgo.NewOffset().At(from)
	options := []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: at}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	reading, err := c.open(options...)
	return &reader{Client: reading}, err
}

func (r *reader) Next(ctx context.Context) (scenarios.Record, error) {
	for len(r.fetched) == 0 {
		fetches := r.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return scenarios.Record{}, err
		}
		for _, failed := range fetches.Errors() {
			return scenarios.Record{}, failed.Err
		}
		r.fetched = fetches.Records()
	}
	next := r.fetched[0]
	r.fetched = r.fetched[1:]
	return recordOf(next), nil
}

func recordOf(record *kgo.Record) scenarios.Record {
	ours := scenarios.Record{
		Partition: record.Partition, Offset: record.Offset,
		Key: record.Key, Value: record.Value, Timestamp: record.Timestamp,
	}
	for _, header := range record.Headers {
		ours.Headers = append(ours.Headers, scenarios.Header{Key: header.Key, Value: header.Value})
	}
	return ours
}

type member struct {
	*kgo.Client
	topic string
	polls context.CancelFunc
	ended chan struct{}
}

var balancers = map[string]kgo.GroupBalancer{
	"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
	"cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

func (c *client) Join(membership scenarios.Membership, listener scenarios.Listener) (scenarios.Member, error) {
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		listener.Revoked(partitions[membership.Topic])
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(membership.Group), kgo.ConsumeTopics(membership.Topic), kgo.DisableAutoCommit(),
		kgo.Balancers(balancers[membership.Strategy]),
		kgo.SessionTimeout(membership.Session), kgo.HeartbeatInterval(membership.Heartbeat),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			listener.Assigned(partitions[membership.Topic])
		}),
		kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
	}
	if membership.Instance != "" {
		options = append(options, kgo.InstanceID(membership.Instance))
	}
	if membership.ClientID != "" {
		options = append(options, kgo.ClientID(membership.ClientID))
	}
	joined, err := c.open(options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := &member{joined, membership.Topic, cancel, make(chan struct{})}
	go one.poll(ctx, listener)
	return one, nil
}

func (m *member) poll(ctx context.Context, listener scenarios.Listener) {
	defer close(m.ended)
	for ctx.Err() == nil {
		fetches := m.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			if ctx.Err() == nil {
				listener.Failed(failed.Err)
			}
		}
		fetches.EachRecord(func(record *kgo.Record) { listener.Received(recordOf(record)) })
	}
}

func (m *member) Commit(ctx context.Context, partition int32, commit scenarios.Commit) error {
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for _, topic := range request.Topics {
			for i := range topic.Partitions {
				topic.Partitions[i].Metadata = &commit.Metadata
			}
		}
		return nil
	})
	offsets := map[string]map[int32]kgo.EpochOffset{m.topic: {partition: {Epoch: -1, Offset: commit.Offset}}}
	var refused error
	m.CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			refused = err
			if response != nil {
				for _, topic := range response.Topics {
					for _, partition := range topic.Partitions {
						refused = errors.Join(refused, kerr.ErrorForCode(partition.ErrorCode))
					}
				}
			}
		})
	return refused
}

// A static member does not leave by itself: it lets its session go on, as Kafka's own client does.
func (m *member) Leave() {
	m.polls()
	<-m.ended
	m.Close()
}

func pointers(configs map[string]string) map[string]*string {
	all := map[string]*string{}
	for key, value := range configs {
		all[key] = &value
	}
	return all
}

func (c *client) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	_, err := c.admin.CreateTopic(ctx, partitions, -1, pointers(configs), topic)
	return err
}

func (c *client) CreatePartitions(ctx context.Context, topic string, total int32) error {
	answers, err := c.admin.UpdatePartitions(ctx, int(total), topic)
	return errors.Join(err, answers.Error())
}

func (c *client) DeleteTopic(ctx context.Context, topic string) error {
	_, err := c.admin.DeleteTopic(ctx, topic)
	return err
}

func (c *client) Leaders(ctx context.Context, topic string) ([]int32, error) {
	metadata, err := c.admin.Metadata(ctx, topic)
	if err = errors.Join(err, metadata.Topics.Error()); err != nil {
		return nil, err
	}
	var leaders []int32
	for _, partition := range metadata.Topics[topic].Partitions.Sorted() {
		leaders = append(leaders, partition.Leader)
	}
	return leaders, nil
}

func (c *client) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at {
	case scenarios.Start:
		listed, err = c.admin.ListStartOffsets(ctx, topic)
	case scenarios.End:
		listed, err = c.admin.ListEndOffsets(ctx, topic)
	case scenarios.MaxTimestamp:
		listed, err = c.admin.ListMaxTimestampOffsets(ctx, topic)
	default:
		listed, err = c.admin.ListOffsetsAfterMilli(ctx, time.UnixMilli(at).UnixMilli(), topic)
	}
	found, _ := listed.Lookup(topic, partition)
	if at >= 0 && found.Timestamp == -1 {
		// kadm answers with the end where there is none.
		return -1, errors.Join(err, found.Err)
	}
	return found.Offset, errors.Join(err, found.Err)
}

func (c *client) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) (int64, error) {
	var offsets kadm.Offsets
	offsets.AddOffset(topic, partition, before, -1)
	answers, err := c.admin.DeleteRecords(ctx, offsets)
	answer, _ := answers.Lookup(topic, partition)
	return answer.LowWatermark, errors.Join(err, answer.Err)
}

func (c *client) Groups(ctx context.Context) ([]string, error) {
	listed, err := c.admin.ListGroups(ctx)
	return listed.Groups(), err
}

func (c *client) DescribeGroup(ctx context.Context, group string) (scenarios.Group, error) {
	answers, err := c.admin.DescribeGroups(ctx, group)
	answer := answers[group]
	described := scenarios.Group{State: answer.State, Strategy: answer.Protocol}
	for _, member := range answer.Members {
		one := scenarios.GroupMember{ClientID: member.ClientID}
		if assigned, ok := member.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				one.Partitions = append(one.Partitions, topic.Partitions...)
			}
		}
		described.Members = append(described.Members, one)
	}
	return described, errors.Join(err, answer.Err)
}

func (c *client) DeleteGroup(ctx context.Context, group string) error {
	_, err := c.admin.DeleteGroup(ctx, group)
	return err
}

func (c *client) Committed(
	ctx context.Context, group, topic string, partition int32,
) (scenarios.Commit, error) {
	answers, err := c.admin.FetchOffsets(ctx, group)
	answer, found := answers.Lookup(topic, partition)
	if !found {
		answer.At = -1
	}
	return scenarios.Commit{Offset: answer.At, Metadata: answer.Metadata}, errors.Join(err, answer.Err)
}

func (c *client) DeleteOffset(ctx context.Context, group, topic string, partition int32) error {
	var offsets kadm.TopicsSet
	offsets.Add(topic, partition)
	answers, err := c.admin.DeleteOffsets(ctx, group, offsets)
	return errors.Join(err, answers.Error())
}

// kadm does not tell what is read-only.
func (c *client) DescribeConfigs(ctx context.Context, of scenarios.Resource) (map[string]scenarios.Config, error) {
	asked := kmsg.NewDescribeConfigsRequestResource()
	asked.ResourceType, asked.ResourceName = kmsg.ConfigResourceTypeTopic, of.Name
	if of.Kind == scenarios.Broker {
		asked.ResourceType = kmsg.ConfigResourceTypeBroker
	}
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.Resources = append(request.Resources, asked)
	response, err := request.RequestWith(ctx, c.any)
	if err != nil {
		return nil, err
	}
	configs := map[string]scenarios.Config{}
	for _, answer := range response.Resources {
		err = errors.Join(err, kerr.ErrorForCode(answer.ErrorCode))
		for _, entry := range answer.Configs {
			config := scenarios.Config{Source: int8(entry.Source), ReadOnly: entry.ReadOnly}
			if entry.Value != nil {
				config.Value = *entry.Value
			}
			configs[entry.Name] = config
		}
	}
	return configs, err
}

func (c *client) AlterConfig(ctx context.Context, of scenarios.Resource, key string, value *string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: value}
	if value == nil {
		change.Op = kadm.DeleteConfig
	}
	var answers kadm.AlterConfigsResponses
	var err error
	switch {
	case of.Kind == scenarios.Topic:
		answers, err = c.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, of.Name)
	case of == scenarios.AllBrokers:
		answers, err = c.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{change})
	default:
		id, _ := strconv.Atoi(of.Name)
		answers, err = c.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{change}, int32(id))
	}
	for _, answer := range answers {
		err = errors.Join(err, answer.Err)
	}
	return err
}

func (c *client) DescribeCluster(ctx context.Context) (scenarios.Cluster, error) {
	metadata, err := c.admin.BrokerMetadata(ctx)
	return scenarios.Cluster{
		ID: metadata.Cluster, Brokers: metadata.Brokers.NodeIDs(), Controller: metadata.Controller,
	}, err
}

func (c *client) Features(ctx context.Context) (map[string]scenarios.Feature, error) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "franz-go", "1"
	response, err := request.RequestWith(ctx, c.any)
	if err != nil {
		return nil, err
	}
	levels := map[string]int16{}
	for _, feature := range response.FinalizedFeatures {
		levels[feature.Name] = feature.MaxVersionLevel
	}
	features := map[string]scenarios.Feature{}
	for _, feature := range response.SupportedFeatures {
		features[feature.Name] = scenarios.Feature{Level: levels[feature.Name], Newest: feature.MaxVersion}
	}
	return features, kerr.ErrorForCode(response.ErrorCode)
}

func (c *client) UpdateFeature(ctx context.Context, feature string, level int16) error {
	update := kadm.FeatureUpdate{Feature: feature, MaxVersionLevel: level, UpgradeType: 1}
	answers, err := c.admin.UpdateFeatures(ctx, false, update)
	return errors.Join(err, answers.Error())
}

func (c *client) Quotas(ctx context.Context, clientID string) (map[string]float64, error) {
	asked := kadm.DescribeClientQuotaComponent{Type: "client-id", MatchName: &clientID, MatchType: 0}
	found, err := c.admin.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{asked})
	quotas := map[string]float64{}
	for _, entity := range found {
		for _, quota := range entity.Values {
			quotas[quota.Key] = quota.Value
		}
	}
	return quotas, err
}

func (c *client) AlterQuota(ctx context.Context, clientID, key string, value *float64) error {
	change := kadm.AlterClientQuotaOp{Key: key, Remove: value == nil}
	if value != nil {
		change.Value = *value
	}
	answers, err := c.admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &clientID}},
		Ops:    []kadm.AlterClientQuotaOp{change},
	}})
	for _, answer := range answers {
		err = errors.Join(err, answer.Err)
	}
	return err
}

// Hears of silences.
type silences struct {
	lock    sync.Mutex
	longest time.Duration
}

func (s *silences) OnBrokerThrottle(_ kgo.BrokerMetadata, told time.Duration, _ bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.longest = max(s.longest, told)
}

func (c *client) Throttled(
	ctx context.Context, clientID, topic string, records []scenarios.Record,
) (time.Duration, error) {
	heard := &silences{}
	producer, err := c.open(kgo.ClientID(clientID), kgo.WithHooks(heard))
	if err != nil {
		return 0, err
	}
	defer producer.Close()
	var sent []*kgo.Record
	for _, record := range records {
		sent = append(sent, &kgo.Record{Topic: topic, Value: record.Value})
	}
	err = producer.ProduceSync(ctx, sent...).FirstErr()
	heard.lock.Lock()
	defer heard.lock.Unlock()
	return heard.longest, err
}
