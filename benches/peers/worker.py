"""One engine, one piece of work, in a process of its own: loads it, checks it, times it when asked.

    python worker.py ENGINE WORK MODEL BATCH FOLDER

The folder holds the Keras model's config, weights, input and expected output, and its exports for other
engines. Lines on standard input ask for rounds:
`TIME seconds` is answered by the median seconds per call as JSON.
"""

import json
import os
import sys
import time

import numpy as np

THREADS = int(os.environ.get("BENCH_THREADS", "2"))


def load(folder, name):
    """An array of the folder."""
    return np.load(os.path.join(folder, name + ".npy"), allow_pickle=False)


def _weights(folder):
    with np.load(os.path.join(folder, "weights.npz")) as data:
        return [data[f"w{i}"] for i in range(len(data.files))]


def _config(folder):
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file)


def lamina_model(folder):
    """The model by its Keras config and weights."""
    import lamina

    spec = _config(folder)
    model = (lamina.Sequential if spec["class"] == "Sequential" else lamina.Model).from_config(spec["config"])
    model.set_weights(_weights(folder))
    return lamina, model


def keras_model(folder, backend):
    """The same model in Keras on a backend."""
    os.environ["KERAS_BACKEND"] = backend
    if backend == "jax":
        os.environ["JAX_PLATFORMS"] = "cpu"
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    spec = _config(folder)
    model = (keras.Sequential if spec["class"] == "Sequential" else keras.Model).from_config(spec["config"])
    model.set_weights(_weights(folder))
    return keras, model


# ------------------------------------------------------------------------------------------------- inference


def infer_lamina(folder, x):
    """`model(x)`."""
    _, model = lamina_model(folder)
    return lambda: model(x)


def infer_jax(folder, x):
    """The jitted stateless call."""
    _, model = keras_model(folder, "jax")
    import jax

    values = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    call = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])
    return lambda: np.asarray(call(*values, x))


def infer_tensorflow(folder, x):
    """A `tf.function` of the call."""
    _, model = keras_model(folder, "tensorflow")
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False), jit_compile=False)
    data = tf.constant(x)
    return lambda: call(data).numpy()


def infer_onnxruntime(folder, x):
    """ONNX Runtime on the exported graph."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(
        os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def infer_openvino(folder, x):
    """OpenVINO on the exported graph, tuned for latency, in float32."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(os.path.join(folder, "model.onnx"))
    model.reshape(list(x.shape))
    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: x}, share_inputs=True)[0]


def infer_litert(folder, x):
    """LiteRT (XNNPACK) on the exported model."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.path.join(folder, "model.tflite"), num_threads=THREADS)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]

    def call():
        interpreter.set_tensor(index, x)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return call


def infer_torch(folder, x):
    """PyTorch, where it is installed and the model is Sequential."""
    import pytorch

    return pytorch.infer(_config(folder)["config"], _weights(folder), x, THREADS)


# -------------------------------------------------------------------------------------------------- training


def _train_keras_like(package, model, folder, x, y):
    model.compile(package.optimizers.Adam(), _config(folder)["loss"])
    return lambda: model.train_on_batch(x, y)


def train_lamina(folder, x, y):
    """`train_on_batch`."""
    lamina, model = lamina_model(folder)
    return _train_keras_like(lamina, model, folder, x, y)


def train_keras_tensorflow(folder, x, y):
    """Keras's `train_on_batch` on TensorFlow."""
    keras, model = keras_model(folder, "tensorflow")
    return _train_keras_like(keras, model, folder, x, y)


def train_keras_jax(folder, x, y):
    """Keras's `train_on_batch` on JAX."""
    keras, model = keras_model(folder, "jax")
    return _train_keras_like(keras, model, folder, x, y)


def train_jax(folder, x, y):
    """A bare jitted step: Keras's stateless call, loss and optimizer, nothing else."""
    keras, model = keras_model(folder, "jax")
    import jax

    loss_fn = keras.losses.get(_config(folder)["loss"])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    def loss_of(t, n, x, y):
        out, n = model.stateless_call(t, n, x, training=True)
        return jax.numpy.mean(loss_fn(y, out)), n

    def step(t, n, o, x, y):
        (loss, n), grads = jax.value_and_grad(loss_of, has_aux=True)(t, n, x, y)
        t, o = optimizer.stateless_apply(o, grads, t)
        return loss, t, n, o

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    state = [
        [v.value for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    ]

    def call():
        loss, *state[:] = step(*state, x, y)
        return float(loss)

    return call


def train_torch(folder, x, y):
    """A step of PyTorch with fused Adam, where the model is Sequential."""
    import pytorch

    spec = _config(folder)
    return pytorch.train(spec["config"], _weights(folder), spec["loss"], x, y, THREADS)


def epoch_of(train):
    """Turns a `train_*` engine into one `fit` epoch of batches of 32."""

    def make(folder, x, y):
        package, model = train(folder)
        model.compile(package.optimizers.Adam(), _config(folder)["loss"])
        return lambda: model.fit(x, y, batch_size=32, epochs=1, verbose=0)

    return make


ENGINES = {
    "infer": {
        "lamina": infer_lamina,
        "jax": infer_jax,
        "tensorflow": infer_tensorflow,
        "onnxruntime": infer_onnxruntime,
        "openvino": infer_openvino,
        "litert": infer_litert,
        "torch": infer_torch,
    },
    "train": {
        "lamina": train_lamina,
        "keras-tensorflow": train_keras_tensorflow,
        "keras-jax": train_keras_jax,
        "jax": train_jax,
        "torch": train_torch,
    },
    "epoch": {
        "lamina": epoch_of(lamina_model),
        "keras-tensorflow": epoch_of(lambda f: keras_model(f, "tensorflow")),
        "keras-jax": epoch_of(lambda f: keras_model(f, "jax")),
    },
}


def main():
    """Says `ready` (or why not), then answers until standard input ends."""
    engine, work, folder = sys.argv[1:4]
    x = load(folder, "x")
    try:
        if work == "infer":
            call = ENGINES[work][engine](folder, x)
            error = float(np.max(np.abs(np.asarray(call()) - load(folder, "expected"))))
            if not error < 1e-4:
                raise ValueError(f"its output differs by {error:.1e}")
        else:
            call = ENGINES[work][engine](folder, x, load(folder, "y"))
            call()
        call()
    except Exception as reason:
        print(
            json.dumps({"failed": f"{type(reason).__name__}: {str(reason).splitlines()[0][:160]}"}),
            flush=True,
        )
        return
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        budget = float(line.split()[1])
        times, end = [], time.perf_counter() + budget
        while True:
            start = time.perf_counter()
            call()
            now = time.perf_counter()
            times.append(now - start)
            if now >= end and len(times) >= 3:
                break
        print(json.dumps({"median": float(np.median(times)), "calls": len(times)}), flush=True)


if __name__ == "__main__":
    main()
