package scenarios

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	groupPartitions = 6

	unknownMemberID  = 25
	fencedInstanceID = 82
)

// Members that come, go, die and come back.
var groupScenarios = []scenario{
	{"group-of-three", groupOfThree},
	{"cooperative-rebalance", cooperativeRebalance},
	{"static-membership", staticMembership},
}

// Remembers what happened to a member.
type ledger struct {
	lock     sync.Mutex
	owned    []int32
	revoked  []int32
	calls    int
	records  []Record
	failures []error
}

func (l *ledger) locked(change func()) {
	l.lock.Lock()
	defer l.lock.Unlock()
	change()
}

func (l *ledger) Assigned(partitions []int32) {
	l.locked(func() {
		l.calls++
		l.owned = append(l.owned, partitions...)
		slices.Sort(l.owned)
	})
}

func (l *ledger) Revoked(partitions []int32) {
	l.locked(func() {
		l.calls++
		l.owned = slices.DeleteFunc(l.owned, func(p int32) bool { return slices.Contains(partitions, p) })
		l.revoked = append(l.revoked, partitions...)
		slices.Sort(l.revoked)
	})
}

func (l *ledger) Received(record Record) { l.locked(func() { l.records = append(l.records, record) }) }

func (l *ledger) Failed(err error) {
	fmt.Fprintln(os.Stderr, "member:", err)
	l.locked(func() { l.failures = append(l.failures, err) })
}

func (l *ledger) owns() (owned []int32) {
	l.locked(func() { owned = slices.Clone(l.owned) })
	return owned
}

func (l *ledger) received() (records []Record) {
	l.locked(func() { records = slices.Clone(l.records) })
	return records
}

func (l *ledger) errors() (errors []error) {
	l.locked(func() { errors = slices.Clone(l.failures) })
	return errors
}

// A member in a process of its own, so that it can be killed. It leaves when its standard input ends.
type process struct {
	ledger
	command *exec.Cmd
	stdin   io.Closer
}

func (n *node) start(topic, group string) *process {
	command := exec.Command(os.Args[0], os.Args[1], "--member", topic, group)
	command.Stderr = os.Stderr
	stdin := answer(command.StdinPipe())
	stdout := answer(command.StdoutPipe())
	must(command.Start())
	member := &process{command: command, stdin: stdin}
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "owned":
				var owned []int32
				for number := range strings.FieldsSeq(rest) {
					partition, _ := strconv.Atoi(number)
					owned = append(owned, int32(partition))
				}
				member.locked(func() { member.owned = owned })
			case "record":
				member.Received(Record{Value: []byte(rest)})
			}
		}
	}()
	return member
}

func (p *process) leave() {
	must(p.stdin.Close())
	must(p.command.Wait())
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// Prints what happens to a member, and commits each record.
type printing struct {
	ledger
	received chan Record
	// Held from a change until it is said: partitions may come all at once, and what is said last is believed.
	saying sync.Mutex
}

func (p *printing) Assigned(partitions []int32) { p.say(func() { p.ledger.Assigned(partitions) }) }
func (p *printing) Revoked(partitions []int32)  { p.say(func() { p.ledger.Revoked(partitions) }) }
func (p *printing) Received(record Record)      { p.received <- record }

func (p *printing) say(change func()) {
	p.saying.Lock()
	defer p.saying.Unlock()
	change()
	fmt.Println("owned", strings.Trim(fmt.Sprint(p.owns()), "[]"))
}

func runMember(client Client, topic, group string) {
	listener := &printing{received: make(chan Record)}
	member, err := client.Join(Membership{
		Topic: topic, Group: group, Strategy: "roundrobin", Session: 6 * time.Second, Heartbeat: 500 * time.Millisecond,
	}, listener)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		select {
		case record := <-listener.received:
			fmt.Println("record", string(record.Value))
			// It fails while a partition moves: another member will read the record again.
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			_ = member.Commit(ctx, record.Partition, Commit{Offset: record.Offset + 1})
			cancel()
		case <-ended:
			go func() {
				for range listener.received {
				}
			}()
			member.Leave()
			return
		}
	}
}

func groupOfThree(n *node) {
	topic, group := n.createTopic("group-of-three", groupPartitions, nil), unique("group-of-three")
	members := []*process{n.start(topic, group), n.start(topic, group), n.start(topic, group)}
	defer func() {
		for _, member := range members {
			member.kill()
		}
	}()
	present := slices.Clone(members)
	settled := func() bool {
		var owned []int32
		for _, member := range present {
			owns := member.owns()
			if len(owns) != groupPartitions/len(present) {
				return false
			}
			owned = append(owned, owns...)
		}
		slices.Sort(owned)
		return slices.Equal(owned, []int32{0, 1, 2, 3, 4, 5})
	}
	sawAll := func(count int) bool {
		seen := map[string]bool{}
		for _, member := range members {
			for _, record := range member.received() {
				seen[string(record.Value)] = true
			}
		}
		return len(seen) == count
	}
	n.until("three members with two partitions each", settled)
	n.spread(topic, 0, 300)
	n.until("all records of three members", func() bool { return sawAll(300) })
	present[0].leave()
	present = present[1:]
	n.until("two members with three partitions each", settled)
	n.spread(topic, 300, 600)
	n.until("all records of two members", func() bool { return sawAll(600) })
	present[0].kill()
	present = present[1:]
	n.spread(topic, 600, 900)
	n.until("one member with all partitions", settled)
	n.until("all records of the last member", func() bool { return sawAll(900) })
	present[0].leave()
}

func (n *node) spread(topic string, first, end int) {
	var records []Record
	for i := first; i < end; i++ {
		records = append(records, Record{Partition: int32(i % groupPartitions), Value: []byte(strconv.Itoa(i))})
	}
	n.produce(topic, Producing{}, records)
}

func (n *node) join(membership Membership) (*ledger, Member) {
	membership.Heartbeat = 300 * time.Millisecond
	membership.Session = 30 * time.Second
	if brokers > 1 && membership.Instance == "" {
		// A goodbye that meets a dead coordinator is not said again: the end of the session has to do.
		membership.Session = 6 * time.Second
	}
	told := &ledger{}
	return told, answer(n.Join(membership, told))
}

// KIP-429: a newcomer costs the old member only the partitions that really move.
func cooperativeRebalance(n *node) {
	topic, group := n.createTopic("cooperative-rebalance", 4, nil), unique("cooperative-rebalance")
	membership := Membership{Topic: topic, Group: group, Strategy: "cooperative-sticky"}
	first, one := n.join(membership)
	defer one.Leave()
	n.until("the first member to own all four", func() bool { return len(first.owns()) == 4 })
	second, two := n.join(membership)
	left := false
	defer func() {
		if !left {
			two.Leave()
		}
	}()
	n.until("two partitions each", func() bool { return len(first.owns()) == 2 && len(second.owns()) == 2 })
	equal(second.owns(), first.revoked, "what the first member had to give up")
	two.Leave()
	left = true
	n.until("the first member to own all four again", func() bool { return len(first.owns()) == 4 })
	equal(2, len(first.revoked), "partitions revoked from the first member when the second left")
}

// KIP-345: a member with an instance id may restart without a rebalance, and only one may carry the id.
func staticMembership(n *node) {
	topic, group := n.createTopic("static-membership", 4, nil), unique("static-membership")
	named := func(instance string) Membership {
		return Membership{Topic: topic, Group: group, Instance: instance, Strategy: "range"}
	}
	stays, one := n.join(named("stays"))
	defer one.Leave()
	restarts, two := n.join(named("restarts"))
	n.until("two partitions each", func() bool { return len(stays.owns()) == 2 && len(restarts.owns()) == 2 })
	before, calls := restarts.owns(), stays.calls
	two.Leave()
	back, again := n.join(named("restarts"))
	defer again.Leave()
	n.until("the same partitions after the restart", func() bool { return slices.Equal(before, back.owns()) })
	equal(calls, stays.calls, "rebalances seen by the member that stayed")

	_, usurper := n.join(named("restarts"))
	defer usurper.Leave()
	fenced := int16(fencedInstanceID)
	if n.Lacks().Instance {
		fenced = unknownMemberID
	}
	// Some libraries only say it of a commit.
	n.until("the older holder of the id to be fenced", func() bool {
		if n.Code(again.Commit(n.ctx, before[0], Commit{})) == fenced {
			return true
		}
		return slices.ContainsFunc(back.errors(), func(err error) bool { return n.Code(err) == fenced })
	})
}

// Two halves with a restart of the node between them.

func (n *node) resume(run string) (*ledger, Member) {
	return n.join(Membership{Topic: "restart-" + run, Group: "restart-" + run, Strategy: "range"})
}

func beforeRestart(n *node, run string) {
	topic := "restart-" + run
	n.done(topicAlreadyExists, n.CreateTopic(n.ctx, topic, 1, nil))
	n.until("the topic's leader", func() bool { return n.hasLeaders(topic, 1) })
	n.more(topic, 0, 100)
	told, member := n.resume(run)
	n.until("all records", func() bool { return len(told.received()) == 100 })
	must(member.Commit(n.ctx, 0, Commit{60, "half way"}))
	member.Leave()
}

func afterRestart(n *node, run string) {
	topic := "restart-" + run
	told, member := n.resume(run)
	n.until("the rest of the records", func() bool { return len(told.received()) == 40 })
	inOrder(told.received(), 60)
	expected := Commit{60, "half way"}
	if n.Lacks().Metadata {
		expected.Metadata = ""
	}
	equal(expected, answer(n.Committed(n.ctx, topic, topic, 0)), "committed offset and metadata")
	member.Leave()
	equal([]int64{100}, n.produce(topic, Producing{}, []Record{{Value: []byte("after")}}), "next offset")
}
