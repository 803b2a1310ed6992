"""lamina beside other engines: the same weights and inputs, each engine in its own process, taking turns.

    python benches/peers/run.py [--only NAME] [--rounds N] [--seconds S] [--json FILE]

Prints, for every piece of work, the median of each engine and lamina's time as a ratio of the best peer's:
below 1 is a win. Needs `benches/peers/requirements.txt`; `make bench-peers` sets that up.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from models import INFERENCE, TRAINING, tabular  # noqa: E402

THREADS = os.environ.setdefault("BENCH_THREADS", "2")
LIMITS = {
    "OMP_NUM_THREADS": THREADS,
    "LAMINA_NUM_THREADS": THREADS,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={THREADS}",
}
PREPARE = "prepare.py"


def prepare(folder, work, name, batch):
    """Builds the model in Keras in a process of its own, and writes everything that the engines need."""
    command = [sys.executable, str(HERE / PREPARE), str(folder), work, name, str(batch)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Engine:
    """A worker process."""

    def __init__(self, name, work, folder):
        self.name, self.times = name, []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name, work, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | LIMITS,
        )
        self.failed = self._read().get("failed")

    def _read(self):
        for line in self.process.stdout:  # libraries print, too
            if line.startswith("{"):
                return json.loads(line)
        return {"failed": f"exit code {self.process.wait()}"}

    def time(self, seconds):
        """One round."""
        self.process.stdin.write(f"TIME {seconds}\n")
        self.process.stdin.flush()
        self.times.append(self._read()["median"])

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def compare(work, name, batch, rounds, seconds):
    """One row: {engine: median seconds or the reason why not}."""
    from worker import ENGINES

    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, work, name, batch)
        engines = [Engine(engine, work, folder) for engine in ENGINES[work]]
        running = [e for e in engines if not e.failed]
        for _ in range(rounds):
            for engine in running:
                engine.time(seconds)
        for engine in running:
            engine.close()
    return {e.name: e.failed or float(np.median(e.times)) for e in engines}


def show(seconds):
    """A time with three digits."""
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def report(label, row):
    """Prints a row as a line of Markdown, and why engines are missing."""
    times = {k: v for k, v in row.items() if isinstance(v, float)}
    peers = {k: v for k, v in times.items() if k != "lamina"}
    cells = ", ".join(f"{k} {show(v)}" for k, v in sorted(peers.items(), key=lambda p: p[1]))
    if "lamina" in times and peers:
        best = min(peers, key=peers.get)
        print(
            f"| {label} | {show(times['lamina'])} | {times['lamina'] / peers[best]:.2f} | {cells} |",
            flush=True,
        )
    for engine, reason in row.items():
        if not isinstance(reason, float):
            print(f"  {label}: {engine} left out: {reason}", file=sys.stderr, flush=True)


def main():
    """Runs every piece of work."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="work whose label contains this")
    parser.add_argument("--rounds", type=int, default=15, help="of all engines, one after the other")
    parser.add_argument("--seconds", type=float, default=0.15, help="of one engine in one round")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    jobs = [("infer", n, b) for n, (_, _, batches) in INFERENCE.items() for b in batches]
    jobs += [("train", n, b) for n, (*_, batches) in TRAINING.items() for b in batches]
    jobs += [("epoch", tabular.__name__, 10_000)]
    print("| work | lamina | ratio to the best peer | peers |\n|---|---|---|---|")
    results = {}
    for work, name, batch in jobs:
        label = f"{work} {name}, {batch}"
        if options.only in label:
            results[label] = compare(work, name, batch, options.rounds, options.seconds)
            report(label, results[label])
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
