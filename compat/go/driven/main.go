// The scenarios through a client of another language: a driver, which is a program that does with its library what it
// is asked for on its standard input, one JSON object a line, and answers on its standard output. It ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"ottla/compat/scenarios"
)

// The words of the driver's command, one a line.
const command = "DRIVER"

func main() {
	scenarios.Main(start)
}

type client struct {
	lacks scenarios.Lacks
	input *json.Encoder

	lock    sync.Mutex
	last    int
	waiting map[int]chan message
	streams map[int]*stream
}

// What a driver says: an answer to a call, or what happened on a stream, which is a reader or a member.
type message struct {
	ID     int             `json:"id"`
	Value  json.RawMessage `json:"value"`
	Error  string          `json:"error"`
	Code   int16           `json:"code"`
	Stream int             `json:"stream"`
	Event  string          `json:"event"`
}

type refusal struct {
	text string
	code int16
}

func (r refusal) Error() string { return r.text }

func (m message) err() error {
	if m.Error == "" {
		return nil
	}
	return refusal{m.Error, m.Code}
}

type record struct {
	Partition int32              `json:"partition"`
	Offset    int64              `json:"offset"`
	Key       []byte             `json:"key"`
	Value     []byte             `json:"value"`
	Headers   []scenarios.Header `json:"headers"`
	// Milliseconds, 0 for the library's choice.
	Timestamp int64 `json:"timestamp"`
}

func start(bootstrap string) (scenarios.Client, error) {
	words := strings.Split(os.Getenv(command), "\n")
	driver := exec.Command(words[0], append(words[1:], bootstrap)...)
	driver.Stderr = os.Stderr
	input, err := driver.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := driver.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := driver.Start(); err != nil {
		return nil, err
	}
	c := &client{input: json.NewEncoder(input), waiting: map[int]chan message{}, streams: map[int]*stream{}}
	lines := bufio.NewReader(output)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%v ended at once: %w", words, err)
	}
	if err := json.Unmarshal(first, &c.lacks); err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	go c.listen(lines)
	return c, nil
}

func (c *client) listen(lines *bufio.Reader) {
	for {
		line, err := lines.ReadBytes('\n')
		var said message
		if err == nil {
			if err := json.Unmarshal(line, &said); err != nil {
				fmt.Fprintf(os.Stderr, "not from the driver: %s", line)
				continue
			}
		}
		c.lock.Lock()
		switch {
		case err != nil:
			for id, waiting := range c.waiting {
				waiting <- message{Error: "the driver ended"}
				delete(c.waiting, id)
			}
		case said.Stream != 0:
			if stream := c.streams[said.Stream]; stream != nil {
				stream.put(said)
			}
		case c.waiting[said.ID] != nil:
			c.waiting[said.ID] <- said
			delete(c.waiting, said.ID)
		}
		c.lock.Unlock()
		if err != nil {
			return
		}
	}
}

type object map[string]any

func (c *client) call(ctx context.Context, name string, with object, value any) error {
	answer := make(chan message, 1)
	c.lock.Lock()
	c.last++
	id := c.last
	c.waiting[id] = answer
	err := c.input.Encode(object{"id": id, "call": name, "with": with})
	c.lock.Unlock()
	if err != nil {
		return err
	}
	select {
	case said := <-answer:
		if said.Error != "" || value == nil {
			return said.err()
		}
		return json.Unmarshal(said.Value, value)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *client) Lacks() scenarios.Lacks { return c.lacks }

func (c *client) Code(err error) int16 {
	var refused refusal
	if errors.As(err, &refused) {
		return refused.code
	}
	return 0
}

// What a driver said of one stream and nobody has taken yet.
type stream struct {
	number int
	lock   sync.Mutex
	queue  []message
	news   chan struct{}
}

func (c *client) open() *stream {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.last++
	one := &stream{number: c.last, news: make(chan struct{}, 1)}
	c.streams[one.number] = one
	return one
}

func (s *stream) put(said message) {
	s.lock.Lock()
	s.queue = append(s.queue, said)
	s.lock.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *stream) next(ctx context.Context) (message, error) {
	for {
		s.lock.Lock()
		if len(s.queue) > 0 {
			next := s.queue[0]
			s.queue = s.queue[1:]
			s.lock.Unlock()
			return next, nil
		}
		s.lock.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
			return message{}, ctx.Err()
		}
	}
}

func recordOf(said message) (scenarios.Record, error) {
	var theirs record
	err := json.Unmarshal(said.Value, &theirs)
	return scenarios.Record{
		Partition: theirs.Partition, Offset: theirs.Offset, Key: theirs.Key, Value: theirs.Value,
		Headers: theirs.Headers, Timestamp: time.UnixMilli(theirs.Timestamp),
	}, err
}

func theirs(records []scenarios.Record) []record {
	var theirs []record
	for _, ours := range records {
		one := record{Partition: ours.Partition, Key: ours.Key, Value: ours.Value, Headers: ours.Headers}
		if !ours.Timestamp.IsZero() {
			one.Timestamp = ours.Timestamp.UnixMilli()
		}
		theirs = append(theirs, one)
	}
	return theirs
}

func (c *client) Produce(
	ctx context.Context, topic string, how scenarios.Producing, records []scenarios.Record,
) ([]int64, error) {
	var offsets []int64
	err := c.call(ctx, "produce", object{"topic": topic, "how": how, "records": theirs(records)}, &offsets)
	return offsets, err
}

type reader struct {
	*client
	*stream
}

func (c *client) Read(
	ctx context.Context, topic string, partition int32, from int64,
) (scenarios.Reader, error) {
	one := reader{c, c.open()}
	with := object{"stream": one.number, "topic": topic, "partition": partition, "from": from}
	return one, c.call(ctx, "read", with, nil)
}

func (r reader) Next(ctx context.Context) (scenarios.Record, error) {
	said, err := r.next(ctx)
	if err == nil {
		err = said.err()
	}
	if err != nil {
		return scenarios.Record{}, err
	}
	return recordOf(said)
}

func (c *client) close(s *stream) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := c.call(ctx, "close", object{"stream": s.number}, nil); err != nil {
		fmt.Fprintln(os.Stderr, "close:", err)
	}
}

func (r reader) Close() { r.close(r.stream) }

type member struct {
	*client
	*stream
	topic string
}

func (c *client) Join(membership scenarios.Membership, listener scenarios.Listener) (scenarios.Member, error) {
	one := member{c, c.open(), membership.Topic}
	go func() {
		for {
			said, err := one.next(context.Background())
			if err != nil {
				return
			}
			one.tell(said, listener)
		}
	}()
	return one, c.call(context.Background(), "join", object{
		"stream": one.number, "topic": membership.Topic, "group": membership.Group, "strategy": membership.Strategy,
		"clientId": membership.ClientID, "instance": membership.Instance,
		"session": membership.Session.Milliseconds(), "heartbeat": membership.Heartbeat.Milliseconds(),
	}, nil)
}

func (m member) tell(said message, listener scenarios.Listener) {
	var partitions []int32
	var err error
	switch said.Event {
	case "assigned":
		err = json.Unmarshal(said.Value, &partitions)
		listener.Assigned(partitions)
	case "revoked":
		err = json.Unmarshal(said.Value, &partitions)
		listener.Revoked(partitions)
	case "record":
		var received scenarios.Record
		received, err = recordOf(said)
		listener.Received(received)
	default:
		err = said.err()
	}
	if err != nil {
		listener.Failed(err)
	}
}

func (m member) Commit(ctx context.Context, partition int32, commit scenarios.Commit) error {
	return m.call(ctx, "commit", object{
		"stream": m.number, "topic": m.topic, "partition": partition,
		"offset": commit.Offset, "metadata": commit.Metadata,
	}, nil)
}

func (m member) Leave() { m.close(m.stream) }

func (c *client) CreateTopic(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	if configs == nil {
		configs = map[string]string{}
	}
	return c.call(ctx, "createTopic", object{"topic": topic, "partitions": partitions, "configs": configs}, nil)
}

func (c *client) CreatePartitions(ctx context.Context, topic string, total int32) error {
	return c.call(ctx, "createPartitions", object{"topic": topic, "total": total}, nil)
}

func (c *client) DeleteTopic(ctx context.Context, topic string) error {
	return c.call(ctx, "deleteTopic", object{"topic": topic}, nil)
}

func (c *client) Leaders(ctx context.Context, topic string) ([]int32, error) {
	var leaders []int32
	err := c.call(ctx, "leaders", object{"topic": topic}, &leaders)
	return leaders, err
}

func (c *client) Offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	var offset int64
	err := c.call(ctx, "offset", object{"topic": topic, "partition": partition, "at": at}, &offset)
	return offset, err
}

func (c *client) DeleteRecords(ctx context.Context, topic string, partition int32, before int64) (int64, error) {
	var low int64
	err := c.call(ctx, "deleteRecords", object{"topic": topic, "partition": partition, "before": before}, &low)
	return low, err
}

func (c *client) Groups(ctx context.Context) ([]string, error) {
	var names []string
	err := c.call(ctx, "groups", object{}, &names)
	return names, err
}

func (c *client) DescribeGroup(ctx context.Context, group string) (scenarios.Group, error) {
	var described scenarios.Group
	err := c.call(ctx, "describeGroup", object{"group": group}, &described)
	return described, err
}

func (c *client) DeleteGroup(ctx context.Context, group string) error {
	return c.call(ctx, "deleteGroup", object{"group": group}, nil)
}

func (c *client) Committed(
	ctx context.Context, group, topic string, partition int32,
) (scenarios.Commit, error) {
	var commit scenarios.Commit
	err := c.call(ctx, "committed", object{"group": group, "topic": topic, "partition": partition}, &commit)
	return commit, err
}

func (c *client) DeleteOffset(ctx context.Context, group, topic string, partition int32) error {
	return c.call(ctx, "deleteOffset", object{"group": group, "topic": topic, "partition": partition}, nil)
}

func (c *client) DescribeConfigs(ctx context.Context, of scenarios.Resource) (map[string]scenarios.Config, error) {
	configs := map[string]scenarios.Config{}
	err := c.call(ctx, "describeConfigs", object{"kind": of.Kind, "name": of.Name}, &configs)
	return configs, err
}

func (c *client) AlterConfig(ctx context.Context, of scenarios.Resource, key string, value *string) error {
	return c.call(ctx, "alterConfig", object{"kind": of.Kind, "name": of.Name, "key": key, "value": value}, nil)
}

func (c *client) DescribeCluster(ctx context.Context) (scenarios.Cluster, error) {
	var cluster scenarios.Cluster
	err := c.call(ctx, "describeCluster", object{}, &cluster)
	return cluster, err
}

func (c *client) Features(ctx context.Context) (map[string]scenarios.Feature, error) {
	features := map[string]scenarios.Feature{}
	err := c.call(ctx, "features", object{}, &features)
	return features, err
}

func (c *client) UpdateFeature(ctx context.Context, feature string, level int16) error {
	return c.call(ctx, "updateFeature", object{"feature": feature, "level": level}, nil)
}

func (c *client) Quotas(ctx context.Context, clientID string) (map[string]float64, error) {
	quotas := map[string]float64{}
	err := c.call(ctx, "quotas", object{"clientId": clientID}, &quotas)
	return quotas, err
}

func (c *client) AlterQuota(ctx context.Context, clientID, key string, value *float64) error {
	return c.call(ctx, "alterQuota", object{"clientId": clientID, "key": key, "value": value}, nil)
}

func (c *client) Throttled(
	ctx context.Context, clientID, topic string, records []scenarios.Record,
) (time.Duration, error) {
	var millis int64
	err := c.call(ctx, "throttled", object{"clientId": clientID, "topic": topic, "records": theirs(records)}, &millis)
	return time.Duration(millis) * time.Millisecond, err
}
