package scenarios

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	scenarioLimit = 120 * time.Second
	deadline      = 40 * time.Second
	pause         = 10 * time.Millisecond
	restart       = "commit-and-resume-after-restart"
)

type scenario struct {
	name string
	run  func(*node)
}

var scenarios = slices.Concat(produceScenarios, consumeScenarios, groupScenarios, adminScenarios)

// Main is a whole program: BOOTSTRAP [FILTER], or BOOTSTRAP --before RUN, --after RUN, --member TOPIC GROUP.
func Main(open func(bootstrap string) (Client, error)) {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: BOOTSTRAP [FILTER]")
		os.Exit(2)
	}
	client, err := open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if brokers > 1 {
		client = persistent{client}
	}
	well := true
	switch rest := os.Args[2:]; {
	case len(rest) == 3 && rest[0] == "--member":
		runMember(client, rest[1], rest[2])
	case len(rest) == 2 && rest[0] == "--before":
		well = passes(client, scenario{restart + ": before", func(n *node) { beforeRestart(n, rest[1]) }})
	case len(rest) == 2 && rest[0] == "--after":
		well = passes(client, scenario{restart, func(n *node) { afterRestart(n, rest[1]) }})
	default:
		wanted := strings.Join(rest, "")
		for _, scenario := range scenarios {
			if strings.Contains(scenario.name, wanted) && !slices.Contains(client.Lacks().Scenarios, scenario.name) {
				well = passes(client, scenario) && well
			}
		}
	}
	if !well {
		os.Exit(1)
	}
}

func passes(client Client, scenario scenario) bool {
	ctx, cancel := context.WithTimeout(context.Background(), scenarioLimit)
	defer cancel()
	failed := make(chan string, 1)
	go func() {
		defer func() {
			reason := ""
			if thrown := recover(); thrown != nil {
				reason = fmt.Sprint(thrown)
				if _, ours := thrown.(failure); !ours {
					debug.PrintStack()
				}
			}
			failed <- reason
		}()
		scenario.run(&node{client, ctx})
	}()
	reason := fmt.Sprintf("not done after %v", scenarioLimit)
	select {
	case reason = <-failed:
	case <-ctx.Done():
	}
	if reason != "" {
		fmt.Printf("FAIL %s: %s\n", scenario.name, strings.ReplaceAll(reason, "\n", " "))
		return false
	}
	fmt.Printf("PASS %s\n", scenario.name)
	return true
}

// How many brokers there are. Where there is more than one, one or another is being killed and started again at any time:
// the data has to be what it always is, but an operation that was answered by nobody is done again.
var brokers = brokersToBe()

func brokersToBe() int {
	count, err := strconv.Atoi(os.Getenv("BROKERS"))
	if err != nil {
		return 1
	}
	return count
}

// A node under test, as one client sees it.
type node struct {
	Client
	ctx context.Context
}

// What ends a scenario.
type failure string

func fail(format string, arguments ...any) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

func check(holds bool, otherwise string) {
	if !holds {
		fail("%s", otherwise)
	}
}

func equal[T any](expected, actual T, what string) {
	if !reflect.DeepEqual(expected, actual) {
		fail("%s: expected %.300s, got %.300s", what, fmt.Sprint(expected), fmt.Sprint(actual))
	}
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func answer[T any](value T, err error) T {
	must(err)
	return value
}

// What became of a change. Where nodes are killed, one may have made it and not have lived to say so; then the change, which
// the library asks for again, is refused, for it is made already.
func (n *node) done(already int16, err error) {
	if brokers == 1 || err == nil || n.Code(err) != already {
		must(err)
	}
}

func (n *node) refused(code int16, what string, err error) {
	if err == nil {
		fail("%s was accepted", what)
	}
	if n.Code(err) != code {
		fail("%s: expected error code %d, got %v", what, code, err)
	}
}

// A record that is too large. Where a connection broke before anybody refused it, it is sent again: nobody keeps it.
func (n *node) refusedRecord(topic string, how Producing, value []byte, what string) {
	_, err := n.Produce(n.ctx, topic, how, []Record{{Value: value}})
	if brokers > 1 && err != nil && n.Code(err) != messageTooLarge {
		n.until("an answer of a broker", func() bool {
			_, err = n.Produce(n.ctx, topic, how, []Record{{Value: value}})
			return err == nil || n.Code(err) == messageTooLarge
		})
	}
	n.refused(messageTooLarge, what, err)
}

// Asks again until the answer is yes.
func (n *node) until(what string, holds func() bool) {
	end := time.Now().Add(deadline)
	for !holds() {
		if time.Now().After(end) {
			fail("waited %v for: %s", deadline, what)
		}
		select {
		case <-time.After(pause):
		case <-n.ctx.Done():
			fail("waiting for: %s", what)
		}
	}
}

func (n *node) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(n.ctx, deadline)
}

func unique(prefix string) string {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	return prefix + "-" + hex.EncodeToString(random)
}

func (n *node) createTopic(prefix string, partitions int32, configs map[string]string) string {
	topic := unique(prefix)
	n.done(topicAlreadyExists, n.CreateTopic(n.ctx, topic, partitions, configs))
	n.until("the topic's leaders", func() bool { return n.hasLeaders(topic, partitions) })
	return topic
}

func (n *node) hasLeaders(topic string, partitions int32) bool {
	leaders, err := n.Leaders(n.ctx, topic)
	return err == nil && len(leaders) == int(partitions) && !slices.Contains(leaders, -1)
}

func (n *node) produce(topic string, how Producing, records []Record) []int64 {
	ctx, cancel := n.within()
	defer cancel()
	how.Idempotent = how.Idempotent || brokers > 1
	offsets, err := n.Produce(ctx, topic, how, records)
	must(err)
	return offsets
}

// The next records of a reader.
func (n *node) take(reader Reader, count int) []Record {
	ctx, cancel := n.within()
	defer cancel()
	var taken []Record
	for len(taken) < count {
		record, err := reader.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			fail("waited %v for %d records, had %d", deadline, count, len(taken))
		}
		must(err)
		taken = append(taken, record)
	}
	return taken
}

// Everything in a partition, read from its start to its end.
func (n *node) readAll(topic string, partition int32, count int) []Record {
	reader, err := n.Read(n.ctx, topic, partition, Start)
	must(err)
	defer reader.Close()
	taken := n.take(reader, count)
	equal(int64(count), answer(n.Offset(n.ctx, topic, partition, End)), "end offset")
	return taken
}
