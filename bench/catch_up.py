#!/usr/bin/env python3
"""What producers notice of a consumer that catches up.

    bench/catch_up.py [ROUNDS [GIB [PROGRAM...]]]    defaults: 3 rounds, 8 GiB, target/release/ottla

Each round and program in turn: a producer at a fixed rate alone, then the same beside a consumer that reads GIB of
a topic that is not in memory (its files are dropped from the page cache, and nothing else is). Prints the
producer's latencies, the node's processor time and the consumer's speed.
"""
import glob
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
GIB = float(sys.argv[2]) if len(sys.argv) > 2 else 8
PROGRAMS = sys.argv[3:] or ["target/release/ottla"]
RECORDS = int(GIB * 2**30 / 1100)
RATE, SECONDS = 50_000, 6
PRODUCE = ["produce", "--topic", "live", "--record-size", "100", "--batch-bytes", "16K",
           "--rate", str(RATE), "--records", str(RATE * SECONDS)]


def start(program, root):
    log = open(root + "/log", "w")
    node = subprocess.Popen([program, "start", "--config", root + "/server.properties"], stdout=log, stderr=log)
    while node.poll() is None:
        ready = re.search(r" is ready on (\S+)", open(root + "/log").read())
        if ready:
            return node, ready[1]
        time.sleep(0.05)
    sys.exit(open(root + "/log").read())


def bench(address, load, *arguments):
    command = [PROGRAMS[0], "bench", load, "--bootstrap-server", address, "--format", "fields", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def report(load):
    return {name: float(value) for name, value in re.findall(r"(\S+)=([\d.]+)", load.communicate()[0])}


def cpu_seconds(node):
    fields = open(f"/proc/{node.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drop_from_memory(files):
    os.sync()
    for name in glob.glob(files):
        with open(name) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(node, address, root):
    """Latencies of the producer alone, and beside the consumer, in µs; the node's seconds; the consumer's MB/s."""
    alone = report(bench(address, *PRODUCE))
    drop_from_memory(root + "/data/history-0/*")
    before = cpu_seconds(node)
    consumer = bench(address, "consume", "--topic", "history", "--records", str(RECORDS * 99 // 100))
    beside = report(bench(address, *PRODUCE))
    read = report(consumer)
    return {
        "alone_p50_us": alone["latency_p50_us"], "alone_p99_us": alone["latency_p99_us"],
        "beside_p50_us": beside["latency_p50_us"], "beside_p99_us": beside["latency_p99_us"],
        "server_cpu_s": cpu_seconds(node) - before, "consumer_mb_per_s": read["mb_per_s"],
    }


def main():
    measured = {program: [] for program in PROGRAMS}
    with tempfile.TemporaryDirectory(dir=os.environ.get("DIR", "/tmp")) as root:
        with open(root + "/server.properties", "w") as properties:
            properties.write(f"node.id=1\nlisteners=PLAINTEXT://127.0.0.1:0\nlog.dirs={root}/data\n")
        for turn in range(ROUNDS):
            for program in PROGRAMS:
                node, address = start(program, root)
                if not os.path.isdir(root + "/data/history-0"):
                    report(bench(address, "produce", "--topic", "history", "--records", str(RECORDS),
                                 "--record-size", "1000", "--batch-bytes", "1M"))
                measured[program].append(measure(node, address, root))
                print(turn, program, measured[program][-1], flush=True)
                node.terminate()
                node.wait()
    for program, rounds in measured.items():
        medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        print("median", program, medians)


main()
