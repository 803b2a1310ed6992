"""`Layer`: building, calling, tracking, masks, losses, configuration."""

import copy
import pickle

import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.errors import ShapeError


class Affine(layers.Layer):
    """A layer as a user writes it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias


class Phase(layers.Layer):
    """Returns 1 when training, 0 when not, -1 when nobody says."""

    def call(self, x, training=None):
        return ops.zeros_like(x) + (-1.0 if training is None else float(training))


# ----------------------------------------------------------------------------------------------- building


def test_weights_come_with_the_first_call():
    layer = Affine(4)
    assert not layer.built
    assert layer.weights == []
    y = layer(np.ones((2, 3), "float32"))
    assert y.shape == (2, 4)
    assert layer.built
    assert [w.path for w in layer.weights] == ["affine/kernel", "affine/bias", "affine/count"]
    assert [w.shape for w in layer.trainable_weights] == [(3, 4), (4,)]
    assert [w.name for w in layer.non_trainable_weights] == ["count"]
    assert layer.count_params() == 17
    assert layer.get_build_config() == {"input_shape": (2, 3)}


def test_build_by_hand_and_symbolic():
    layer = Affine(4)
    layer.build((None, 3))
    assert layer.kernel.shape == (3, 4)
    other = Affine(4)
    assert other(lamina.Input((3,))).shape == (None, 4)
    assert other.built


def test_state_is_locked_after_build():
    layer = Affine(4)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        layer.extra = lamina.Variable(0.0)


def test_a_failed_build_leaves_nothing_behind():
    class Picky(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(2,))
            if input_shape[-1] != 3:
                raise ValueError("three, please")

        def call(self, x):
            return x

    layer = Picky()
    with pytest.raises(ValueError, match="three"):
        layer(np.ones((1, 2), "float32"))
    assert layer.weights == []
    layer(np.ones((1, 3), "float32"))
    assert len(layer.weights) == 1


def test_build_with_several_shapes_by_name():
    class Two(layers.Layer):
        def build(self, a_shape, b_shape):
            self.shapes = (a_shape, b_shape)

        def call(self, a, b):
            return a + b

    layer = Two()
    layer(np.ones((2, 3), "float32"), b=np.ones((2, 1), "float32"))
    assert layer.shapes == ((2, 3), (2, 1))
    assert layer.get_build_config() == {"shapes_dict": {"a_shape": (2, 3), "b_shape": (2, 1)}}


def test_build_with_arguments_that_call_lacks():
    class Odd(layers.Layer):
        def build(self, a_shape, c_shape):
            pass

        def call(self, a, b):
            return a

    with pytest.raises(ValueError, match=r"`c_shape`, but `call\(\)` does not have argument `c`"):
        Odd()(np.ones((2, 3), "float32"), b=np.ones((2, 3), "float32"))


def test_sublayers_are_built_by_the_call():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = [Affine(4), Affine(2)]

        def call(self, x):
            for layer in self.inner:
                x = layer(x)
            return x

    block = Block()
    assert block(lamina.Input((3,))).shape == (None, 2)
    assert [w.path for w in block.weights[:1]] == ["block/affine/kernel"]
    assert len(block.weights) == 6


def test_forgotten_super_init():
    class Bad(layers.Layer):
        def __init__(self):
            pass

        def call(self, x):
            return x

    with pytest.raises(RuntimeError, match="forgot to call `super"):
        Bad()(np.ones((1, 1)))


def test_layer_without_call():
    with pytest.raises(NotImplementedError, match="Layer Layer does not have a `call` method"):
        layers.Layer()(np.ones((1, 1), "float32"))


# ----------------------------------------------------------------------------------------------- tracking


def test_tracking_in_containers_keeps_order():
    class Net(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a = Affine(1)
            self.stack = [Affine(1)]
            self.stack.append(Affine(1))
            self.named = {"x": Affine(1)}
            self.named["y"] = Affine(1)
            self.pair = (Affine(1), 3)

    net = Net()
    assert [layer.name for layer in net._layers] == ["affine", *[f"affine_{i}" for i in range(1, 6)]]
    del net.stack[0]
    assert len(net._layers) == 5
    net.stack.pop()
    assert len(net._layers) == 4


def test_shared_sublayers_count_once():
    shared = Affine(2)
    shared.build((None, 2))

    class Net(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a = self.b = shared

    assert len(Net().weights) == 3


def test_trainable_goes_down_and_into_variables():
    class Net(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Affine(2)

        def call(self, x):
            return self.inner(x)

    net = Net()
    net(np.ones((1, 2), "float32"))
    net.trainable = False
    assert net.trainable_weights == []
    assert len(net.non_trainable_weights) == 3
    net.trainable = True
    assert [w.name for w in net.trainable_weights] == ["kernel", "bias"]
    assert not net.inner.count.trainable


def test_get_and_set_weights():
    a, b = Affine(4), Affine(4)
    for layer in (a, b):
        layer.build((None, 3))
    b.set_weights(a.get_weights())
    np.testing.assert_array_equal(a.kernel, b.kernel)
    with pytest.raises(ValueError, match="weight list of length 1, but the layer was expecting 3"):
        a.set_weights([np.zeros((3, 4))])
    before = a.get_weights()
    with pytest.raises(ValueError, match=r"weight shape \(4,\) is not compatible.*\(5,\)"):
        a.set_weights([np.zeros((3, 4)), np.zeros((5,)), np.zeros(())])
    np.testing.assert_array_equal(a.kernel, before[0])


def test_legacy_weights_argument():
    layer = layers.Dense(2, weights=[np.ones((3, 2)), np.full(2, 5.0)])
    np.testing.assert_allclose(layer(np.ones((1, 3), "float32")), [[8.0, 8.0]])


# ------------------------------------------------------------------------------------------------ calling


def test_inputs_are_converted_and_cast():
    class Seen(layers.Layer):
        def call(self, x):
            self.seen.append((type(x).__name__, x.dtype))
            return x

    layer = Seen()
    layer.__dict__["seen"] = []
    layer(np.ones((1, 2)))
    layer([[1, 2], [3, 4]])
    layer([[1.0, 2.0]])
    layer(ops.ones((1,), "float16"))
    assert [dtype for _, dtype in layer.seen] == ["float32", "int64", "float32", "float32"]
    Seen(autocast=False)


def test_positional_arguments_must_be_tensors():
    with pytest.raises(ValueError, match="Only input tensors may be passed as positional"):
        Phase()(np.ones((1,), "float32"), True)


def test_a_layer_where_a_tensor_belongs():
    with pytest.raises(ValueError, match="A layer stands where its output belongs"):
        layers.Dense(3)(layers.Dense(4))


def test_ragged_lists_say_their_lengths():
    with pytest.raises(ValueError, match="row 0 has length 2, row 1 has length 1"):
        layers.Dense(3)([[1.0, 2.0], [3.0]])


def test_training_is_inherited_from_the_outer_call():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.a, self.b = Phase(), Phase()

        def call(self, x, training=False):
            return self.a(x), self.b(x, training=True), self.a(x)

    x = np.zeros((1,), "float32")
    outer = Outer()
    assert [float(y[0]) for y in outer(x)] == [0.0, 1.0, 0.0]
    assert [float(y[0]) for y in outer(x, training=True)] == [1.0, 1.0, 1.0]
    assert float(Phase()(x)[0]) == -1.0
    assert float(Phase()(x, training=True)[0]) == 1.0


def test_training_passes_through_layers_that_do_not_take_it():
    class Deaf(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Phase()

        def call(self, x):
            return self.inner(x)

    assert float(Deaf()(np.zeros((1,), "float32"), training=True)[0]) == 1.0


def test_symbolic_and_concrete_calls_agree():
    layer = Affine(4)
    x = lamina.Input((5, 3))
    assert layer(x).shape == (None, 5, 4)
    assert layer(np.ones((2, 5, 3), "float32")).shape == (2, 5, 4)
    assert layer.compute_output_shape((None, 3)) == (None, 4)


def test_output_shape_of_a_layer_that_is_not_built_makes_no_weights():
    layer = layers.Dense(4)
    assert layer.compute_output_shape((None, 7)) == (None, 4)
    assert not layer.built
    assert layer.weights == []


def test_a_call_that_cannot_be_traced_may_say_its_shape():
    class Opaque(layers.Layer):
        def call(self, x):
            return ops.convert_to_tensor(np.asarray(x)[:, :2])

        def compute_output_shape(self, input_shape):
            return (input_shape[0], 2)

    layer = Opaque()
    assert layer(lamina.Input((5,))).shape == (None, 2)
    assert layer(np.ones((3, 5), "float32")).shape == (3, 2)


def test_several_inputs_and_outputs_in_structures():
    class Mix(layers.Layer):
        def call(self, inputs):
            return {"sum": inputs["a"] + inputs["b"][0], "b": inputs["b"]}

    layer = Mix()
    x = lamina.Input((2,))
    out = layer({"a": x, "b": [x, x]})
    assert out["sum"].shape == (None, 2)
    assert isinstance(out["b"], list)


def test_mixed_precision():
    layer = layers.Dense(2, dtype="mixed_bfloat16")
    y = layer(np.ones((1, 3), "float32"))
    assert y.dtype == "bfloat16"
    assert layer.kernel.dtype == "float32"
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    assert layer(lamina.Input((3,))).dtype == "bfloat16"


def test_the_global_policy_by_its_old_name():
    lamina.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        assert layers.Dense(2).compute_dtype == "bfloat16"
    finally:
        lamina.mixed_precision.set_global_policy(None)
    assert layers.Dense(2).compute_dtype == "float32"


def test_stateless_call_changes_nothing():
    class Counter(layers.Layer):
        def __init__(self):
            super().__init__()
            self.total = self.add_weight(initializer="zeros", trainable=False, name="total")
            self.gain = self.add_weight(initializer="ones", name="gain")

        def call(self, x):
            self.total.assign_add(ops.sum(x))
            return x * self.gain

    layer = Counter()
    layer(np.zeros((1,), "float32"))
    y, (total,) = layer.stateless_call(
        [ops.convert_to_tensor(3.0)], [ops.convert_to_tensor(1.0)], np.ones(2, "float32")
    )
    np.testing.assert_allclose(y, [3.0, 3.0])
    assert float(total) == 3.0
    assert (float(layer.total), float(layer.gain)) == (0.0, 1.0)


# -------------------------------------------------------------------------------------------------- masks


class UsesMask(layers.Layer):
    """Zeroes what is masked."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x, mask=None):
        return x if mask is None else x * ops.cast(ops.expand_dims(mask, -1), x.dtype)


def test_masks_travel_with_tensors():
    ids = np.array([[1, 2, 0]])
    embedded = layers.Embedding(3, 2, mask_zero=True, embeddings_initializer="ones")(ids)
    np.testing.assert_array_equal(embedded._keras_mask, [[True, True, False]])
    y = UsesMask()(embedded)
    np.testing.assert_array_equal(y[0, 2], [0.0, 0.0])
    np.testing.assert_array_equal(y._keras_mask, [[True, True, False]])


def test_masks_travel_through_a_functional_model():
    inputs = lamina.Input((3,), dtype="int32")
    x = layers.Embedding(3, 2, mask_zero=True, embeddings_initializer="ones")(inputs)
    model = lamina.Model(inputs, UsesMask()(x))
    np.testing.assert_array_equal(model(np.array([[1, 0, 2]]))[0, :, 0], [1.0, 0.0, 1.0])


def test_a_layer_that_drops_the_mask_warns():
    class Drops(layers.Layer):
        def call(self, x):
            return x * 2

    x = ops.ones((1, 3, 2))
    x._keras_mask = ops.ones((1, 3), "bool")
    with pytest.warns(UserWarning, match="does not support masking"):
        Drops()(x)


# ------------------------------------------------------------------------------------------------- losses


def test_add_loss_holds_the_losses_of_the_last_call():
    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    layer = Penalty()
    layer(np.ones((2,), "float32"))
    layer(np.ones((3,), "float32"))
    assert [float(x) for x in layer.losses] == [3.0]
    layer(lamina.Input((2,)))
    with pytest.raises(ValueError, match="on a tensor input"):
        layer.add_loss(3.0)


def test_regularizers_and_activity():
    layer = layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer="l1")
    layer(np.ones((4, 3), "float32"))
    assert sorted(round(float(x), 5) for x in layer.losses) == [0.03, 0.03]


# ------------------------------------------------------------------------------------------------- config


def test_config_of_a_users_layer_comes_from_its_arguments():
    layer = Affine(3, name="mine", trainable=False)
    config = layer.get_config()
    assert config["units"] == 3
    assert (config["name"], config["trainable"]) == ("mine", False)
    again = Affine.from_config(config)
    assert (again.units, again.name, again.trainable) == (3, "mine", False)


def test_config_of_a_users_layer_without_keyword_arguments():
    class Fixed(layers.Layer):
        def __init__(self, units=32):
            super().__init__()
            self.units = units

    assert Fixed(5).get_config() == {"units": 5}
    assert Fixed.from_config(Fixed(5).get_config()).units == 5


def test_config_that_cannot_be_written_says_what_to_do():
    class Holder(layers.Layer):
        def __init__(self, thing):
            super().__init__()

    with pytest.raises(NotImplementedError, match="must override `get_config"):
        Holder(object()).get_config()


def test_get_config_of_a_user_extends_that_of_the_base():
    class Mine(layers.Layer):
        def __init__(self, a, **kwargs):
            super().__init__(**kwargs)
            self.a = a

        def get_config(self):
            return {**super().get_config(), "a": self.a}

    config = Mine(4, dtype="float64").get_config()
    assert set(config) == {"name", "trainable", "dtype", "a"}
    assert Mine.from_config(config).compute_dtype == "float64"


def test_subclass_of_a_library_layer_keeps_its_config():
    class MyDense(layers.Dense):
        pass

    config = MyDense(3, activation="relu").get_config()
    assert (config["units"], config["activation"]) == (3, "relu")
    assert MyDense.from_config(config).units == 3


# -------------------------------------------------------------------------------------- arguments, errors


def test_misspelt_keyword_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"Unrecognized keyword arguments.*Did you mean 'activation'"):
        layers.Dense(3, activaton="relu")


def test_trainable_must_be_a_boolean():
    with pytest.raises(ValueError, match="Expected `trainable` to be a boolean"):
        layers.Dense(3, trainable="yes")


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        ({"input_shape": (3,)}, (None, 3)),
        ({"input_dim": 3}, (None, 3)),
        ({"batch_input_shape": (7, 3)}, (7, 3)),
        ({"input_shape": (3,), "batch_size": 5}, (5, 3)),
    ],
)
def test_legacy_input_shapes_are_understood_with_a_note(kwargs, shape):
    with pytest.warns(UserWarning, match="legacy way to say a layer's input shape"):
        layer = layers.Dense(4, **kwargs)
    assert lamina.Sequential([layer]).input_shape == shape


def test_input_shape_that_is_an_integer():
    with pytest.raises(ShapeError, match=r"`\(4\)` is the integer 4") as caught:
        layers.Dense(3, input_shape=4)
    assert "input_shape=(4,)" in str(caught.value)


def test_input_spec_says_what_came_and_what_was_expected():
    class Images(layers.Layer):
        def __init__(self):
            super().__init__()
            self.input_spec = layers.InputSpec(ndim=4)

        def call(self, x):
            return x

    with pytest.raises(ShapeError, match="expected ndim=4, found ndim=3") as caught:
        Images()(lamina.Input((28, 28), name="image"))
    text = str(caught.value)
    assert "'image' (InputLayer)" in text
    assert "4 axes = (batch, height, width, channels)" in text
    assert "x[..., None]" in text


def test_errors_in_call_name_the_layer():
    class Bad(layers.Layer):
        def call(self, x):
            return ops.matmul(x, ops.ones((7, 2)))

    with pytest.raises(ShapeError, match=r"'bad' \(Bad\)"):
        Bad()(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_layers_can_be_copied(copier):
    layer = layers.Dense(2)
    x = np.ones((1, 3), "float32")
    y = layer(x)
    twin = copier(layer)
    layer.set_weights([w * 0 for w in layer.get_weights()])
    np.testing.assert_array_equal(twin(x), y)
