"""The models of the comparison, built with any Keras-like package: `keras` or `lamina`."""


def tiny(k):
    """The 3-4-4-1 network of the question that lamina grew from."""
    layers = k.layers
    return k.Sequential([k.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(1)])


def mlp(k):
    """784-512-512-10."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((784,)),
            layers.Dense(512, activation="relu"),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn(k):
    """A LeNet-like network on 28x28x1."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def text_cnn(k):
    """Embedding 20000x128 over 400 words, Conv1D 128x5, global max pool, dense 1."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((400,), dtype="int32"),
            layers.Embedding(20000, 128),
            layers.Conv1D(128, 5, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def tabular(k):
    """20-64-64-1."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((20,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(1),
        ]
    )


def resnet50(k):
    """As `keras.applications` defines it, at 224."""
    return k.applications.ResNet50(weights=None)


def mobilenet_v2(k):
    """As `keras.applications` defines it, at 224."""
    return k.applications.MobileNetV2(weights=None)


def efficientnet_b0(k):
    """As `keras.applications` defines it, at 224."""
    return k.applications.EfficientNetB0(weights=None)


def mobilenet_v2_small(k):
    """MobileNetV2 at 96x96 with 10 classes, for training."""
    return k.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, classes=10)


# name -> (builder, input shape, batch sizes)
INFERENCE = {
    "3-4-4-1": (tiny, (3,), (1,)),
    "MLP": (mlp, (784,), (1, 32, 1024)),
    "CNN": (cnn, (28, 28, 1), (1, 32, 256)),
    "ResNet50": (resnet50, (224, 224, 3), (1, 8)),
    "MobileNetV2": (mobilenet_v2, (224, 224, 3), (1, 8)),
    "EfficientNetB0": (efficientnet_b0, (224, 224, 3), (1,)),
    "text CNN": (text_cnn, (400,), (1, 64)),
}

# name -> (builder, input shape, loss, classes, batch sizes)
TRAINING = {
    "3-4-4-1": (tiny, (3,), "mse", None, (32,)),
    "MLP": (mlp, (784,), "sparse_categorical_crossentropy", 10, (32, 128)),
    "CNN": (cnn, (28, 28, 1), "sparse_categorical_crossentropy", 10, (32, 128)),
    "MobileNetV2 96x96": (mobilenet_v2_small, (96, 96, 3), "sparse_categorical_crossentropy", 10, (8,)),
}
