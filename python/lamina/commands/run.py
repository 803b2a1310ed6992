"""`lamina predict` and `bench`: what a model computes, and how fast."""

import time
import zipfile

import numpy as np

from lamina.commands import CommandError
from lamina.commands.load import load_model
from lamina.commands.show import print_json, table


def predict(arguments):
    """Predictions for an `.npy` (or, for several inputs, an `.npz` with their names)."""
    if arguments.output and not arguments.output.endswith((".npy", ".npz")):
        raise CommandError(f"The output must end in .npy or .npz. Received: {arguments.output}")
    x = _read_arrays(arguments.data)
    model = load_model(arguments.file, arguments.weights, need_weights=True)
    y = model.predict(x, batch_size=arguments.batch_size, verbose=0)
    outputs = _named(y)
    if arguments.output:
        _write_arrays(arguments.output, outputs)
    if arguments.json:
        values = [
            {"name": name, "shape": list(a.shape), "dtype": str(a.dtype)}
            | ({} if arguments.output else {"values": a.tolist()})
            for name, a in outputs.items()
        ]
        print_json({"file": arguments.output, "outputs": values})
    elif arguments.output:
        shapes = ", ".join(f"{a.shape} {a.dtype}" for a in outputs.values())
        print(f"{arguments.output}: {shapes}")
    else:
        for a in outputs.values():
            print(a)


def _named(y):
    if isinstance(y, dict):
        return {str(k): np.asarray(v) for k, v in y.items()}
    many = isinstance(y, (list, tuple))
    return {f"output_{i}": np.asarray(a) for i, a in enumerate(y)} if many else {"output": np.asarray(y)}


def _read_arrays(path):
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise CommandError(f"There is no file {path}.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        raise CommandError(
            f"{path} holds no arrays of numbers that can be read.\n"
            "expected: a file of `np.save` (or, for several inputs, `np.savez` with their names)"
        ) from None


def _write_arrays(path, outputs):
    if path.endswith(".npz"):
        np.savez(path, **outputs)
    elif len(outputs) > 1:
        raise CommandError(
            f"The model has {len(outputs)} outputs: write them to an .npz file. Received: {path}"
        )
    else:
        np.save(path, next(iter(outputs.values())))


def bench(arguments):
    """Latency and throughput by batch size and threads."""
    from lamina.engine import runtime

    model = load_model(arguments.file)
    before = runtime.num_threads()
    threads = arguments.threads or sorted({1, before})
    results = []
    try:
        for batch in arguments.batch:
            x = _example(model, batch, arguments.length)
            for n in threads:
                runtime.set_num_threads(n)
                results.append(_timed(model, x, batch, n, arguments.seconds))
    finally:
        runtime.set_num_threads(before)
    if arguments.json:
        print_json({"model": model.name, "isa": runtime.isa(), "results": results})
        return
    print(f"{model.name}: one call `model(x)`, {runtime.isa()}")
    header = ("batch", "threads", "median", "fastest", "samples/s", "GFLOP/s")
    rows = [
        (
            str(r["batch"]),
            str(r["threads"]),
            _duration(r["median_s"]),
            _duration(r["fastest_s"]),
            f"{r['samples_per_s']:,.0f}",
            "?" if r["gflops"] is None else f"{r['gflops']:.3g}",
        )
        for r in results
    ]
    print("\n".join(table([header, *rows])))


def _example(model, batch, length):
    """Random data of the shapes of the model's inputs."""
    rng = np.random.default_rng(0)
    try:
        inputs = model.inputs
    except AttributeError:
        inputs = None
    if not inputs:
        raise CommandError(f"The input shape of '{model.name}' is unknown: put an `Input` first.")
    arrays = []
    for x in inputs:
        shape = (batch, *[length if d is None else d for d in x.shape[1:]])
        if None in shape:
            raise CommandError(
                f"The input '{x.name}' has the shape {tuple(x.shape)}: give a size for its unknown axes with "
                "--length."
            )
        if "float" in x.dtype:
            arrays.append(
                rng.random(shape, "float32").astype(x.dtype if x.dtype != "bfloat16" else "float32")
            )
        else:
            arrays.append(rng.integers(0, 2, shape).astype(x.dtype))
    from lamina import tree

    return tree.pack_sequence_as(model.input, arrays)


def _timed(model, x, batch, threads, seconds):
    from lamina.models.costs import model_cost

    for _ in range(3):
        model(x)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        model(x)
        times.append(time.perf_counter() - start)
    median = float(np.median(times))
    cost = model_cost(model, batch)
    return {
        "batch": batch,
        "threads": threads,
        "calls": len(times),
        "median_s": median,
        "fastest_s": min(times),
        "samples_per_s": batch / median,
        "gflops": cost and cost.flops / median / 1e9,
    }


def _duration(seconds):
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
