package scenarios

import (
	"bytes"
	"slices"
)

const (
	unknownTopicOrPartition = 3
	invalidTopic            = 17
	topicAlreadyExists      = 36
	invalidPartitions       = 37
	invalidConfig           = 40
	nonEmptyGroup           = 68
	groupIDNotFound         = 69

	// Sources of configuration values, as DescribeConfigs numbers them.
	dynamicTopicConfig = 1
	defaultConfig      = 5
)

// What an operator asks.
var adminScenarios = []scenario{
	{"topic-create-describe-delete", topics},
	{"list-describe-delete-groups", groups},
	{"offsets-for-times", offsetsForTimes},
	{"delete-records", deleteRecords},
	{"describe-and-alter-configs", configs},
	{"create-partitions", createPartitions},
	{"describe-cluster", describeCluster},
}

func topics(n *node) {
	topic := n.createTopic("topic-admin", 3, map[string]string{"retention.ms": "123456"})
	n.refused(topicAlreadyExists, "a second create", n.CreateTopic(n.ctx, topic, 3, nil))
	n.refused(invalidTopic, "a create of not/a/topic", n.CreateTopic(n.ctx, "not/a/topic", 1, nil))
	must(n.DeleteTopic(n.ctx, topic))
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

	check(listed(), "the group is not listed")
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
	must(n.DeleteGroup(n.ctx, group))
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
	entry := func(key string) Config { return answer(n.DescribeTopicConfigs(n.ctx, topic))[key] }
	alter := func(key, value string) error { return n.AlterTopicConfig(n.ctx, topic, key, &value) }
	equal(Config{"123456", dynamicTopicConfig}, entry("retention.ms"), "retention.ms as created")
	equal(Config{"delete", defaultConfig}, entry("cleanup.policy"), "cleanup.policy by default")
	must(alter("max.message.bytes", "2000"))
	n.until("the new value to be described", func() bool { return entry("max.message.bytes").Value == "2000" })
	equal("123456", entry("retention.ms").Value, "retention.ms, which nobody changed")
	_, err := n.Produce(n.ctx, topic, Producing{}, []Record{{Value: bytes.Repeat([]byte("x"), 4_000)}})
	n.refused(messageTooLarge, "a record over the topic's limit", err)
	must(n.AlterTopicConfig(n.ctx, topic, "retention.ms", nil))
	n.until("the default to be back", func() bool { return entry("retention.ms").Value == "604800000" })
	n.refused(invalidConfig, "retention.ms=soon", alter("retention.ms", "soon"))
	n.refused(invalidConfig, "no.such.key=1", alter("no.such.key", "1"))
	broker := answer(n.DescribeCluster(n.ctx)).Brokers[0]
	described := answer(n.DescribeBrokerConfigs(n.ctx, broker))
	equal("1048588", described["message.max.bytes"].Value, "message.max.bytes of the broker")
}

func createPartitions(n *node) {
	topic := n.createTopic("create-partitions", 1, nil)
	must(n.CreatePartitions(n.ctx, topic, 4))
	n.until("four partitions with leaders", func() bool { return n.hasLeaders(topic, 4) })
	n.refused(invalidPartitions, "fewer partitions", n.CreatePartitions(n.ctx, topic, 2))
	sent := []Record{{Partition: 3, Value: []byte("in the new one")}}
	equal([]int64{0}, n.produce(topic, Producing{}, sent), "first offset of the new partition")
}

func describeCluster(n *node) {
	cluster := answer(n.DescribeCluster(n.ctx))
	equal(1, len(cluster.Brokers), "brokers")
	equal(cluster.Brokers[0], cluster.Controller, "controller")
	check(cluster.ID != "", "the cluster has no id")
}
