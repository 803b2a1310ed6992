"""Functional, Sequential and subclassed models."""

import copy
import pickle
import threading

import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.errors import FileFormatError, ShapeError

pytestmark = pytest.mark.filterwarnings("ignore:.*legacy way to say")
X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)


def shapes(model):
    return [layer.output.shape for layer in model.layers]


# ---------------------------------------------------------------- the question that the project grew from


def test_the_question_sequential():
    model = lamina.Sequential()
    model.add(layers.Dense(units=4, input_shape=(3,)))
    model.add(layers.Dense(units=4))
    model.add(layers.Dense(units=1))
    assert model.input_shape == (None, 3)
    assert shapes(model) == [(None, 4), (None, 4), (None, 1)]
    assert [w.shape for w in model.weights] == [(3, 4), (4,), (4, 4), (4,), (4, 1), (1,)]


def test_the_question_functional():
    inp = lamina.Input((3,))
    x = layers.Dense(4)(inp)
    x = layers.Dense(4)(x)
    out = layers.Dense(1)(x)
    model = lamina.Model(inp, out)
    assert shapes(model) == [(None, 3), (None, 4), (None, 4), (None, 1)]
    assert model.predict(X, verbose=0).shape == (4, 1)


def test_input_dim_then_activation():
    model = lamina.Sequential([layers.Dense(32, input_dim=784), layers.Activation("relu")])
    assert shapes(model) == [(None, 32), (None, 32)]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: layers.Conv2D(4, 3, input_shape=(50, 50, 3)), (None, 50, 50, 3)),
        (lambda: layers.Conv2D(4, 3, batch_input_shape=(30, 50, 50, 3)), (30, 50, 50, 3)),
    ],
)
def test_batch_size_is_shown_where_it_is_fixed(layer, expected):
    model = lamina.Sequential([layer()])
    assert model.input_shape == expected
    assert model.output_shape == (expected[0], 48, 48, 4)
    assert lamina.Input(batch_shape=(30, 50, 50, 3)).shape == (30, 50, 50, 3)


@pytest.mark.parametrize(("input_shape", "lead"), [((5, 3), (None, 5)), ((15,), (None,))])
def test_dense_works_on_the_last_axis(input_shape, lead):
    options = {
        "activation": "relu",
        "kernel_initializer": "he_uniform",
        "kernel_regularizer": None,
        "kernel_constraint": "MaxNorm",
    }
    model = lamina.Sequential([layers.Dense(15, input_shape=input_shape, **options)])
    model.add(layers.Dense(32, **options))
    model.add(layers.Dense(8))
    assert shapes(model) == [(*lead, 15), (*lead, 32), (*lead, 8)]


def test_channels_first_and_last():
    last = lamina.Sequential([lamina.Input((50, 50, 3)), layers.Conv2D(8, 3, strides=2)])
    first = lamina.Sequential(
        [lamina.Input((3, 50, 50)), layers.Conv2D(8, 3, strides=2, data_format="channels_first")]
    )
    assert last.output_shape == (None, 24, 24, 8)
    assert first.output_shape == (None, 8, 24, 24)
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 50, 50, 3)).astype("float32")
    np.testing.assert_allclose(
        np.moveaxis(first.predict(np.moveaxis(x, -1, 1), verbose=0), 1, -1),
        last.predict(x, verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


# --------------------------------------------------------------------------------------------- functional


def branched():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    shared = layers.Dense(4, name="shared")
    x, y = shared(a), shared(b)
    joined = layers.Concatenate(name="joined")([x, y])
    return lamina.Model(
        [a, b], {"sum": layers.Add(name="sum")([x, y]), "out": layers.Dense(1, name="out")(joined)}
    )


def test_branches_shared_layers_and_structured_outputs():
    model = branched()
    assert [layer.name for layer in model.layers] == ["a", "b", "shared", "joined", "out", "sum"]
    assert len(model.weights) == 4
    out = model([X, X])
    np.testing.assert_allclose(out["sum"], 2 * model.get_layer("shared")(X), rtol=1e-6)
    assert out["out"].shape == (4, 1)
    assert model.output_names == ["out", "sum"]
    assert model.input_names == ["a", "b"]


@pytest.mark.parametrize(
    "data", [[X, 2 * X], (X, 2 * X), {"a": X, "b": 2 * X}, {"b": 2 * X, "a": X, "extra": X}]
)
def test_inputs_as_list_tuple_or_dict(data):
    model = branched()
    expected = model.get_layer("shared")(X) + model.get_layer("shared")(2 * X)
    np.testing.assert_allclose(model(data)["sum"], expected, rtol=1e-6)


@pytest.mark.parametrize("data", [X, [X], {"a": X, "c": X}])
def test_inputs_of_another_structure(data):
    with pytest.raises(ValueError, match="structure of `inputs`"):
        branched()(data)


def test_dict_of_inputs():
    inputs = {"x": lamina.Input((3,), name="x"), "y": lamina.Input((2,), name="y")}
    model = lamina.Model(inputs, layers.Concatenate()([inputs["y"], inputs["x"]]))
    out = model({"y": X[:, :2], "x": X})
    np.testing.assert_allclose(out, np.concatenate([X[:, :2], X], -1))
    np.testing.assert_allclose(model.predict({"x": X, "y": X[:, :2]}, verbose=0), out)


def test_sub_model_from_the_middle():
    inp = lamina.Input((3,))
    hidden = layers.Dense(4, name="hidden")(inp)
    out = layers.Dense(2)(layers.Activation("relu")(hidden))
    model = lamina.Model(inp, out)
    features = lamina.Model(model.input, model.get_layer("hidden").output)
    head = lamina.Model(hidden, out)
    np.testing.assert_allclose(head(features(X)), model(X), rtol=1e-6)
    assert head.weights[0] is model.weights[2]
    assert model.get_layer("hidden").output is hidden


def test_nested_models():
    inner_in = lamina.Input((3,))
    inner = lamina.Model(inner_in, layers.Dense(4)(inner_in), name="inner")
    outer_in = lamina.Input((3,))
    x = inner(outer_in)
    x = lamina.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)], name="stack")(x)
    model = lamina.Model(outer_in, x)
    assert [layer.name for layer in model.layers][1:] == ["inner", "stack"]
    assert len(model.weights) == 6
    assert model(X).shape == (4, 2)
    assert inner(lamina.Input(batch_shape=(5, 3))).shape == (5, 4)


def test_ops_in_a_functional_model():
    inp = lamina.Input((3,))
    x = ops.concatenate([inp * 2, ops.exp(inp)[:, :1]], axis=-1)
    model = lamina.Model(inp, ops.sum(x, axis=-1, keepdims=True))
    expected = (2 * X).sum(-1, keepdims=True) + np.exp(X[:, :1])
    np.testing.assert_allclose(model(X), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5)


def test_lambda_and_custom_layers_in_a_model():
    class Gain(layers.Layer):
        def build(self, input_shape):
            self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

        def call(self, x):
            return x * self.gain

    inp = lamina.Input((3,))
    model = lamina.Model(inp, Gain()(layers.Lambda(lambda x: x**2)(inp)))
    np.testing.assert_allclose(model(X), X**2, rtol=1e-6)
    assert [w.path for w in model.weights] == ["gain/gain"]


def test_unused_input_and_same_input_as_output():
    a, b = lamina.Input((3,)), lamina.Input((2,))
    model = lamina.Model([a, b], [a, layers.Dense(2)(a)])
    out = model([X, X[:, :2]])
    np.testing.assert_array_equal(out[0], X)


def test_disconnected_graph_and_bad_arguments():
    a, b = lamina.Input((3,)), lamina.Input((3,))
    with pytest.raises(ValueError, match=r"not connected to `inputs`\. Graph disconnected"):
        lamina.Model(a, layers.Add()([a, b]))
    with pytest.raises(ValueError, match="must be KerasTensors"):
        lamina.Model(X, layers.Dense(1)(a))
    with pytest.raises(ValueError, match="call the layer"):
        lamina.Model(a, layers.Dense(1))
    with pytest.raises(ValueError, match="All operation names should be unique"):
        lamina.Model(a, layers.Dense(1, name="x")(layers.Dense(1, name="x")(a)))


def test_training_reaches_the_layers():
    inp = lamina.Input((100,))
    model = lamina.Model(inp, layers.Dropout(0.5, seed=1)(inp))
    x = np.ones((2, 100), "float32")
    np.testing.assert_array_equal(model(x), x)
    np.testing.assert_array_equal(model(x, training=False), x)
    assert 0 < np.mean(np.asarray(model(x, training=True)) == 0) < 1
    first, second = np.asarray(model(x, training=True)), np.asarray(model(x, training=True))
    assert (first != second).any()


def test_a_call_sees_changes_made_to_its_layers():
    inp = lamina.Input((3,))
    model = lamina.Model(inp, layers.Dense(3, kernel_initializer="identity", name="d")(inp))
    np.testing.assert_allclose(model(X), X, rtol=1e-6)
    model.get_layer("d").activation = lamina.activations.relu
    np.testing.assert_allclose(model(X), np.maximum(X, 0), rtol=1e-6)
    model.get_layer("d").kernel.assign(2 * np.eye(3))
    np.testing.assert_allclose(model(X), 2 * np.maximum(X, 0), rtol=1e-6)


def test_batch_normalization_updates_its_statistics_in_a_compiled_call():
    model = lamina.Sequential([lamina.Input((3,)), layers.BatchNormalization(momentum=0.0)])
    model(X, training=True)
    np.testing.assert_allclose(model.layers[0].moving_mean, X.mean(0), atol=1e-6)
    model.layers[0].trainable = False
    model(10 + X, training=True)
    np.testing.assert_allclose(model.layers[0].moving_mean, X.mean(0), atol=1e-6)


def test_compiled_and_eager_calls_agree():
    model = branched()
    compiled = model([X, 2 * X])
    with lamina.engine.scope.flag("eager"):
        eager = model([X, 2 * X])
    for key in compiled:
        np.testing.assert_allclose(compiled[key], eager[key], rtol=1e-6)


def test_losses_after_a_compiled_call():
    model = lamina.Sequential(
        [lamina.Input((3,)), layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l2")]
    )
    model(X)
    assert len(model.losses) == 2
    assert all(float(x) > 0 for x in model.losses)


def test_a_model_may_be_called_from_many_threads():
    model = branched()
    expected = np.asarray(model([X, X])["out"])
    results = []

    def work():
        for n in (1, 2, 3, 4):
            results.append(np.allclose(model([X[:n], X[:n]])["out"], expected[:n], rtol=1e-5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 16


# --------------------------------------------------------------------------------- data that does not fit


def sequential(shape):
    return lamina.Sequential([lamina.Input(shape, name="data"), layers.Flatten(), layers.Dense(2)])


def test_another_batch_size_than_a_fixed_one_is_said_once():
    model = lamina.Sequential([lamina.Input(batch_shape=(4, 3)), layers.Dense(2)])
    assert model(X).shape == (4, 2)
    with pytest.warns(UserWarning, match="batches of exactly 4, and was fed one of 3"):
        assert model(X[:3]).shape == (3, 2)
    model.strict_shapes = True
    with pytest.raises(ShapeError, match="batches of exactly 4"):
        model(X[:2])


def test_optional_input():
    class Either(layers.Layer):
        def call(self, a, b=None):
            return a if b is None else a + b

        def compute_output_shape(self, a_shape):
            return a_shape

    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b", optional=True)
    model = lamina.Model([a, b], Either()(a, b))
    np.testing.assert_allclose(model([X, None]), X)
    np.testing.assert_allclose(model([X, X]), 2 * X)
    with pytest.raises(ValueError, match="'a' is not optional"):
        model([None, X])


# --------------------------------------------------------------------------------------------- sequential


def test_deferred_build():
    model = lamina.Sequential([layers.Dense(4), layers.Dense(2)])
    assert not model.built
    assert model.weights == []
    with pytest.raises(AttributeError, match=r"no defined output shape yet.*input shape is unknown"):
        model.output_shape  # noqa: B018
    assert model(X).shape == (4, 2)
    assert model.built
    assert model.input_shape[1:] == (3,)
    assert model.weights[0].path == "sequential/dense/kernel"


def test_build_with_a_shape():
    model = lamina.Sequential([layers.Dense(4)])
    model.build((None, 3))
    assert model.input_shape == (None, 3)
    with pytest.raises(ValueError, match="already been configured"):
        model.build((None, 5))


def test_add_and_pop():
    model = lamina.Sequential([lamina.Input((3,))])
    model.add(layers.Dense(4))
    assert model.output_shape == (None, 4)
    model.add(layers.Dense(2))
    first = model.layers[0].kernel
    assert model(X).shape == (4, 2)
    assert model.pop().name == "dense_1"
    assert model.output_shape == (None, 4)
    assert model(X).shape == (4, 4)
    assert model.layers[0].kernel is first
    model.pop()
    assert not model.built
    with pytest.raises(ValueError, match="no layers to pop"):
        model.pop()


def test_a_layer_that_does_not_fit_is_not_added():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(4)])
    with pytest.raises(ShapeError, match="expected min_ndim=4"):
        model.add(layers.Conv2D(2, 3))
    assert len(model.layers) == 1
    assert model(X).shape == (4, 4)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (lambda: ["dense"], "Only instances of"),
        (lambda: [layers.Dense], "Make it first"),
        (lambda: [layers.Dense(1, name="a"), layers.Dense(1, name="a")], "unique names"),
        (lambda: [lamina.Input((3,)), lamina.Input((3,))], "different Input layer"),
    ],
)
def test_what_cannot_be_stacked(stack, message):
    with pytest.raises(ValueError, match=message):
        lamina.Sequential(stack())


def test_a_layer_with_two_inputs_cannot_be_stacked():
    class Two(layers.Layer):
        def call(self, a, b):
            return a

    with pytest.raises(ValueError, match="single required positional argument"):
        lamina.Sequential([lamina.Input((3,)), Two()])


def test_sequential_inside_sequential():
    inner = lamina.Sequential([lamina.Input((3,)), layers.Dense(4)])
    model = lamina.Sequential([inner, layers.Dense(2)])
    assert model.input_shape == (None, 3)
    assert model(X).shape == (4, 2)
    assert len(model.weights) == 4


def test_sequential_output_makes_sub_models():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(4), layers.Dense(2)])
    features = lamina.Model(model.input, model.layers[0].output)
    assert features(X).shape == (4, 4)
    assert lamina.Model(model.inputs, model.output)(X).shape == (4, 2)


# --------------------------------------------------------------------------------------------- subclassed


class Net(lamina.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activation="relu")
        self.out = layers.Dense(1)

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs))


def test_subclassed_model():
    model = Net()
    assert not model.built
    assert model(X).shape == (4, 1)
    assert [w.path for w in model.weights] == [
        "net/hidden/kernel".replace("hidden", "dense"),
        "net/dense/bias",
        "net/dense_1/kernel",
        "net/dense_1/bias",
    ]
    assert model.layers == [model.hidden, model.out]
    assert Net.from_config(model.get_config()).units == 4


def test_a_subclassed_model_without_get_config_remembers_its_arguments():
    class Wide(lamina.Model):
        def __init__(self, units, rate=0.5):
            super().__init__()
            self.units, self.rate = units, rate

    assert Wide(7).get_config() == {"units": 7, "rate": 0.5}
    again = lamina.models.clone_model(Wide(7, rate=0.25))
    assert (again.units, again.rate) == (7, 0.25)


def test_subclassed_model_builds_from_a_shape():
    model = Net()
    model.build((None, 3))
    assert model.hidden.kernel.shape == (3, 4)
    assert model.built


def test_subclassed_model_in_a_functional_one():
    inp = lamina.Input((3,))
    model = lamina.Model(inp, Net()(inp))
    assert model(X).shape == (4, 1)


def test_subclass_that_gives_inputs_and_outputs():
    class Made(lamina.Model):
        def __init__(self, units):
            inp = lamina.Input((3,))
            super().__init__(inputs=inp, outputs=layers.Dense(units)(inp))
            self.units = units

    model = Made(5)
    assert isinstance(model, lamina.models.Functional)
    assert model(X).shape == (4, 5)
    assert Made(2)(X).shape == (4, 2)
    assert model.output_shape == (None, 5)


def test_model_without_call():
    class Empty(lamina.Model):
        pass

    with pytest.raises(NotImplementedError, match="Model Empty does not have a `call"):
        Empty()(X)


def test_layers_attribute_is_reserved():
    with pytest.raises(AttributeError, match="reserved"):
        Net().layers = []


def test_get_layer():
    model = branched()
    assert model.get_layer(index=2).name == "shared"
    with pytest.raises(ValueError, match=r"No such layer: share.*Did you mean 'shared'"):
        model.get_layer("share")
    with pytest.raises(ValueError, match="only has 6 layers"):
        model.get_layer(index=6)
    with pytest.raises(ValueError, match="Provide either"):
        model.get_layer()
    with pytest.raises(ValueError, match="only a layer name or a layer index"):
        model.get_layer("a", 1)


# -------------------------------------------------------------------------------------------- round trips


def convolutional():
    return lamina.Sequential(
        [
            lamina.Input((8, 8, 1)),
            layers.Conv2D(2, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )


def nested():
    inner_in = lamina.Input((3,), name="inner_in")
    inner = lamina.Model(inner_in, [layers.Dense(2)(inner_in), inner_in * 2.0], name="inner")
    a = lamina.Input((3,), name="a")
    p, q = inner(a)
    r, _ = inner(layers.Dense(3)(q))
    y = lamina.Sequential([layers.Dense(2), layers.ReLU()], name="stack")(p)
    return lamina.Model(a, [ops.add(y, r)[:, :1], q])


def data_for(model):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(4, *x.shape[1:])).astype("float32") for x in model.inputs]
    return arrays[0] if len(arrays) == 1 else arrays


def same_outputs(a, b, x):
    for p, q in zip(lamina.tree.flatten(a(x)), lamina.tree.flatten(b(x)), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [branched, convolutional, nested])
def test_config_and_json_round_trip(make):
    model = make()
    for again in (
        type(model).from_config(model.get_config()),
        lamina.models.model_from_json(model.to_json()),
    ):
        assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
        assert again.get_config() == model.get_config()
        again.set_weights(model.get_weights())
        same_outputs(model, again, data_for(model))


@pytest.mark.parametrize("make", [branched, convolutional, nested])
def test_clone_has_the_same_layers_and_new_weights(make):
    model = make()
    twin = lamina.models.clone_model(model)
    assert type(twin) is type(model)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert [w.shape for w in twin.weights] == [w.shape for w in model.weights]
    assert all(a is not b for a, b in zip(model.weights, twin.weights, strict=True))
    twin.set_weights(model.get_weights())
    same_outputs(model, twin, data_for(model))


def test_clone_function_replaces_layers():
    model = convolutional()

    def without_dropout(layer):
        if isinstance(layer, layers.Dropout):
            return layers.Identity(name="nothing")
        return type(layer).from_config(layer.get_config())

    twin = lamina.models.clone_model(model, clone_function=without_dropout)
    assert [layer.name for layer in twin.layers][3] == "nothing"


def test_clone_on_other_inputs():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(2)])
    twin = lamina.models.clone_model(model, input_tensors=lamina.Input(batch_shape=(7, 3)))
    assert twin.input_shape == (7, 3)
    inp = lamina.Input((3,))
    functional = lamina.Model(inp, layers.Dense(2)(inp))
    assert lamina.models.clone_model(
        functional, input_tensors=lamina.Input(batch_shape=(7, 3))
    ).output_shape == (7, 2)


def test_clone_keeps_functions_of_the_user():
    inp = lamina.Input((3,))
    model = lamina.Model(inp, layers.Lambda(lambda x: x + 1)(inp))
    np.testing.assert_allclose(lamina.models.clone_model(model)(X), X + 1)


@pytest.mark.parametrize("make", [branched, convolutional, nested, Net])
@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m, protocol=5))], ids=["deepcopy", "pickle"]
)
def test_models_can_be_copied(make, copier):
    model = make()
    x = X if make is Net else data_for(model)
    model(x)
    twin = copier(model)
    same_outputs(model, twin, x)
    twin.set_weights([w * 0 for w in twin.get_weights()])
    assert any(np.abs(w).sum() > 0 for w in model.get_weights())


def test_copied_model_goes_on_training():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
    model.compile("adam", "mse")
    y = X.sum(-1, keepdims=True)
    model.fit(X, y, epochs=2, verbose=0)
    twin = copy.deepcopy(model)
    a = model.fit(X, y, epochs=2, verbose=0, shuffle=False).history["loss"]
    b = twin.fit(X, y, epochs=2, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(a, b, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("make", [branched, convolutional, nested, Net])
def test_weights_go_through_a_file(make, tmp_path):
    model, twin = make(), make()
    x = X if make is Net else data_for(model)
    model(x), twin(x)
    path = tmp_path / "model.weights.npz"
    model.save_weights(path)
    twin.load_weights(path)
    same_outputs(model, twin, x)


def test_weight_file_says_what_does_not_fit(tmp_path):
    path = tmp_path / "w.npz"
    convolutional().save_weights(path)
    other = lamina.Sequential([lamina.Input((8, 8, 1)), layers.Conv2D(5, 3), layers.BatchNormalization()])
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"layers/conv2d.*\(3, 3, 1, 5\).*the file has \(3, 3, 1, 2\)"):
        other.load_weights(path)
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match="Skipped"):
        other.load_weights(path, skip_mismatch=True)


def test_weight_file_that_is_none(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"not an archive")
    model = convolutional()
    with pytest.raises(FileFormatError, match="not a weights file"):
        model.load_weights(path)
    with pytest.raises(FileNotFoundError):
        model.load_weights(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"must end in `\.npz`"):
        model.save_weights(tmp_path / "w.bin")
    with pytest.raises(FileExistsError):
        model.save_weights(path, overwrite=False)
    assert path.read_bytes() == b"not an archive"


def test_state_tree_holds_every_variable():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1, name="d")], name="m")
    model.compile("sgd", "mse")
    state = model.get_state_tree("numpy_array")
    assert state["trainable_variables"]["m"]["d"]["kernel"].shape == (3, 1)
    assert set(state) == {
        "trainable_variables",
        "non_trainable_variables",
        "optimizer_variables",
        "metrics_variables",
    }
    state["trainable_variables"]["m"]["d"]["bias"] += 5
    model.set_state_tree(state)
    np.testing.assert_array_equal(model.weights[1], [5.0])
    with pytest.raises(ValueError, match="Unknown variable name"):
        model.set_state_tree({"other": {}})
    with pytest.raises(ValueError, match="value_format"):
        model.get_state_tree("text")


def test_weights_of_an_unbuilt_model(tmp_path):
    with pytest.raises(ValueError, match="not built"):
        lamina.Sequential([layers.Dense(2)]).save_weights(tmp_path / "w.npz")


def test_optimizer_state_goes_with_the_weights(tmp_path):
    path = tmp_path / "w.npz"
    y = X.sum(-1, keepdims=True)

    def make():
        model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(X, y, epochs=3, verbose=0, shuffle=False)
        return model

    a, b = make(), make()
    a.save_weights(path)
    b.load_weights(path)
    for v, w in zip(a.optimizer.variables, b.optimizer.variables, strict=True):
        np.testing.assert_allclose(v.numpy(), w.numpy())
    plain = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
    plain.load_weights(path)
    np.testing.assert_array_equal(plain.get_weights()[0], a.get_weights()[0])


@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((96,), lambda: [layers.Dense(512, activation="relu"), layers.Dense(130)]),
        ((3, 2, 1), lambda: [layers.Conv2D(96, 2, activation="relu"), layers.MaxPooling2D((2, 1))]),
        ((2, 2, 64), lambda: [layers.DepthwiseConv2D(2), layers.Conv2D(96, 1), layers.Flatten()]),
    ],
)
def test_one_row_and_many_share_a_model_whose_weights_are_packed_otherwise_for_each(shape, build):
    many = np.random.default_rng(0).normal(size=(40, *shape)).astype("float32")
    model = lamina.Sequential([lamina.Input(shape), *build()])
    one = np.asarray(model(many[:1]))
    np.testing.assert_allclose(np.asarray(model(many))[:1], one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.asarray(model(many[1:3])), np.asarray(model(many))[1:3], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(np.asarray(model(many[:1])), one)
