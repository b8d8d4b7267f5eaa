// Package scenarios holds what a stock client must be able to do with a node. Each client of Go is one program that
// drives its library in the terms of Client.
package scenarios

import (
	"context"
	"time"
)

// Offsets that stand for a place, as ListOffsets has them.
const (
	End          int64 = -1
	Start        int64 = -2
	MaxTimestamp int64 = -3
)

// Client is one library. A method that waits for the node ends with its context at the latest.
type Client interface {
	// Lacks tells what the library's API cannot express.
	Lacks() Lacks
	// Code is the error code that a node answered with, 0 if it was not the node that complained.
	Code(err error) int16

	// Produce sends all at once, and returns the offset of each.
	Produce(ctx context.Context, topic string, how Producing, records []Record) ([]int64, error)
	// Read begins at an offset, or at Start or End; where that is out of range, at the start.
	Read(ctx context.Context, topic string, partition int32, from int64) (Reader, error)
	// Join makes a member that tells the listener what happens to it until it leaves.
	Join(membership Membership, listener Listener) (Member, error)

	CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error
	CreatePartitions(ctx context.Context, topic string, total int32) error
	DeleteTopic(ctx context.Context, topic string) error
	// Leaders has the leader of each partition. It creates no topic.
	Leaders(ctx context.Context, topic string) ([]int32, error)
	// Offset looks up a timestamp, or Start, End or MaxTimestamp. There is -1 for none.
	Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error)
	// DeleteRecords before an offset, or all with End; returns the low watermark.
	DeleteRecords(ctx context.Context, topic string, partition int32, before int64) (int64, error)
	Groups(ctx context.Context) ([]string, error)
	DescribeGroup(ctx context.Context, group string) (Group, error)
	DeleteGroup(ctx context.Context, group string) error
	// Committed has -1 for none.
	Committed(ctx context.Context, group, topic string, partition int32) (Commit, error)
	// DeleteOffset takes away what a group has committed.
	DeleteOffset(ctx context.Context, group, topic string, partition int32) error
	DescribeConfigs(ctx context.Context, of Resource) (map[string]Config, error)
	// AlterConfig changes one key and leaves the others alone (KIP-339); nil takes the key away.
	AlterConfig(ctx context.Context, of Resource, key string, value *string) error
	DescribeCluster(ctx context.Context) (Cluster, error)
	// Features of the cluster by name (KIP-584).
	Features(ctx context.Context) (map[string]Feature, error)
	UpdateFeature(ctx context.Context, feature string, level int16) error
	// Quotas of a client id by name (KIP-546).
	Quotas(ctx context.Context, clientID string) (map[string]float64, error)
	// AlterQuota of a client id; nil takes it away.
	AlterQuota(ctx context.Context, clientID, key string, value *float64) error
	// Throttled produces all under a client id, and returns the longest that it was told to be silent (KIP-219).
	Throttled(ctx context.Context, clientID, topic string, records []Record) (time.Duration, error)
}

// Lacks is what a library's API cannot express.
type Lacks struct {
	// Scenarios that cannot be run at all.
	Scenarios []string `json:"scenarios"`
	// Reset of a reader whose offset is out of range: it ends with an error instead.
	Reset bool `json:"reset"`
	// MaxTimestamp among the offsets to look up (KIP-734).
	MaxTimestamp bool `json:"maxTimestamp"`
	// Empty keys and values, which it reads as null.
	Empty bool `json:"empty"`
	// NullHeader is a header without a value.
	NullHeader bool `json:"nullHeader"`
	// NullRecord has neither key nor value.
	NullRecord bool `json:"nullRecord"`
	// Instance ids where a member can be fenced: its older holder is one that nobody knows any more.
	Instance bool `json:"instance"`
	// Metadata of a commit.
	Metadata bool `json:"metadata"`
	// Strategy of a described group.
	Strategy bool `json:"strategy"`
	// AllBrokers as a resource: it knows each of them only.
	AllBrokers bool `json:"allBrokers"`
	// Refusals of a change of configuration: it does not tell of them.
	Refusals bool `json:"refusals"`
	// Controller of a described cluster.
	Controller bool `json:"controller"`
}

// Producing is how records are sent.
type Producing struct {
	Codec      string `json:"codec"`
	Idempotent bool   `json:"idempotent"`
	// SmallBatches asks for batches of ten records or so.
	SmallBatches bool `json:"smallBatches"`
	// Large lifts the library's own limit on the size of a request.
	Large bool `json:"large"`
}

// Record has nil for a null key, value or header.
type Record struct {
	Partition  int32
	Offset     int64
	Key, Value []byte
	Headers    []Header
	// Timestamp is the library's choice when it is zero.
	Timestamp time.Time
}

// Header of a record.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Reader of one partition.
type Reader interface {
	Next(ctx context.Context) (Record, error)
	Close()
}

// Membership in a group that reads one topic.
type Membership struct {
	Topic, Group       string
	Strategy           string
	ClientID, Instance string
	Session, Heartbeat time.Duration
}

// Listener hears of one member. Some libraries tell of each partition on a goroutine of its own.
type Listener interface {
	Assigned(partitions []int32)
	Revoked(partitions []int32)
	Received(record Record)
	Failed(err error)
}

// Member of a group.
type Member interface {
	Commit(ctx context.Context, partition int32, commit Commit) error
	Leave()
}

// Commit is an offset and what was noted with it.
type Commit struct {
	Offset   int64  `json:"offset"`
	Metadata string `json:"metadata"`
}

// Group as it is described.
type Group struct {
	State    string        `json:"state"`
	Strategy string        `json:"strategy"`
	Members  []GroupMember `json:"members"`
}

// GroupMember and the partitions of the one topic it reads.
type GroupMember struct {
	ClientID   string  `json:"clientId"`
	Partitions []int32 `json:"partitions"`
}

// Resource that has a configuration: a topic or a broker.
type Resource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Kinds of resources.
const (
	Topic  = "topic"
	Broker = "broker"
)

// AllBrokers has the values that each broker takes for its own if it has none.
var AllBrokers = Resource{Kind: Broker}

// Config is a value and the number of its source.
type Config struct {
	Value    string `json:"value"`
	Source   int8   `json:"source"`
	ReadOnly bool   `json:"readOnly"`
}

// Cluster as it is described.
type Cluster struct {
	ID         string  `json:"id"`
	Brokers    []int32 `json:"brokers"`
	Controller int32   `json:"controller"`
}

// Feature has a level, and the highest that could be.
type Feature struct {
	Level  int16 `json:"level"`
	Newest int16 `json:"newest"`
}
