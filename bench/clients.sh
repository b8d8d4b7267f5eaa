#!/usr/bin/env bash
# The Rust client against librdkafka, as producers of the same records to the same node, in turn:
#   bench/clients.sh BOOTSTRAP [ROUNDS] [RECORDS] [NAME=VALUE...]
# Each line tells records/s, MB/s, and processor seconds of the client per million records. The first
# round is to be thrown away. Start the node with `--set num.partitions=N` for topics of N partitions.
set -euo pipefail
cd "$(dirname "$0")/clients"
bootstrap=${1:?the address of a node}
rounds=${2:-5}
records=${3:-5000000}
settings=()
for setting in "${@:4}"; do settings+=(--set "$setting"); done
cargo build --quiet --release
for round in $(seq "$rounds"); do
    echo "round $round"
    for client in ottla rdkafka; do
        target/release/ottla-bench-clients "$client" "$bootstrap" --topic "clients-$client" \
            --records "$records" "${settings[@]}"
    done
done
