#!/usr/bin/env python3
"""Three nodes beside one, on one machine, and many partitions.

    bench/cluster.py throughput [ROUNDS [PROGRAM]]     MB/s of three nodes (RF 3, acks=all) beside a single one, in turn
    bench/cluster.py latency    [ROUNDS [PROGRAM]]     median latency at a fixed rate, likewise
    bench/cluster.py partitions [COUNT [PROGRAM]]      COUNT partitions with three replicas: CPU of each idle node, and how
                                                       long the partitions of a killed broker are without a leader

Set DIR to a directory with 12 GB free for throughput. Defaults: 5 rounds, 10,000 partitions, target/release/ottla. The nodes run with default
settings, the replication factor apart. Before each load the disk has written all that earlier ones left: three nodes leave it three
times as much. Fill the page cache first (read some 20 GB of files): memory that a virtual machine never touched is slow, and three
nodes would touch more of it.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

WHAT = sys.argv[1] if len(sys.argv) > 1 else "throughput"
NUMBER = int(sys.argv[2]) if len(sys.argv) > 2 else 0
PROGRAM = os.path.abspath(sys.argv[3] if len(sys.argv) > 3 else "target/release/ottla")
LOADS = {
    "16K": ["--record-size", "100", "--batch-bytes", "16K", "--records", "2000000"],
    "1M": ["--record-size", "1000", "--batch-bytes", "1M", "--records", "500000"],
}
IDLE_SECONDS = 20
# One request may make no more than 10,000 topics and partitions together.
PARTITIONS_OF_A_TOPIC = 5000


class Cluster:
    """A cluster of `nodes` nodes in `root`, until the end of the program or of its `with`."""

    def __init__(self, root, nodes):
        self.root, self.nodes = f"{root}/{nodes}", nodes

    def __enter__(self):
        command = [PROGRAM, "cluster", "start", "--nodes", str(self.nodes), "--dir", self.root,
                   "--set", f"default.replication.factor={self.nodes}"]
        self.log = open(self.root + ".log", "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(lambda: "the cluster is ready" in open(self.root + ".log").read(), self.process)
        self.members = self.status()
        self.bootstrap = ",".join(member["address"] for member in self.members)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def status(self):
        return lines(ottla("cluster", "status", "--dir", self.root, "--format", "json"))

    def ask(self, *arguments):
        return ottla(*arguments, "--bootstrap-server", self.bootstrap)

    def bench(self, *arguments):
        arguments = [*arguments, "--bootstrap-server", self.members[0]["address"], "--format", "fields"]
        fields = re.findall(r"(\S+)=([\d.]+)", ottla("bench", "produce", *arguments))
        return {name: float(value) for name, value in fields}

    def leaders(self, topics):
        return [row["leader"] for row in lines(self.ask("topic", "describe", *topics, "--format", "json"))]


def ottla(*arguments):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def until(condition, process):
    while not condition():
        if process.poll() is not None:
            sys.exit("the cluster has ended: " + open(process.args[process.args.index("--dir") + 1] + ".log").read())
        time.sleep(0.02)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024


def throughput(one, three):
    for name, load in LOADS.items():
        for partitions in (1, 3):
            arguments = [*load, "--topic", f"t{name}-{partitions}", "--partitions", str(partitions),
                         "--connections", str(partitions)]
            seen = pairs(one, three, arguments, "mb_per_s")
            ratios = [round(3 * many / single, 2) for single, many in seen]
            print(f"throughput {name} batches, {partitions} partitions: single and three nodes, MB/s: {seen}; "
                  f"three times the latter of the former: {ratios}, median {statistics.median(ratios)}", flush=True)


def latency(one, three):
    for rate in (1000, 50000):
        arguments = ["--record-size", "100", "--rate", str(rate), "--records", str(rate * 5), "--topic", f"l{rate}"]
        seen = pairs(one, three, arguments, "latency_p50_us")
        added = [many - single for single, many in seen]
        print(f"latency at {rate} records/s, p50 of a single and of three nodes, µs: {seen}; "
              f"added, median: {statistics.median(added)}", flush=True)


def pairs(one, three, arguments, field):
    """The first pair warms up and is thrown away."""
    def after_sync(cluster):
        os.sync()
        return cluster.bench(*arguments)[field]

    rounds = range((NUMBER or 5) + 1)
    return [(after_sync(one), after_sync(three)) for _ in rounds][1:]


def partitions(three):
    count = NUMBER or 10_000
    began = time.monotonic()
    topics = {f"many-{first}": min(PARTITIONS_OF_A_TOPIC, count - first)
              for first in range(0, count, PARTITIONS_OF_A_TOPIC)}
    for topic, of_it in topics.items():
        three.ask("topic", "create", topic, "--if-not-exists", "--timeout", "120", "--partitions", str(of_it))
    until(lambda: is_led_without(three, topics, None), three.process)
    print(f"{count} partitions with three replicas made in {time.monotonic() - began:.1f} s", flush=True)
    settle(three)
    before = [cpu_seconds(member["pid"]) for member in three.members]
    time.sleep(IDLE_SECONDS)
    for member, then in zip(three.members, before):
        share = (cpu_seconds(member["pid"]) - then) / IDLE_SECONDS
        print(f"node {member['node']} idle: {share:.2%} of a core, {resident_mib(member['pid']):.0f} MiB", flush=True)
    for victim in three.members[::-1]:
        kill(three, topics, victim)


def settle(three):
    """Waits until the nodes do little."""
    busy = True
    while busy:
        before = [cpu_seconds(member["pid"]) for member in three.members]
        time.sleep(2)
        busy = any(cpu_seconds(m["pid"]) - then > 0.2 for m, then in zip(three.members, before))


def kill(three, topics, victim):
    began = time.monotonic()
    number = victim["node"]
    led = three.leaders(topics).count(number)
    asked = time.monotonic() - began
    ottla("cluster", "kill", str(number), "--dir", three.root)
    began = time.monotonic()
    until(lambda: is_led_without(three, topics, number), three.process)
    took = time.monotonic() - began
    print(f"broker {number} is killed: the {led} partitions that it led have another leader after {took:.2f} s, "
          f"of which asking takes about {asked:.2f} s", flush=True)
    ottla("cluster", "resume", str(number), "--dir", three.root)
    health = lambda: subprocess.run([PROGRAM, "cluster", "health", "-b", three.bootstrap], capture_output=True)
    began = time.monotonic()
    until(lambda: health().returncode == 0, three.process)
    print(f"broker {number} is back and in sync everywhere after {time.monotonic() - began:.1f} s", flush=True)
    three.members = three.status()
    settle(three)


def is_led_without(three, topics, number):
    """False, too, as long as the dead broker counts as a leader, whom the command asks in vain."""
    try:
        leaders = three.leaders(topics)
    except RuntimeError:
        return False
    return all(leader not in (number, None, -1) for leader in leaders)


def main():
    with tempfile.TemporaryDirectory(dir=os.environ.get("DIR", "/tmp")) as root:
        if WHAT == "partitions":
            with Cluster(root, 3) as three:
                partitions(three)
        else:
            with Cluster(root, 1) as one, Cluster(root, 3) as three:
                {"throughput": throughput, "latency": latency}[WHAT](one, three)


main()
