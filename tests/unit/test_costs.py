"""FLOPs and memory, held to what the papers and Keras publish."""

import sys
import types

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.models.costs import layer_cost, model_cost, weight_formula
from lamina.models.summary import readable_count


def residual(x, filters, strides=1, project=False):
    """The bottleneck of ResNet (https://arxiv.org/abs/1512.03385)."""
    start = x
    if project:
        start = layers.BatchNormalization()(layers.Conv2D(4 * filters, 1, strides=strides)(x))
    for size, width, step in ((1, filters, strides), (3, filters, 1)):
        x = layers.Conv2D(width, size, strides=step, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(4 * filters, 1)(x))
    return layers.ReLU()(layers.Add()([start, x]))


def resnet50():
    inputs = lamina.Input((224, 224, 3))
    x = layers.Conv2D(64, 7, strides=2)(layers.ZeroPadding2D(3)(inputs))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for filters, count, strides in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        x = residual(x, filters, strides, project=True)
        for _ in range(count - 1):
            x = residual(x, filters)
    return lamina.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def inverted(x, filters, strides, expansion):
    """The inverted residual of MobileNetV2 (https://arxiv.org/abs/1801.04381)."""
    start, channels = x, x.shape[-1]
    if expansion != 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.Add()([start, x]) if strides == 1 and channels == filters else x


def mobilenet_v2():
    inputs = lamina.Input((224, 224, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for expansion, filters, count, strides in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(count):
            x = inverted(x, filters, strides if i == 0 else 1, expansion)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(1280, 1, use_bias=False)(x)))
    return lamina.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("build", "weights", "multiply_adds"),
    [(resnet50, 25_636_712, 3.86e9), (mobilenet_v2, 3_538_984, 300e6)],
)
def test_flops_of_published_networks(build, weights, multiply_adds):
    model = build()
    assert model.count_params() == weights  # as Keras publishes: it is that network
    assert model_cost(model).flops == pytest.approx(2 * multiply_adds, rel=0.01)
    assert model_cost(model, 2).flops == pytest.approx(2 * model_cost(model).flops, rel=1e-6)
    # Layer by layer, with what fusing saves, it is a little more.
    alone = [layer_cost(layer, model._nodes).flops for layer in model.layers]
    assert 1 < sum(alone) / model_cost(model).flops < 1.15
    assert model_cost(model).arena_bytes < sum(
        layer_cost(layer, model._nodes).output_bytes for layer in model.layers
    )


@pytest.mark.parametrize("build", [resnet50, mobilenet_v2])
def test_memory_at_a_large_batch_is_near_what_is_alive_at_once(build):
    one, many = model_cost(build()), model_cost(build(), 32)
    assert many.live_bytes <= many.arena_bytes <= 1.3 * many.live_bytes
    # A batch whose values would not stay in the cache runs in pieces: far from 32 times the memory.
    assert many.arena_bytes < 16 * one.arena_bytes


@pytest.mark.parametrize(
    ("layer", "shape", "flops", "output_bytes"),
    [
        (layers.Dense(4), (3,), 2 * 3 * 4, 4 * 4),
        (layers.Dense(15), (5, 3), 2 * 5 * 3 * 15, 5 * 15 * 4),
        (layers.Conv2D(8, 3, use_bias=False), (10, 10, 3), 2 * 8 * 8 * 27 * 8, 8 * 8 * 8 * 4),
        (layers.DepthwiseConv2D(3, use_bias=False), (10, 10, 3), 2 * 8 * 8 * 9 * 3, 8 * 8 * 3 * 4),
        (layers.Flatten(), (4, 5), 0, 20 * 4),
    ],
)
def test_flops_and_bytes_of_a_layer(layer, shape, flops, output_bytes):
    layer(lamina.Input(shape))
    for batch in (1, 7):
        cost = layer_cost(layer, batch_size=batch)
        # Adding the bias is part of the product's kernel, or one more addition per output.
        assert batch * flops <= cost.flops <= batch * (flops + output_bytes // 4)
        assert cost.output_bytes == batch * output_bytes


def test_a_shared_layer_costs_each_time_it_is_called():
    a, b = lamina.Input((3,)), lamina.Input((3,))
    shared = layers.Dense(4, use_bias=False)
    model = lamina.Model([a, b], layers.Add()([shared(a), shared(b)]))
    assert layer_cost(shared, model._nodes).flops == 2 * (2 * 3 * 4)


def test_an_unknown_axis_makes_the_cost_unknown():
    model = lamina.Sequential([lamina.Input((None, 3)), layers.Dense(4, name="d")])
    assert layer_cost(model.layers[0]).flops is None
    assert model_cost(model) is None


def test_a_call_that_needs_data_makes_the_cost_unknown():
    class Outside(layers.Layer):
        def call(self, x):
            return lamina.ops.convert_to_tensor(np.asarray(x) * 2)

        def compute_output_spec(self, x):
            return lamina.KerasTensor(x.shape, x.dtype)

    model = lamina.Sequential([lamina.Input((3,)), Outside(name="outside"), layers.Dense(2, name="d")])
    assert layer_cost(model.layers[0]).flops is None
    assert layer_cost(model.layers[0]).output_bytes == 12
    assert layer_cost(model.layers[1]).flops == 2 * 3 * 2
    assert model_cost(model) is None


def test_counting_does_not_change_the_model():
    model = lamina.Sequential(
        [lamina.Input((8, 8, 3)), layers.Conv2D(4, 3, activity_regularizer="l2"), layers.BatchNormalization()]
    )
    x = np.ones((2, 8, 8, 3), "float32")
    model(x)
    losses, weights = [float(v) for v in model.losses], model.get_weights()
    model.summary(print_fn=lambda _: None, flops=True, memory=True)
    assert [float(v) for v in model.losses] == losses
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_formulas_multiply_out_to_the_count():
    for layer, shape, formula in (
        (layers.Dense(512), (784,), "784*512 + 512"),
        (layers.Dense(4, use_bias=False), (3,), "3*4"),
        (layers.BatchNormalization(), (8, 8, 16), "4*16"),
        (layers.SeparableConv2D(8, 3), (8, 8, 3), "3*3*3*1 + 1*1*3*8 + 8"),
        (layers.Flatten(), (8, 8, 3), ""),
    ):
        layer(lamina.Input(shape))
        assert weight_formula(layer.weights) == formula
        assert eval(formula or "0") == layer.count_params()


def test_readable_counts():
    assert [readable_count(n) for n in (0, 99_999, 100_000, 7_717_858_184, 999_999_999)] == [
        "0",
        "99,999",
        "100 K",
        "7.72 G",
        "1.00 G",
    ]


def test_in_a_notebook_the_summary_is_html(monkeypatch, capsys):
    shown = []
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    lamina.Sequential([lamina.Input((3,)), layers.Dense(4, name="<b>")]).summary(flops=True)
    (html,) = shown
    assert html.startswith("<pre") and "&lt;b&gt; (" in html and "FLOPs" in html
    assert capsys.readouterr().out == ""
