package scenarios

import (
	"context"
	"strconv"
	"time"
)

const offsetOutOfRange = 1

// Where reading begins.
var consumeScenarios = []scenario{
	{"consume-from-start", consumeFromStart},
	{"consume-from-end", consumeFromEnd},
	{"consume-from-offset", consumeFromOffset},
	{"consume-from-timestamp", consumeFromTimestamp},
}

func timestampOf(record int64) time.Time {
	return firstTimestamp.Add(time.Duration(record) * time.Second)
}

// Value i at offset i, one second apart, in several batches.
func (n *node) filled(prefix string) string {
	topic := n.createTopic(prefix, 1, nil)
	n.more(topic, 0, 100)
	return topic
}

func (n *node) more(topic string, first, end int64) {
	var records []Record
	for i := first; i < end; i++ {
		records = append(records, Record{Value: []byte(strconv.FormatInt(i, 10)), Timestamp: timestampOf(i)})
	}
	n.produce(topic, Producing{SmallBatches: true}, records)
}

func (n *node) reads(topic string, from, first, end int64) {
	reader, err := n.Read(n.ctx, topic, 0, from)
	must(err)
	defer reader.Close()
	inOrder(n.take(reader, int(end-first)), first)
}

func inOrder(records []Record, first int64) {
	for i, record := range records {
		equal(first+int64(i), record.Offset, "offset")
		equal(strconv.FormatInt(record.Offset, 10), string(record.Value), "value")
	}
}

func consumeFromStart(n *node) {
	n.reads(n.filled("consume-from-start"), Start, 0, 100)
}

// One record after the other, until the reader stands at the end and sees what comes: from then on it sees all.
func consumeFromEnd(n *node) {
	topic := n.filled("consume-from-end")
	reader, err := n.Read(n.ctx, topic, 0, End)
	must(err)
	defer reader.Close()
	end := int64(100)
	var first []Record
	n.until("a record produced after", func() bool {
		n.more(topic, end, end+1)
		end++
		ctx, cancel := context.WithTimeout(n.ctx, 300*time.Millisecond)
		defer cancel()
		record, err := reader.Next(ctx)
		if err == nil {
			first = append(first, record)
		}
		return err == nil
	})
	check(first[0].Offset >= 100, "a record from before the end was read")
	n.more(topic, end, end+10)
	rest := n.take(reader, int(end+10-first[0].Offset)-1)
	inOrder(append(first, rest...), first[0].Offset)
}

func consumeFromOffset(n *node) {
	topic := n.filled("consume-from-offset")
	n.reads(topic, 42, 42, 100)
	n.reads(topic, 7, 7, 100)
	if !n.Lacks().Reset {
		n.reads(topic, 1_000, 0, 100)
		return
	}
	reader, err := n.Read(n.ctx, topic, 0, 1_000)
	if err == nil {
		defer reader.Close()
		_, err = reader.Next(n.ctx)
	}
	n.refused(offsetOutOfRange, "an offset beyond the end", err)
}

func consumeFromTimestamp(n *node) {
	topic := n.filled("consume-from-timestamp")
	at := func(timestamp time.Time) int64 {
		return answer(n.Offset(n.ctx, topic, 0, timestamp.UnixMilli()))
	}
	equal(42, at(timestampOf(41).Add(time.Millisecond)), "first offset at or after the timestamp")
	equal(0, at(time.UnixMilli(0)), "offset for the oldest timestamp")
	equal(-1, at(timestampOf(100)), "offset for a timestamp after the last record")
	n.reads(topic, 42, 42, 100)
}
