#!/usr/bin/env bash
# Measures a node against the least that a broker can do (bench/limit), run by run in turn, with the
# same client and the same frames, and prints medians and ratios as a table in markdown.
#
#   bench/compare.sh [RUNS] [RECORDS] [DIR]      defaults: 5 runs, 10000000 records, target/compare
#
# Environment:
#   BIN=target/release   where the programs `ottla` and `ottla-limit` are
#   DUMMY_GB=            size of the file that fills the page cache; default: three quarters of free memory
#   SERVER_CPUS, CLIENT_CPUS   lists for taskset; default: no pinning
#
# Why the dummy file: on a virtual machine the first touch of memory that the host took back costs
# seconds of processor time per gigabyte. With the page cache full, new pages come from the guest
# itself. The first pair of runs is thrown away for the same reason, and both servers begin with new
# files on memory that was just given back.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-5}
records=${2:-10000000}
dir=${3:-target/compare}
bin=${BIN:-target/release}
server_pin=${SERVER_CPUS:+taskset -c $SERVER_CPUS}
client_pin=${CLIENT_CPUS:+taskset -c $CLIENT_CPUS}

for program in ottla ottla-limit; do
    if [[ ! -x $bin/$program ]]; then
        echo "$bin/$program is missing: cargo build --release -p ottla -p ottla-limit" >&2
        exit 1
    fi
done
mkdir -p "$dir"
results=$dir/results.txt
: >"$results"
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true' EXIT

fill_page_cache() {
    local free_kb gigabytes
    free_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    gigabytes=${DUMMY_GB:-$((free_kb * 3 / 4 / 1024 / 1024))}
    local dummy=$dir/dummy
    if [[ ! -f $dummy || $(stat -c %s "$dummy") -lt $((gigabytes << 30)) ]]; then
        echo "writing $gigabytes GB to $dummy" >&2
        dd if=/dev/zero of="$dummy" bs=1M count=$((gigabytes * 1024)) conv=fdatasync status=none
    fi
    cat "$dummy" >/dev/null
}

# Waits for the line that says where the server is, and prints the address.
ready() {
    local line
    for _ in $(seq 600); do
        line=$(grep -m1 ' is ready on ' "$1" || true)
        if [[ -n $line ]]; then
            echo "${line##* is ready on }"
            return
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "the server did not start:" >&2
    cat "$1" "$1.err" >&2
    exit 1
}

start() {
    # What the last run left dirty would throttle this one.
    sync
    case $1 in
    limit-sendfile | limit-copy)
        rm -f "$dir/limit.log"
        $server_pin "$bin/ottla-limit" --listen 127.0.0.1:0 --file "$dir/limit.log" \
            --fetch "${1#limit-}" >"$dir/out" 2>"$dir/out.err" &
        ;;
    ottla-*)
        rm -rf "$dir/data"
        OTTLA_LOG=warn $server_pin "$bin/ottla" start --listen 127.0.0.1:0 --data-dir "$dir/data" \
            --set "fetch.sendfile=$2" >"$dir/out" 2>"$dir/out.err" &
        ;;
    esac
    server=$!
}

stop() {
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
}

# One server, one production, one consumption of what was produced: two lines of results.
run() {
    local name=$1 sendfile=$2 keep=$3 address
    start "$name" "$sendfile"
    address=$(ready "$dir/out")
    for load in "produce $produce_options" "consume $consume_options"; do
        # shellcheck disable=SC2086 # the options are words
        line=$($client_pin "$bin/ottla" bench --bootstrap-server "$address" --server-pid "$server" \
            --format fields $load --records "$records")
        if [[ $keep == yes ]]; then echo "${load%% *} $name $line" >>"$results"; fi
        echo "${load%% *} $name $line" >&2
    done
    stop
}

# Median of one field of all runs of one load and server.
median() {
    awk -v load="$1" -v name="$2" -v field="$3" '
        $1 == load && $2 == name {
            for (i = 3; i <= NF; i++) { split($i, pair, "="); if (pair[1] == field) print pair[2] }
        }' "$results" | sort -g | awk '{v[NR] = $1} END {if (NR) print v[int((NR + 1) / 2)]; else print "-"}'
}

row() {
    local load=$1 name=$2 limit=$3 latency=$4
    local speed best cpu least
    speed=$(median "$load" "$name" mb_per_s) best=$(median "$load" "$limit" mb_per_s)
    cpu=$(median "$load" "$name" server_cpu_s_per_gb) least=$(median "$load" "$limit" server_cpu_s_per_gb)
    awk -v load="$load" -v name="$name" -v s="$speed" -v b="$best" -v c="$cpu" -v l="$least" \
        -v p50="$(median "$load" "$name" "${latency}_p50_us")" \
        -v p99="$(median "$load" "$name" "${latency}_p99_us")" \
        -v rss="$(median "$load" "$name" server_rss_mb)" 'BEGIN {
            printf "| %s | %s | %.0f | %.2f | %.3f | %.2f | %s | %s | %s |\n",
                load, name, s, b ? s / b : 0, c, l ? c / l : 0, p50, p99, rss
        }'
}

produce_options=${PRODUCE:-"--record-size 100 --batch-bytes 16K --connections 1 --in-flight 5"}
consume_options=${CONSUME:-"--connections 1"}

fill_page_cache
run limit-sendfile on no
run ottla-on on no
for _ in $(seq "$runs"); do
    run limit-sendfile on yes
    run ottla-on on yes
    run limit-copy off yes
    run ottla-off off yes
done

echo "| load | server | MB/s | of limit | server CPU s/GB | of limit | p50 µs | p99 µs | RSS MB |"
echo "|---|---|---|---|---|---|---|---|---|"
for pair in "limit-sendfile limit-sendfile" "ottla-on limit-sendfile" "limit-copy limit-copy" "ottla-off limit-copy"; do
    read -r name limit <<<"$pair"
    row produce "$name" "$limit" latency
    row consume "$name" "$limit" fetch
done
echo
echo "medians of $runs runs of $records records; produce $produce_options; consume $consume_options"
