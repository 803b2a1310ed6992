"""`lamina demo`: a convolutional network on real handwritten digits, from data to predictions."""

import os
import sys
import tempfile
import time

import numpy as np

TARGET = 0.97


def load_digits(seed=0):
    """scikit-learn's 1,797 digits of 8x8 pixels, one in five held out: (x, y) to train on, (x, y) to test."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise SystemExit(
            "The digits of the demo come with scikit-learn:\n"
            "  pip install scikit-learn   (or: pip install lamina[demo])"
        ) from None
    x, y = load(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    return (x[train], y[train]), (x[test], y[test])


def build_model():
    """A small convolutional network. The only shape given is that of the images."""
    import lamina
    from lamina import layers

    return lamina.Sequential(
        [
            lamina.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )


def draw(image, color):
    """The lines of an image of shape (height, width) with values from 0 to 1; a character is two pixels."""
    lines = []
    for top, bottom in zip(image[::2], image[1::2], strict=True):
        if color:  # 24 shades of grey: upper half in the foreground, lower half in the background
            pairs = ((232 + round(23 * t), 232 + round(23 * b)) for t, b in zip(top, bottom, strict=True))
            lines.append("".join(f"\x1b[38;5;{t};48;5;{b}m▀" for t, b in pairs) + "\x1b[0m")
        else:
            lines.append("".join(" ▄▀█"[2 * (t > 0.4) + (b > 0.4)] for t, b in zip(top, bottom, strict=True)))
    return lines


def show(images, labels, probabilities, color, per_row=8):
    """Prints images side by side with what the model says, and with the truth where it is wrong."""
    width = images.shape[2] + 2
    for start in range(0, len(images), per_row):
        part = slice(start, start + per_row)
        for row in zip(*(draw(image[..., 0], color) for image in images[part]), strict=True):
            print("  " + "  ".join(row))
        captions = []
        for label, p in zip(labels[part], probabilities[part], strict=True):
            said = int(p.argmax())
            text = f"{said} {p[said]:.0%}" if said == label else f"{said} not {label}"
            captions.append(text.ljust(width))
        print("  " + "".join(captions) + "\n")


def median_time(function, repeats=50):
    """The median time of a call in seconds, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def run(epochs=15, seed=0):
    """Runs the demo. Returns the exit status: 1 when the accuracy on held-out digits stays below 97 %."""
    import lamina

    (x_train, y_train), (x_test, y_test) = load_digits()
    lamina.utils.set_random_seed(seed)
    print(f"{len(x_train)} digits to train on, {len(x_test)} held out; images of shape {x_train.shape[1:]}\n")

    model = build_model()
    model.summary()
    steps = -(-len(x_train) // 32) * epochs
    rate = lamina.optimizers.schedules.CosineDecay(2e-3, decay_steps=max(1, steps))
    model.compile(lamina.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(x_train, y_train, batch_size=32, epochs=epochs, validation_data=(x_test, y_test))
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"\nTrained in {seconds:.1f} s. Accuracy on held-out digits: {accuracy:.2%}")

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.weights.npz")
        model.save_weights(path)
        restored = build_model()
        restored.load_weights(path)
        size = os.path.getsize(path)
    probabilities = restored.predict(x_test, verbose=0)
    same = np.array_equal(probabilities, model.predict(x_test, verbose=0))
    print(f"Saved {size / 1024:.0f} KiB of weights; a new model that loads them predicts the same: {same}\n")

    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != y_test)
    shown = np.concatenate(
        [np.setdiff1d(np.arange(len(y_test)), wrong)[: 16 - min(4, len(wrong))], wrong[:4]]
    )
    show(x_test[shown], y_test[shown], probabilities[shown], color=sys.stdout.isatty())

    one, batch = x_test[:1], (x_train[:32], y_train[:32])
    predict = median_time(lambda: model(one))
    train = median_time(lambda: model.train_on_batch(*batch))
    print(f"One prediction: {predict * 1e6:.0f} us. One training step of 32 images: {train * 1e3:.2f} ms.")
    if accuracy < TARGET:
        print(f"The demo failed: the accuracy should be at least {TARGET:.0%}.", file=sys.stderr)
    if not same:
        print("The demo failed: the restored model should predict the same.", file=sys.stderr)
    return int(accuracy < TARGET or not same)
