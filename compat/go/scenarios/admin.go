package scenarios

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

const (
	unknownTopicOrPartition = 3
	invalidTopic            = 17
	topicAlreadyExists      = 36
	invalidPartitions       = 37
	invalidConfig           = 40
	invalidRequest          = 42
	nonEmptyGroup           = 68
	groupIDNotFound         = 69
	groupSubscribedToTopic  = 86
	invalidUpdateVersion    = 95

	// Sources of configuration values, as DescribeConfigs numbers them.
	dynamicTopicConfig         = 1
	dynamicBrokerConfig        = 2
	dynamicDefaultBrokerConfig = 3
	defaultConfig              = 5
)

// What an operator asks.
var adminScenarios = []scenario{
	{"topic-create-describe-delete", topics},
	{"list-describe-delete-groups", groups},
	{"offsets-for-times", offsetsForTimes},
	{"delete-records", deleteRecords},
	{"describe-and-alter-configs", configs},
	{"alter-broker-config", brokerConfigs},
	{"update-features", features},
	{"create-partitions", createPartitions},
	{"describe-cluster", describeCluster},
	{"delete-group-offsets", deleteGroupOffsets},
	{"client-quotas", clientQuotas},
}

func topics(n *node) {
	topic := n.createTopic("topic-admin", 3, map[string]string{"retention.ms": "123456"})
	n.refused(topicAlreadyExists, "a second create", n.CreateTopic(n.ctx, topic, 3, nil))
	n.refused(invalidTopic, "a create of not/a/topic", n.CreateTopic(n.ctx, "not/a/topic", 1, nil))
	n.done(unknownTopicOrPartition, n.DeleteTopic(n.ctx, topic))
	n.until("the topic to be gone", func() bool {
		_, err := n.Leaders(n.ctx, topic)
		return err != nil && n.Code(err) == unknownTopicOrPartition
	})
	n.refused(unknownTopicOrPartition, "a second delete", n.DeleteTopic(n.ctx, topic))
}

func groups(n *node) {
	topic, group := n.filled("list-describe-delete-groups"), unique("list-describe-delete-groups")
	told, member := n.join(Membership{Topic: topic, Group: group, ClientID: "watched", Strategy: "range"})
	left := false
	defer func() {
		if !left {
			member.Leave()
		}
	}()
	n.until("all records", func() bool { return len(told.received()) == 100 })
	must(member.Commit(n.ctx, 0, Commit{Offset: 100}))
	listed := func() bool { return slices.Contains(answer(n.Groups(n.ctx)), group) }

	n.until("the group to be listed", listed)
	expected := Group{"Stable", "range", []GroupMember{{"watched", []int32{0}}}}
	if n.Lacks().Strategy {
		expected.Strategy = ""
	}
	equal(expected, answer(n.DescribeGroup(n.ctx, group)), "the group")
	n.refused(nonEmptyGroup, "the deletion of a group with a member", n.DeleteGroup(n.ctx, group))
	member.Leave()
	left = true

	n.until("the group to be empty", func() bool { return answer(n.DescribeGroup(n.ctx, group)).State == "Empty" })
	equal(100, answer(n.Committed(n.ctx, group, topic, 0)).Offset, "committed offset")
	n.done(groupIDNotFound, n.DeleteGroup(n.ctx, group))
	check(!listed(), "the deleted group is still listed")
	n.refused(groupIDNotFound, "a second deletion", n.DeleteGroup(n.ctx, group))
}

func offsetsForTimes(n *node) {
	topic := n.filled("offsets-for-times")
	at := func(at int64) int64 { return answer(n.Offset(n.ctx, topic, 0, at)) }
	equal(0, at(Start), "earliest")
	equal(100, at(End), "latest")
	equal(42, at(timestampOf(42).UnixMilli()), "offset of a timestamp")
	equal(-1, at(timestampOf(100).UnixMilli()), "after the last")
	if !n.Lacks().MaxTimestamp {
		equal(99, at(MaxTimestamp), "KIP-734 max timestamp")
	}
}

func deleteRecords(n *node) {
	topic := n.filled("delete-records")
	remove := func(before int64) int64 { return answer(n.DeleteRecords(n.ctx, topic, 0, before)) }
	equal(30, remove(30), "low watermark")
	equal(30, answer(n.Offset(n.ctx, topic, 0, Start)), "earliest")
	if !n.Lacks().Reset {
		n.reads(topic, 10, 30, 100)
	}
	_, err := n.DeleteRecords(n.ctx, topic, 0, 101)
	n.refused(offsetOutOfRange, "a deletion beyond the end", err)
	equal(30, remove(7), "low watermark once more")
	equal(100, remove(End), "low watermark when all is deleted")
	equal([]int64{100}, n.produce(topic, Producing{}, []Record{{Value: []byte("goes on")}}), "offset of the next")
}

func configs(n *node) {
	topic := n.createTopic("describe-and-alter-configs", 1, map[string]string{"retention.ms": "123456"})
	entry := func(key string) Config { return n.config(Resource{Topic, topic}, key) }
	small := "2000"
	equal(Config{"123456", dynamicTopicConfig, false}, entry("retention.ms"), "retention.ms as created")
	equal(Config{"delete", defaultConfig, false}, entry("cleanup.policy"), "cleanup.policy by default")
	must(n.AlterConfig(n.ctx, Resource{Topic, topic}, "max.message.bytes", &small))
	n.until("the new value to be described", func() bool { return entry("max.message.bytes").Value == "2000" })
	equal("123456", entry("retention.ms").Value, "retention.ms, which nobody changed")
	n.refusedRecord(topic, Producing{}, bytes.Repeat([]byte("x"), 4_000), "a record over the topic's limit")
	must(n.AlterConfig(n.ctx, Resource{Topic, topic}, "retention.ms", nil))
	n.until("the default to be back", func() bool { return entry("retention.ms").Value == "604800000" })
	n.refusedChange(invalidConfig, Resource{Topic, topic}, "retention.ms", "soon")
	n.refusedChange(invalidConfig, Resource{Topic, topic}, "no.such.key", "1")
	equal("1048588", n.config(n.broker(), "message.max.bytes").Value, "message.max.bytes of the broker")
}

func (n *node) config(of Resource, key string) Config {
	return answer(n.DescribeConfigs(n.ctx, of))[key]
}

func (n *node) refusedChange(code int16, of Resource, key, value string) {
	before := n.config(of, key)
	err := n.AlterConfig(n.ctx, of, key, &value)
	if !n.Lacks().Refusals {
		n.refused(code, key+"="+value, err)
	}
	// One broker may have heard of earlier changes, and another not yet.
	n.until(key+" to be what it was before a change that was refused", func() bool { return n.config(of, key) == before })
}

// The cluster when all its brokers are there.
func (n *node) cluster() (cluster Cluster) {
	n.until(fmt.Sprintf("%d brokers", brokers), func() bool {
		cluster = answer(n.DescribeCluster(n.ctx))
		return len(cluster.Brokers) == brokers
	})
	return cluster
}

func (n *node) eachBroker() (resources []Resource) {
	for _, id := range n.cluster().Brokers {
		resources = append(resources, Resource{Broker, strconv.Itoa(int(id))})
	}
	return resources
}

func (n *node) broker() Resource { return n.eachBroker()[0] }

// A broker's own value over that of all brokers over its file; what topics without a value of their own follow, whichever
// broker is asked.
func brokerConfigs(n *node) {
	topic, each := Resource{Topic, n.createTopic("alter-broker-config", 1, nil)}, n.eachBroker()
	broker := each[0]
	const key, ofTopic = "message.max.bytes", "max.message.bytes"
	alter := func(of Resource, value string) { must(n.AlterConfig(n.ctx, of, key, &value)) }
	becomes := func(what string, of Resource, key string, expected Config) {
		n.until(what, func() bool { return n.config(of, key) == expected })
	}
	before := n.config(broker, key)
	check(!before.ReadOnly, key+" is read-only")
	check(n.config(broker, "node.id").ReadOnly, "node.id is not read-only")
	// Nobody else is to meet the small limit.
	defer func() {
		for _, one := range each {
			_ = n.AlterConfig(context.Background(), one, key, nil)
		}
		if !n.Lacks().AllBrokers {
			_ = n.AlterConfig(context.Background(), AllBrokers, key, nil)
		}
	}()

	if !n.Lacks().AllBrokers {
		alter(AllBrokers, "3000")
		becomes("the value of all brokers", broker, key, Config{"3000", dynamicDefaultBrokerConfig, false})
		n.until("what is described for all brokers", func() bool { return n.config(AllBrokers, key).Value == "3000" })
		n.refusedChange(invalidRequest, AllBrokers, "listeners", "PLAINTEXT://:9092")
	}
	for _, one := range each {
		alter(one, "2000")
		becomes("the broker's own value", one, key, Config{"2000", dynamicBrokerConfig, false})
	}
	becomes("the topic to follow", topic, ofTopic, Config{"2000", dynamicBrokerConfig, false})
	n.refusedRecord(topic.Name, Producing{}, bytes.Repeat([]byte("x"), 4_000), "a record over the broker's limit")
	n.refusedChange(invalidRequest, broker, "log.dirs", "/tmp")
	n.refusedChange(invalidRequest, broker, key, "many")

	for _, one := range each {
		must(n.AlterConfig(n.ctx, one, key, nil))
	}
	if !n.Lacks().AllBrokers {
		must(n.AlterConfig(n.ctx, AllBrokers, key, nil))
	}
	becomes("the value before", topic, ofTopic, before)
}

// KIP-584, without changing any: the level that there is already, and two that cannot be.
func features(n *node) {
	const name = "metadata.version"
	before := answer(n.Features(n.ctx))
	feature, known := before[name]
	check(known && feature.Level > 0 && feature.Level <= feature.Newest, fmt.Sprintf("%s is %+v", name, feature))
	must(n.UpdateFeature(n.ctx, name, feature.Level))
	n.refused(invalidUpdateVersion, "a level that nobody knows", n.UpdateFeature(n.ctx, name, feature.Newest+1))
	n.refused(invalidUpdateVersion, "a feature that nobody knows", n.UpdateFeature(n.ctx, "no.such.feature", 1))
	equal(before, answer(n.Features(n.ctx)), "features when nothing was changed")
}

func createPartitions(n *node) {
	topic := n.createTopic("create-partitions", 1, nil)
	n.done(invalidPartitions, n.CreatePartitions(n.ctx, topic, 4))
	n.until("four partitions with leaders", func() bool { return n.hasLeaders(topic, 4) })
	n.refused(invalidPartitions, "fewer partitions", n.CreatePartitions(n.ctx, topic, 2))
	sent := []Record{{Partition: 3, Value: []byte("in the new one")}}
	equal([]int64{0}, n.produce(topic, Producing{}, sent), "first offset of the new partition")
}

func describeCluster(n *node) {
	cluster := n.cluster()
	if !n.Lacks().Controller {
		check(slices.Contains(cluster.Brokers, cluster.Controller), "the controller is none of the brokers")
	}
	check(cluster.ID != "", "the cluster has no id")
}

// KIP-496: what a group has committed for one partition goes, once nobody reads the topic.
func deleteGroupOffsets(n *node) {
	topic, group := n.createTopic("delete-group-offsets", 2, nil), unique("delete-group-offsets")
	told, member := n.join(Membership{Topic: topic, Group: group, Strategy: "range"})
	left := false
	defer func() {
		if !left {
			member.Leave()
		}
	}()
	n.until("the member to own both partitions", func() bool { return len(told.owns()) == 2 })
	must(member.Commit(n.ctx, 0, Commit{Offset: 3}))
	must(member.Commit(n.ctx, 1, Commit{Offset: 4}))
	remove := func(group string) error { return n.DeleteOffset(n.ctx, group, topic, 0) }
	committed := func(partition int32) int64 { return answer(n.Committed(n.ctx, group, topic, partition)).Offset }
	n.refused(groupSubscribedToTopic, "a deletion while a member reads the topic", remove(group))
	equal(3, committed(0), "the offset after a deletion that was refused")
	member.Leave()
	left = true

	n.until("the group to be empty", func() bool { return answer(n.DescribeGroup(n.ctx, group)).State == "Empty" })
	must(remove(group))
	equal(-1, committed(0), "the offset that was deleted")
	equal(4, committed(1), "the offset of the other partition")
	must(remove(group))
	n.refused(groupIDNotFound, "a deletion of nobody's offsets", remove(unique("nobody")))
}

// KIP-13, KIP-546: a client over its quota is told to be silent. A rate is measured over ten seconds at the least, so a
// silence of some seconds is owed for what goes beyond ten seconds' worth.
func clientQuotas(n *node) {
	const key, rate, count, size = "producer_byte_rate", 10_000.0, 12, 10_000
	topic, client := n.createTopic("client-quotas", 1, nil), unique("client-quotas")
	becomes := func(what string, expected map[string]float64) {
		n.until(what, func() bool { return maps.Equal(answer(n.Quotas(n.ctx, client)), expected) })
	}
	becomes("no quotas", map[string]float64{})
	set := rate
	must(n.AlterQuota(n.ctx, client, key, &set))
	defer func() { _ = n.AlterQuota(context.Background(), client, key, nil) }()
	becomes("the quota", map[string]float64{key: rate})
	check(n.AlterQuota(n.ctx, client, "no_such_rate", &set) != nil, "a quota that nobody knows was accepted")

	var records []Record
	for range count {
		// Nothing that a codec could make smaller, whatever the library's own.
		value := make([]byte, size)
		_, _ = rand.Read(value)
		records = append(records, Record{Value: value})
	}
	throttled := func(client string) time.Duration {
		return answer(n.Throttled(n.ctx, client, topic, records))
	}
	equal(0, throttled(unique("other")), "the silence of a client without a quota")
	told := time.Duration(0)
	n.until("the client to be told to be silent", func() bool {
		told = throttled(client)
		return told > 0
	})
	// What it sent at most, were all of it measured at once, and once more what was sent before the quota counted.
	check(told < 2*count*size/rate*time.Second, fmt.Sprintf("told to be silent for %v", told))
	must(n.AlterQuota(n.ctx, client, key, nil))
	becomes("no quotas again", map[string]float64{})
	n.until("the client to be free", func() bool { return throttled(client) == 0 })
}
