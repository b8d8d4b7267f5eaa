#!/usr/bin/env bash
# The compatibility scenarios through kcat, with nothing but what a shell has.
#
#   scenarios.sh BOOTSTRAP [FILTER]
#   scenarios.sh BOOTSTRAP --before RUN    first half of commit-and-resume-after-restart
#   scenarios.sh BOOTSTRAP --after RUN     its second half, on the restarted node
#
# kcat has no admin commands: topics are born when they are first produced to, with one partition.
set -uo pipefail

bootstrap=${1:?usage: scenarios.sh BOOTSTRAP [FILTER | --before RUN | --after RUN]}
deadline=40
# The default of message.max.bytes, less what a batch of one large record without a key adds to its value.
largest_value=$((1048588 - 72))
scratch=$(mktemp -d)
children=()

finish() {
    for child in "${children[@]}"; do kill -KILL "$child" 2>/dev/null; done
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    echo "$*" | tr "\n" " " >"$scratch/reason"
    exit 1
}

equal() { # expected, actual, what
    [[ $1 == "$2" ]] || fail "$3: expected '${1:0:200}', got '${2:0:200}'"
}

until_true() { # what, command...
    local what=$1 end=$((SECONDS + deadline))
    shift
    until "$@"; do
        ((SECONDS < end)) || fail "waited $deadline s for: $what"
        sleep 0.1
    done
}

k() {
    timeout "$deadline" kcat -b "$bootstrap" "$@" || fail "kcat $* ended with $?"
}

produce() { # topic, options...; records on standard input, one a line
    local topic=$1
    shift
    # Where nodes are killed (BROKERS), only an idempotent producer is promised that each record arrives once.
    k -P -t "$topic" -p 0 -X enable.idempotence="$([[ ${BROKERS:-1} == 1 ]] && echo false || echo true)" "$@"
}

read_all() { # topic, format
    k -C -t "$1" -p 0 -o beginning -e -q -f "$2"
}

topic=
new_topic() { topic=$1-$$-$RANDOM; }

# What goes in comes out.

produce_with() { # codec
    new_topic "produce-$1"
    seq -f 'record %.0f lalalalalalalalalalalalalalalalala' 0 1999 >"$scratch/sent"
    produce "$topic" -z "$1" -X linger.ms=20 <"$scratch/sent"
    read_all "$topic" '%s\n' >"$scratch/read"
    cmp -s "$scratch/sent" "$scratch/read" || fail "what was read is not what was sent"
    equal "$(seq 0 1999)" "$(read_all "$topic" '%o\n')" offsets
}
produce-none() { produce_with none; }
produce-gzip() { produce_with gzip; }
produce-snappy() { produce_with snappy; }
produce-lz4() { produce_with lz4; }
produce-zstd() { produce_with zstd; }

keys-and-headers() {
    new_topic keys-and-headers
    printf 'clé\tvärde\n' | produce "$topic" -K '\t' -H trace=a -H trace=b -H none -H empty=
    equal 'clé|värde|trace=a,trace=b,none=NULL,empty=' "$(read_all "$topic" '%k|%s|%h')" record
}

null-key-and-value() {
    new_topic null-key-and-value
    printf '\t\ntombstone\t\n' | produce "$topic" -Z -K '\t'
    printf '\t\n' | produce "$topic" -K '\t'
    # Lengths of key and value: -1 is null, 0 is empty.
    equal $'-1 -1\n9 -1\n0 0' "$(read_all "$topic" '%K %S\n')" "lengths of keys and values"
}

idempotent-producer() {
    new_topic idempotent-producer
    seq 0 4999 | produce "$topic" -X enable.idempotence=true -X batch.num.messages=10 -X linger.ms=1
    equal "$(seq 0 4999)" "$(read_all "$topic" '%s\n')" values
}

value_of_size() { head -c "$1" /dev/zero | tr '\0' x; }

record-at-size-limit() {
    new_topic record-at-size-limit
    value_of_size "$largest_value" >"$scratch/large"
    produce "$topic" -X message.max.bytes=2100000 "$scratch/large"
    read_all "$topic" %s | cmp -s - "$scratch/large" || fail "the large value came back changed"
}

record-over-size-limit() {
    new_topic record-over-size-limit
    echo small | produce "$topic"
    value_of_size $((largest_value + 1)) >"$scratch/large"
    timeout "$deadline" kcat -b "$bootstrap" -P -t "$topic" -p 0 -X message.max.bytes=2100000 "$scratch/large" \
        2>"$scratch/said" && fail "a record over the limit was accepted"
    grep -q 'Broker: Message size too large' "$scratch/said" || fail "$(tr '\n' ' ' <"$scratch/said")"
    equal small "$(read_all "$topic" %s)" "what is left"
}

# Where reading begins.

filled() { # prefix: value i at offset i, in several batches
    new_topic "$1"
    seq 0 99 | produce "$topic" -X batch.num.messages=10
}

numbered() { paste -d ' ' <(seq "$1" "$2") <(seq "$1" "$2"); } # "offset value" lines

consume-from-start() {
    filled consume-from-start
    equal "$(numbered 0 99)" "$(k -C -t "$topic" -p 0 -o beginning -c 100 -q -f '%o %s\n')" records
}

consume-from-end() {
    filled consume-from-end
    timeout "$deadline" kcat -b "$bootstrap" -C -t "$topic" -p 0 -o end -c 10 -f '%o %s\n' \
        >"$scratch/read" 2>"$scratch/said" &
    local reader=$!
    until_true "the reader to stand at the end" grep -q 'Reached end of topic .* at offset 100' "$scratch/said"
    seq 100 109 | produce "$topic"
    wait "$reader" || fail "the reader ended with $?: $(tail -n 1 "$scratch/said")"
    equal "$(numbered 100 109)" "$(cat "$scratch/read")" records
}

consume-from-offset() {
    filled consume-from-offset
    equal "$(seq 42 99)" "$(k -C -t "$topic" -p 0 -o 42 -e -q -f '%o\n')" "offsets from 42"
    equal "$(seq 95 99)" "$(k -C -t "$topic" -p 0 -o -5 -e -q -f '%o\n')" "the last five offsets"
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
later_than() { (($(milliseconds) > $1)); }

consume-from-timestamp() {
    filled consume-from-timestamp
    local last
    last=$(k -C -t "$topic" -p 0 -o -1 -e -q -f %T)
    until_true "the clock to move on" later_than "$last"
    seq 100 109 | produce "$topic"
    equal "$(seq 100 109)" "$(k -C -t "$topic" -p 0 -o "s@$((last + 1))" -e -q -f '%o\n')" "offsets from the timestamp"
    equal "$topic [0] offset 100" "$(k -Q -t "$topic:0:$((last + 1))")" "offset of the timestamp"
    equal "$topic [0] offset 0" "$(k -Q -t "$topic:0:1")" "offset of the oldest timestamp"
    equal "$topic [0] offset -1" "$(k -Q -t "$topic:0:$(($(milliseconds) + 3600000))")" "offset of a late timestamp"
}

# Groups: six topics of one partition, dealt out one by one.

topics=()
six_topics() { # prefix
    topics=()
    for i in 1 2 3 4 5 6; do
        new_topic "$1-$i"
        topics+=("$topic")
    done
}

to_all() { # first, end: each topic gets each value
    local name
    for name in "${topics[@]}"; do
        seq "$1" $(($2 - 1)) | produce "$name"
    done
}

join() { # member, group, options...
    local member=$1 group=$2
    shift 2
    : >"$scratch/$member.read"
    kcat -b "$bootstrap" "$@" -X session.timeout.ms=6000 -X heartbeat.interval.ms=300 -X auto.offset.reset=earliest \
        -X topic.metadata.refresh.interval.ms=1000 \
        -u -f '%t %s\n' -G "$group" "${topics[@]}" >"$scratch/$member.read" 2>"$scratch/$member.said" &
    children+=($!)
}

owned() { # member: how many partitions, by its own account
    awk '
        / rebalanced/ {
            count = gsub(/ \[[0-9]+\]/, "")
            if (/incremental assignment/) n += count
            else if (/incremental revoke/) n -= count
            else if (/assigned:/) n = count
            else n = 0
        }
        END { print n + 0 }' "$scratch/$1.said"
}

own_each() { # partitions, member...
    local each=$1 member
    shift
    for member in "$@"; do [[ $(owned "$member") == "$each" ]] || return 1; done
}

saw_all() { # end
    local name
    for name in "${topics[@]}"; do seq -f "$name %.0f" 0 $(($1 - 1)); done | sort >"$scratch/wanted"
    [[ -z $(sort -u "$scratch"/member-?.read | comm -13 - "$scratch/wanted") ]]
}

group-of-three() {
    six_topics group-of-three
    local group=group-of-three-$$-$RANDOM
    to_all 0 10
    for member in member-1 member-2 member-3; do
        join "$member" "$group" -X partition.assignment.strategy=roundrobin
    done
    until_true "three members with two partitions each" own_each 2 member-1 member-2 member-3
    to_all 10 20
    until_true "all records of three members" saw_all 20

    kill -TERM "${children[0]}"
    until_true "two members with three partitions each" own_each 3 member-2 member-3
    to_all 20 30
    until_true "all records of two members" saw_all 30

    kill -KILL "${children[1]}"
    to_all 30 40
    until_true "one member with all partitions" own_each 6 member-3
    until_true "all records of the last member" saw_all 40
}

cooperative-rebalance() {
    six_topics cooperative-rebalance
    local group=cooperative-rebalance-$$-$RANDOM
    to_all 0 1
    join member-1 "$group" -X partition.assignment.strategy=cooperative-sticky
    until_true "the first member to own all six" own_each 6 member-1
    join member-2 "$group" -X partition.assignment.strategy=cooperative-sticky
    until_true "three partitions each" own_each 3 member-1 member-2
    equal 3 "$(awk '/incremental revoke/ { n += gsub(/ \[[0-9]+\]/, "") } END { print n + 0 }' \
        "$scratch/member-1.said")" "partitions that the first member had to give up"
    kill -TERM "${children[1]}"
    until_true "the first member to own all six again" own_each 6 member-1
}

rebalances() { grep -c ' rebalanced' "$scratch/$1.said"; }

static-membership() {
    six_topics static-membership
    local group=static-membership-$$-$RANDOM
    local strategy=partition.assignment.strategy=roundrobin
    to_all 0 1
    join member-1 "$group" -X "$strategy" -X group.instance.id=stays
    join member-2 "$group" -X "$strategy" -X group.instance.id=restarts
    until_true "three partitions each" own_each 3 member-1 member-2
    local before
    before=$(rebalances member-1)
    kill -TERM "${children[1]}"
    wait "${children[1]}"
    join member-3 "$group" -X "$strategy" -X group.instance.id=restarts
    until_true "three partitions after the restart" own_each 3 member-3
    equal "$before" "$(rebalances member-1)" "rebalances seen by the member that stayed"
}

# Two halves with a restart of the node between them.

resume() { # run, options...
    local run=$1
    shift
    k -X auto.offset.reset=earliest -q -f '%o\n' "$@" -G "restart-$run" "restart-$run" 2>/dev/null
}

before-restart() {
    seq 0 99 | produce "restart-$1" -X batch.num.messages=10
    equal "$(seq 0 59)" "$(resume "$1" -c 60)" "offsets before the restart"
}

after-restart() {
    equal "$(seq 60 99)" "$(resume "$1" -c 40)" "offsets after the restart"
    echo after | produce "restart-$1"
    equal '100 after' "$(k -C -t "restart-$1" -p 0 -o 100 -e -q -f '%o %s')" "the record produced after the restart"
}

scenarios=(
    produce-none produce-gzip produce-snappy produce-lz4 produce-zstd
    keys-and-headers null-key-and-value idempotent-producer record-at-size-limit record-over-size-limit
    consume-from-start consume-from-end consume-from-offset consume-from-timestamp
    group-of-three cooperative-rebalance static-membership
)
failures=0

run() { # name, function, arguments...
    local name=$1
    shift
    rm -f "$scratch"/*
    (
        trap 'for child in "${children[@]}"; do kill -KILL "$child" 2>/dev/null; done' EXIT
        "$@"
    )
    local code=$?
    if ((code == 0)); then
        echo "PASS $name"
    else
        echo "FAIL $name: $(cat "$scratch/reason" 2>/dev/null || echo "exit code $code")"
        failures=$((failures + 1))
    fi
}

case ${2:-} in
    --before) run "commit-and-resume-after-restart: before" before-restart "${3:?the name of the run}" ;;
    --after) run commit-and-resume-after-restart after-restart "${3:?the name of the run}" ;;
    *)
        for scenario in "${scenarios[@]}"; do
            [[ $scenario == *"${2:-}"* ]] && run "$scenario" "$scenario"
        done
        ;;
esac
((failures == 0))
