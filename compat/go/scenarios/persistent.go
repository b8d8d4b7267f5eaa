package scenarios

import (
	"context"
	"slices"
	"time"
)

// Answers of a broker that is not the one to ask any more, or not yet: COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE,
// NOT_COORDINATOR, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, BROKER_NOT_AVAILABLE, NOT_CONTROLLER,
// NETWORK_EXCEPTION, OFFSET_NOT_AVAILABLE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
var passing = []int16{14, 15, 16, 5, 6, 7, 8, 41, 13, 78, 74, 75}

// UNKNOWN_TOPIC_OR_PARTITION of a topic that there is: another broker has heard of it already, and this one has not yet.
var early = append([]int16{unknownTopicOrPartition}, passing...)

// Refresher is a client that forgets what it knows of the cluster only if it is told to.
type Refresher interface{ Refresh() }

// Asks an operator's question again where the library does not: when the connection broke, or when the broker has handed over
// to another. Which record is sent how often, and which is read, stays the library's affair.
type persistent struct{ Client }

func (p persistent) again(ctx context.Context, ask func() error) error {
	return p.againAfter(ctx, passing, ask)
}

func (p persistent) againAfter(ctx context.Context, passing []int16, ask func() error) error {
	for end := time.Now().Add(deadline); ; {
		err := ask()
		code := int16(0)
		if err != nil {
			code = p.Code(err)
		}
		if err == nil || code != 0 && !slices.Contains(passing, code) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		if stale, ok := p.Client.(Refresher); ok {
			stale.Refresh()
		}
		time.Sleep(10 * pause)
	}
}

func asked[T any](ctx context.Context, p persistent, ask func() (T, error)) (T, error) {
	return askedAfter(ctx, p, passing, ask)
}

// Of a topic that there is.
func askedOfTopic[T any](ctx context.Context, p persistent, ask func() (T, error)) (T, error) {
	return askedAfter(ctx, p, early, ask)
}

func askedAfter[T any](ctx context.Context, p persistent, passing []int16, ask func() (T, error)) (T, error) {
	var value T
	err := p.againAfter(ctx, passing, func() (err error) {
		value, err = ask()
		return err
	})
	return value, err
}

func (p persistent) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	return p.again(ctx, func() error { return p.Client.CreateTopic(ctx, topic, partitions, configs) })
}

func (p persistent) CreatePartitions(ctx context.Context, topic string, total int32) error {
	return p.againAfter(ctx, early, func() error { return p.Client.CreatePartitions(ctx, topic, total) })
}

func (p persistent) DeleteTopic(ctx context.Context, topic string) error {
	return p.again(ctx, func() error { return p.Client.DeleteTopic(ctx, topic) })
}

func (p persistent) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	return askedOfTopic(ctx, p, func() (int64, error) { return p.Client.Offset(ctx, topic, partition, at) })
}

func (p persistent) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) (int64, error) {
	return askedOfTopic(ctx, p, func() (int64, error) { return p.Client.DeleteRecords(ctx, topic, partition, before) })
}

func (p persistent) Groups(ctx context.Context) ([]string, error) {
	return asked(ctx, p, func() ([]string, error) { return p.Client.Groups(ctx) })
}

func (p persistent) DescribeGroup(ctx context.Context, group string) (Group, error) {
	return asked(ctx, p, func() (Group, error) { return p.Client.DescribeGroup(ctx, group) })
}

func (p persistent) DeleteGroup(ctx context.Context, group string) error {
	return p.again(ctx, func() error { return p.Client.DeleteGroup(ctx, group) })
}

func (p persistent) Committed(ctx context.Context, group, topic string, partition int32) (Commit, error) {
	return asked(ctx, p, func() (Commit, error) { return p.Client.Committed(ctx, group, topic, partition) })
}

func (p persistent) DeleteOffset(ctx context.Context, group, topic string, partition int32) error {
	return p.again(ctx, func() error { return p.Client.DeleteOffset(ctx, group, topic, partition) })
}

func (p persistent) DescribeConfigs(ctx context.Context, of Resource) (map[string]Config, error) {
	return askedOfTopic(ctx, p, func() (map[string]Config, error) { return p.Client.DescribeConfigs(ctx, of) })
}

func (p persistent) AlterConfig(ctx context.Context, of Resource, key string, value *string) error {
	return p.againAfter(ctx, early, func() error { return p.Client.AlterConfig(ctx, of, key, value) })
}

func (p persistent) DescribeCluster(ctx context.Context) (Cluster, error) {
	return asked(ctx, p, func() (Cluster, error) { return p.Client.DescribeCluster(ctx) })
}

func (p persistent) Features(ctx context.Context) (map[string]Feature, error) {
	return asked(ctx, p, func() (map[string]Feature, error) { return p.Client.Features(ctx) })
}

func (p persistent) UpdateFeature(ctx context.Context, feature string, level int16) error {
	return p.again(ctx, func() error { return p.Client.UpdateFeature(ctx, feature, level) })
}

func (p persistent) Quotas(ctx context.Context, clientID string) (map[string]float64, error) {
	return asked(ctx, p, func() (map[string]float64, error) { return p.Client.Quotas(ctx, clientID) })
}

func (p persistent) AlterQuota(ctx context.Context, clientID, key string, value *float64) error {
	return p.again(ctx, func() error { return p.Client.AlterQuota(ctx, clientID, key, value) })
}

func (p persistent) Throttled(
	ctx context.Context, clientID, topic string, records []Record,
) (time.Duration, error) {
	return asked(ctx, p, func() (time.Duration, error) { return p.Client.Throttled(ctx, clientID, topic, records) })
}

// One that could not even begin is no member.
func (p persistent) Join(membership Membership, listener Listener) (Member, error) {
	member, err := asked(context.Background(), p, func() (Member, error) { return p.Client.Join(membership, listener) })
	return persistentMember{p, member}, err
}

type persistentMember struct {
	persistent
	Member
}

func (m persistentMember) Commit(ctx context.Context, partition int32, commit Commit) error {
	return m.again(ctx, func() error { return m.Member.Commit(ctx, partition, commit) })
}

func (p persistent) Read(ctx context.Context, topic string, partition int32, from int64) (Reader, error) {
	reader, err := asked(ctx, p, func() (Reader, error) { return p.Client.Read(ctx, topic, partition, from) })
	return persistentReader{p, reader}, err
}

// Libraries tell of connections that break, and go on.
type persistentReader struct {
	persistent
	Reader
}

func (r persistentReader) Next(ctx context.Context) (Record, error) {
	return asked(ctx, r.persistent, func() (Record, error) { return r.Reader.Next(ctx) })
}
