#!/usr/bin/env bash
# The Rust client against librdkafka: the same records to the same node, run by run in turn, first as
# producers and then as consumers; prints each run, then medians as a table in markdown.
#
#   bench/clients.sh [ROUNDS] [RECORDS] [NAME=VALUE...]      defaults: 5 rounds, 3000000 records
#
# NAME=VALUE are settings of both clients beside their defaults. Environment:
#   BIN=target/release   where the program `ottla` is
#   BENCH=               the bench program, if it is built already
#   PARTITIONS=1         of the topics
#   DIR=target/clients   for the node's files, which are deleted at the end
#
# Only runs of one round are worth comparing: the first round is thrown away, the ratio is the median
# of the rounds' ratios. Processor seconds are the client's own; user time is the firmest of them.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
records=${2:-3000000}
settings=()
for setting in "${@:3}"; do settings+=(--set "$setting"); done
bin=${BIN:-target/release}
dir=${DIR:-target/clients}
bench=${BENCH:-bench/clients/target/release/ottla-bench-clients}

if [[ ! -x $bin/ottla ]]; then
    echo "$bin/ottla is missing: cargo build --release -p ottla" >&2
    exit 1
fi
if [[ -z ${BENCH:-} ]]; then cargo build --quiet --release --manifest-path bench/clients/Cargo.toml; fi

mkdir -p "$dir"
results=$dir/results.txt
: >"$results"
node=
trap '[[ -z $node ]] || { kill "$node" 2>/dev/null && wait "$node" 2>/dev/null; } || true; rm -rf "$dir/data"' EXIT
rm -rf "$dir/data"
OTTLA_LOG=warn "$bin/ottla" start --listen 127.0.0.1:0 --data-dir "$dir/data" \
    --set "num.partitions=${PARTITIONS:-1}" >"$dir/out" 2>"$dir/out.err" &
node=$!
address=
for _ in $(seq 100); do
    address=$(sed -n 's/.* is ready on //p' "$dir/out")
    if [[ -n $address ]]; then break; fi
    sleep 0.1
done
if [[ -z $address ]]; then
    echo "the node did not start:" >&2
    cat "$dir/out" "$dir/out.err" >&2
    exit 1
fi

# A round of one load, with the label of its rows.
run() {
    local round=$1 label=$2 load=$3 client=$4 topic=$5 line
    # What the last run left dirty would throttle this one.
    sync
    line=$("$bench" "$load" "$client" "$address" --topic "$topic" --records "$records" "${settings[@]}")
    echo "$round $label ${line#* }" | tee -a "$results" >&2
}

for round in $(seq 0 "$rounds"); do
    for client in ottla rdkafka; do run "$round" produce produce "$client" "by-$client"; done
done
# What each of them wrote is read by both: the sizes of their batches differ.
for writer in ottla rdkafka; do
    for round in $(seq 0 "$rounds"); do
        for client in ottla rdkafka; do run "$round" "consume-by-$writer" consume "$client" "by-$writer"; done
    done
done

median() { sort -g | awk '{v[NR] = $1} END {if (NR) print v[int((NR + 1) / 2)]; else print "-"}'; }

# What a field was, in order, without the first round.
column() {
    awk -v label="$1" -v client="$2" -v field="$3" '
        $1 > 0 && $2 == label && tolower($3) == client {
            for (i = 4; i < NF; i += 2) if ($i == field) print $(i + 1)
        }' "$results"
}

echo "| load | what | Ottla | librdkafka | ratio |"
echo "|---|---|---|---|---|"
for load in produce consume-by-ottla consume-by-rdkafka; do
    for field in records/s user-s/million cpu-s/million resident-MB; do
        ratio=$(paste <(column "$load" ottla "$field") <(column "$load" rdkafka "$field") |
            awk '$2 > 0 {printf "%.3f\n", $1 / $2}' | median)
        echo "| $load | $field | $(column "$load" ottla "$field" | median) | $(column "$load" rdkafka "$field" | median) | $ratio |"
    done
done
echo
echo "medians of $rounds rounds of $records records of 100 bytes, ${PARTITIONS:-1} partitions ${settings[*]}"
