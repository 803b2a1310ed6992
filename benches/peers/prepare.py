"""Builds one model in Keras; writes its config, weights, data, expected output and exports into a folder."""

import json
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import keras
import numpy as np
from models import INFERENCE, TRAINING, tabular


def main():
    """`prepare.py FOLDER WORK NAME BATCH`"""
    folder, work, name, batch = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    loss, classes = None, None
    if work == "infer":
        build, shape, _ = INFERENCE[name]
    elif work == "train":
        build, shape, loss, classes, _ = TRAINING[name]
    else:
        build, shape, loss = tabular, (20,), "mse"
    model = build(keras)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As training leaves them: with fresh statistics all outputs are alike, and agree in any case.
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_mean.shape))
    spec = {"class": type(model).__name__, "config": model.get_config(), "loss": loss}
    (folder / "config.json").write_text(json.dumps(spec))
    np.savez(folder / "weights.npz", **{f"w{i}": w for i, w in enumerate(model.get_weights())})
    ids = "int" in str(model.inputs[0].dtype)
    x = (
        rng.integers(0, 20000, (batch, *shape)).astype("int32")
        if ids
        else rng.random((batch, *shape), "float32")
    )
    np.save(folder / "x.npy", x)
    if loss:
        y = rng.integers(0, classes, (batch,)) if classes else rng.random((batch, 1), "float32")
        np.save(folder / "y.npy", y)
        return
    np.save(folder / "expected.npy", np.asarray(model.predict(x, verbose=0)))
    for export in (export_onnx, export_litert):
        try:
            export(model, folder)
        except Exception as reason:  # an engine without its file says so itself
            print(f"{export.__name__}: {reason}", file=sys.stderr)


def export_onnx(model, folder):
    """For ONNX Runtime and OpenVINO."""
    import onnx

    path = str(folder / "model.onnx")
    model.export(path, format="onnx", verbose=False)
    exported = onnx.load(path)
    # Constants of a Normalization layer are left over as inputs that no node reads.
    read = {name for node in exported.graph.node for name in node.input}
    for unread in [i for i in exported.graph.input if i.name not in read]:
        exported.graph.input.remove(unread)
    onnx.save(exported, path)


def export_litert(model, folder):
    """For LiteRT."""
    import tensorflow as tf

    (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


if __name__ == "__main__":
    main()
