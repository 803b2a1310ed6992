"""Single kernels beside the libraries that others build on: GEMM against OpenBLAS (numpy), convolution
against oneDNN (TensorFlow, OpenVINO). Same process, alternating, two threads each.

    python benches/peers/kernels.py
"""

import os
import time

THREADS = os.environ.setdefault("BENCH_THREADS", "2")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LAMINA_NUM_THREADS"):
    os.environ[name] = THREADS
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402

import lamina  # noqa: E402
from lamina import layers  # noqa: E402


def compare(title, flops, engines, rounds=15):
    """Prints GFLOP/s of each engine (median over rounds), and lamina's time over the best rival's."""
    for call in engines.values():
        call()
    times = {name: [] for name in engines}
    for _ in range(rounds):
        for name, call in engines.items():
            repeat = max(1, int(2e9 / flops))
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            times[name].append((time.perf_counter() - start) / repeat)
    median = {name: float(np.median(t)) for name, t in times.items()}
    best = min(t for name, t in median.items() if name != "lamina")
    rates = ", ".join(f"{name} {flops / t / 1e9:.0f}" for name, t in median.items())
    print(f"| {title} | {median['lamina'] / best:.2f} | {rates} |", flush=True)


def gemm(n):
    """Square matrices, float32."""
    rng = np.random.default_rng(0)
    a, b = rng.random((n, n), "float32"), rng.random((n, n), "float32")
    model = lamina.Sequential([lamina.Input((n,)), layers.Dense(n, use_bias=False)])
    model.set_weights([b])
    np.testing.assert_allclose(np.asarray(model(a)), a @ b, rtol=1e-4)
    compare(f"GEMM {n}^3", 2 * n**3, {"lamina": lambda: model(a), "OpenBLAS": lambda: a @ b})


def conv(size, channels, batch=1):
    """3x3, stride 1, same padding."""
    rng = np.random.default_rng(0)
    x = rng.random((batch, size, size, channels), "float32")
    kernel = rng.random((3, 3, channels, channels), "float32")
    model = lamina.Sequential(
        [lamina.Input((size, size, channels)), layers.Conv2D(channels, 3, padding="same", use_bias=False)]
    )
    model.set_weights([kernel])
    engines = {"lamina": lambda: model(x)}
    engines |= {name: call for name, call in (_tensorflow(x, kernel), _openvino(x, kernel)) if call}
    expected = np.asarray(model(x))
    for call in engines.values():
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-4, atol=1e-3)
    flops = 2 * batch * size * size * channels * channels * 9
    compare(f"conv 3x3 {batch}x{size}x{size}x{channels}", flops, engines)


def _tensorflow(x, kernel):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(int(THREADS))
    data, weights = tf.constant(x), tf.constant(kernel)
    call = tf.function(lambda: tf.nn.conv2d(data, weights, 1, "SAME"))
    return "TensorFlow (oneDNN)", lambda: call().numpy()


def _openvino(x, kernel):
    import openvino as ov
    from openvino import opset13 as ops

    # OpenVINO takes channels first; its plugin chooses the layout inside.
    data = ops.parameter(list(x.transpose(0, 3, 1, 2).shape), np.float32)
    weights = ops.constant(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    y = ops.convolution(data, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    settings = {"INFERENCE_NUM_THREADS": int(THREADS), "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(ov.Model([y], [data]), "CPU", settings).create_infer_request()
    image = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return "OpenVINO (oneDNN)", lambda: request.infer({0: image}, share_inputs=True)[0].transpose(0, 2, 3, 1)


def main():
    """Prints a table."""
    print("| kernel | time / best rival's | GFLOP/s |\n|---|---|---|")
    for n in (256, 512, 1024):
        gemm(n)
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        conv(size, channels)
    conv(56, 64, batch=8)


if __name__ == "__main__":
    main()
