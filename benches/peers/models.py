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


def transformer(k):
    """Two encoder blocks of width 128 with four heads, over 64 steps."""
    layers = k.layers
    x = inputs = k.Input((64, 128))
    for _ in range(2):
        attended = layers.MultiHeadAttention(4, 32)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        wide = layers.Dense(512, activation="gelu")(x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(128)(wide)]))
    outputs = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return k.Model(inputs, outputs)


def lstm(k):
    """Two LSTM layers of 64 units over 50 steps of 32 features."""
    layers = k.layers
    return k.Sequential(
        [k.Input((50, 32)), layers.LSTM(64, return_sequences=True), layers.LSTM(64), layers.Dense(1)]
    )


def unet(k):
    """A U-Net of three levels on 128x128x3."""
    layers = k.layers

    def pair(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = k.Input((128, 128, 3))
    skips = []
    for filters in (16, 32, 64):
        x = pair(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    for filters, skip in zip((64, 32, 16), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = pair(layers.Concatenate()([x, skip]), filters)
    return k.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))


def autoencoder(k):
    """A convolutional autoencoder of 28x28x1, through 16 numbers."""
    layers = k.layers
    conv = {"strides": 2, "padding": "same", "activation": "relu"}
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(32, 3, **conv),
            layers.Conv2D(64, 3, **conv),
            layers.Flatten(),
            layers.Dense(16),
            layers.Dense(7 * 7 * 64, activation="relu"),
            layers.Reshape((7, 7, 64)),
            layers.Conv2DTranspose(64, 3, **conv),
            layers.Conv2DTranspose(32, 3, **conv),
            layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid"),
        ]
    )


# name -> (builder, input shape, batch sizes)
INFERENCE = {
    "3-4-4-1": (tiny, (3,), (1,)),
    "MLP": (mlp, (784,), (1, 32, 1024)),
    "CNN": (cnn, (28, 28, 1), (1, 32, 256)),
    "ResNet50": (resnet50, (224, 224, 3), (1, 8)),
    "MobileNetV2": (mobilenet_v2, (224, 224, 3), (1, 8)),
    "EfficientNetB0": (efficientnet_b0, (224, 224, 3), (1,)),
    "text CNN": (text_cnn, (400,), (1, 64)),
    "transformer": (transformer, (64, 128), (1,)),
    "LSTM": (lstm, (50, 32), (1,)),
    "U-Net": (unet, (128, 128, 3), (1,)),
    "autoencoder": (autoencoder, (28, 28, 1), (1,)),
}

# name -> (builder, input shape, loss, classes, batch sizes)
TRAINING = {
    "3-4-4-1": (tiny, (3,), "mse", None, (32,)),
    "MLP": (mlp, (784,), "sparse_categorical_crossentropy", 10, (32, 128)),
    "CNN": (cnn, (28, 28, 1), "sparse_categorical_crossentropy", 10, (32, 128)),
    "MobileNetV2 96x96": (mobilenet_v2_small, (96, 96, 3), "sparse_categorical_crossentropy", 10, (8,)),
}
