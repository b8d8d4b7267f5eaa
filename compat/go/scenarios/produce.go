package scenarios

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// The default of message.max.bytes.
	messageMaxBytes = 1_048_588
	// A batch header (61), then the lengths, attributes, deltas and counts of one record with a null key.
	overheadOfOneLargeRecord = 72

	messageTooLarge = 10
)

// Recent, so that retention does not take the records away.
var firstTimestamp = time.UnixMilli(time.Now().UnixMilli() - 3_600_000)

// What goes in comes out.
var produceScenarios = []scenario{
	{"produce-none", produceWith("none")},
	{"produce-gzip", produceWith("gzip")},
	{"produce-snappy", produceWith("snappy")},
	{"produce-lz4", produceWith("lz4")},
	{"produce-zstd", produceWith("zstd")},
	{"keys-and-headers", keysAndHeaders},
	{"null-key-and-value", nullKeyAndValue},
	{"idempotent-producer", idempotentProducer},
	{"record-at-size-limit", recordAtSizeLimit},
	{"record-over-size-limit", recordOverSizeLimit},
}

func sequence(first, end int64) []int64 {
	var numbers []int64
	for i := first; i < end; i++ {
		numbers = append(numbers, i)
	}
	return numbers
}

func produceWith(codec string) func(*node) {
	return func(n *node) {
		topic := n.createTopic("produce-"+codec, 1, nil)
		var records []Record
		for i := range 2_000 {
			value := fmt.Sprintf("record %d %s", i, strings.Repeat("la", i%200))
			records = append(records, Record{Value: []byte(value)})
		}
		equal(sequence(0, 2_000), n.produce(topic, Producing{Codec: codec}, records), "acknowledged offsets")
		for i, record := range n.readAll(topic, 0, len(records)) {
			equal(int64(i), record.Offset, "offset")
			equal(string(records[i].Value), string(record.Value), "value")
		}
	}
}

func keysAndHeaders(n *node) {
	topic := n.createTopic("keys-and-headers", 1, nil)
	headers := []Header{{"trace", []byte("a")}, {"trace", []byte("b")}, {"empty", []byte{}}}
	if !n.Lacks().NullHeader {
		headers = append(headers, Header{"none", nil})
	}
	n.produce(topic, Producing{}, []Record{
		{Key: []byte("clé"), Value: []byte("värde"), Headers: headers, Timestamp: firstTimestamp},
	})
	record := n.readAll(topic, 0, 1)[0]
	equal("clé", string(record.Key), "key")
	equal("värde", string(record.Value), "value")
	equal(len(headers), len(record.Headers), "headers")
	for i, header := range record.Headers {
		equal(headers[i].Key, header.Key, "key of a header")
		equal(string(headers[i].Value), string(header.Value), "value of header "+header.Key)
	}
	equal(firstTimestamp.UnixMilli(), record.Timestamp.UnixMilli(), "timestamp")
}

func nullKeyAndValue(n *node) {
	topic := n.createTopic("null-key-and-value", 1, nil)
	sent := []Record{{Key: []byte("tombstone")}, {Key: []byte{}, Value: []byte{}}, {Value: []byte("keyless")}, {}}
	if n.Lacks().NullRecord {
		sent = sent[:3]
	}
	n.produce(topic, Producing{}, sent)
	read := n.readAll(topic, 0, len(sent))
	if n.Lacks().Empty {
		sent[1].Key, sent[1].Value = nil, nil
	}
	for i, record := range read {
		same(sent[i].Key, record.Key, "key")
		same(sent[i].Value, record.Value, "value")
	}
}

// Null is not the same as empty.
func same(expected, actual []byte, what string) {
	check((expected == nil) == (actual == nil) && bytes.Equal(expected, actual),
		fmt.Sprintf("%s: expected %#v, got %#v", what, expected, actual))
}

// Many small batches in flight at once to several partitions: each arrives once, in order.
func idempotentProducer(n *node) {
	topic := n.createTopic("idempotent-producer", 3, nil)
	var records []Record
	for i := range 9_000 {
		records = append(records, Record{Partition: int32(i % 3), Value: []byte(strconv.Itoa(i / 3))})
	}
	n.produce(topic, Producing{Idempotent: true, SmallBatches: true}, records)
	for partition := range int32(3) {
		for i, record := range n.readAll(topic, partition, 3_000) {
			equal(strconv.Itoa(i), string(record.Value), fmt.Sprintf("value of partition %d", partition))
		}
	}
}

func valueOfSize(size int) []byte {
	return bytes.Repeat([]byte("x"), size)
}

func recordAtSizeLimit(n *node) {
	topic := n.createTopic("record-at-size-limit", 1, nil)
	value := valueOfSize(messageMaxBytes - overheadOfOneLargeRecord)
	n.produce(topic, Producing{Large: true}, []Record{{Value: value}})
	check(bytes.Equal(value, n.readAll(topic, 0, 1)[0].Value), "the large value came back changed")
}

func recordOverSizeLimit(n *node) {
	topic := n.createTopic("record-over-size-limit", 1, nil)
	value := valueOfSize(messageMaxBytes - overheadOfOneLargeRecord + 1)
	n.refusedRecord(topic, Producing{Large: true}, value, "a record over the limit")
	n.produce(topic, Producing{}, []Record{{Value: []byte("small")}})
	equal("small", string(n.readAll(topic, 0, 1)[0].Value), "what is left")
}
