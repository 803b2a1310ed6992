"""Symbolic tensors, variables, tracing, gradients."""

import copy
import pickle

import numpy as np
import pytest

import lamina
from lamina import ops
from lamina.engine import naming, scope
from lamina.engine.operation import Operation
from lamina.engine.trace import ConcreteShapeNeeded, compile_function, infer, trace

# ------------------------------------------------------------------------------------------ names, scopes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dense", "dense"),
        ("Conv2D", "conv2d"),
        ("MaxPooling2D", "max_pooling2d"),
        ("ReLU", "re_lu"),
        ("LSTM", "lstm"),
    ],
)
def test_snake_case(name, expected):
    assert naming.to_snake_case(name) == expected


def test_auto_names_count_up_and_start_anew():
    assert [naming.auto_name("Dense") for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    naming.clear_session()
    assert naming.auto_name("Dense") == "dense"


def test_name_scopes_make_paths():
    caller = object()
    with scope.name_scope("a"), scope.name_scope("b", caller=caller), scope.name_scope("b", caller=caller):
        assert scope.current_path() == "a/b"
        assert lamina.Variable([1.0], name="w").path == "a/b/w"
    assert scope.current_path() == ""


# -------------------------------------------------------------------------------------------- KerasTensor


def test_keras_tensor_knows_shape_and_dtype():
    x = lamina.KerasTensor((None, 3), dtype="int32", name="x")
    assert (x.shape, x.dtype, x.ndim, x.size, x.name) == ((None, 3), "int32", 2, None, "x")
    assert lamina.KerasTensor((2, 3)).size == 6


@pytest.mark.parametrize("shape", [3, "3", (1.5,), (-1,), None])
def test_keras_tensor_refuses_bad_shapes(shape):
    with pytest.raises(ValueError, match="shape"):
        lamina.KerasTensor(shape)


def test_integer_shape_says_how_to_write_a_tuple():
    with pytest.raises(ValueError, match=r"fix: `\(4,\)`"):
        lamina.KerasTensor(4)


@pytest.mark.parametrize(
    "use", [bool, int, float, len, np.asarray, iter], ids=["bool", "int", "float", "len", "asarray", "iter"]
)
def test_keras_tensor_has_no_value(use):
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=r"symbolic|Symbolic"):
        use(lamina.KerasTensor((2,)))


def test_numpy_function_on_a_keras_tensor_names_the_op_to_use():
    x = lamina.KerasTensor((None, 3))
    with pytest.raises(TypeError, match=r"lamina\.ops\.exp"):
        np.exp(x)
    with pytest.raises(TypeError, match=r"lamina\.ops\.concatenate"):
        np.concatenate([x, x])


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: np.ones(3, "float32") * x,
        lambda x: x / 2,
        lambda x: x**2,
        lambda x: -x,
        abs,
        lambda x: x @ np.ones((3, 3), "float32"),
        lambda x: x % 2,
        lambda x: x // 2,
    ],
)
def test_operators_on_keras_tensors(expression):
    y = expression(lamina.KerasTensor((None, 3)))
    assert isinstance(y, lamina.KerasTensor)
    assert (y.shape, y.dtype) == ((None, 3), "float32")


def test_comparisons_give_bools_and_equality_is_identity():
    x = lamina.KerasTensor((None, 3))
    assert (x > 0).dtype == "bool"
    assert x in [lamina.KerasTensor((2,)), x]


def test_indexing_a_keras_tensor():
    x = lamina.KerasTensor((None, 5, 3))
    assert x[:, 0].shape == (None, 3)
    assert x[..., None].shape == (None, 5, 3, 1)
    assert x[:, 1:4:2].shape == (None, 2, 3)


# --------------------------------------------------------------------------------------------- operations


def test_an_op_on_a_keras_tensor_is_recorded():
    x = lamina.KerasTensor((None, 3))
    y = ops.sum(x, axis=-1, keepdims=True)
    assert y.shape == (None, 1)
    operation, node_index, tensor_index = y._keras_history
    assert (type(operation).__name__, operation.name, node_index, tensor_index) == ("Sum", "sum", 0, 0)
    assert operation.get_config() == {"name": "sum", "axis": -1, "keepdims": True}
    assert operation._inbound_nodes[0].input_tensors == [x]


def test_an_operation_can_be_made_from_its_config():
    operation = ops.sum(lamina.KerasTensor((None, 3)), axis=-1)._keras_history.operation
    again = type(operation).from_config(operation.get_config())
    np.testing.assert_allclose(again(np.ones((2, 3), "float32")), [3.0, 3.0])


def test_operation_config_refuses_unknown_arguments():
    operation = ops.sum(lamina.KerasTensor((None, 3)), axis=-1)._keras_history.operation
    with pytest.raises(TypeError, match="no argument `axes`"):
        type(operation)(axes=3)
    assert type(operation)(axes=None).config == {}


def test_an_operation_written_by_hand():
    class Twice(Operation):
        def __init__(self, factor, name=None):
            super().__init__(name)
            self.factor = factor

        def call(self, x):
            return x * self.factor

    twice = Twice(2.0)
    assert twice(lamina.KerasTensor((None, 3))).shape == (None, 3)
    assert twice.name == "twice"
    assert twice.get_config() == {"name": "twice", "factor": 2.0}
    assert Twice.from_config(twice.get_config()).factor == 2.0
    np.testing.assert_allclose(twice(ops.ones((2,))), [2.0, 2.0])


def test_input_and_output_before_any_call():
    class Nothing(Operation):
        def call(self, x):
            return x

    with pytest.raises(AttributeError, match="never been called and thus has no defined output"):
        Nothing().output  # noqa: B018


def test_function_runs_on_new_inputs():
    a, b = lamina.KerasTensor((None, 2)), lamina.KerasTensor((None, 2))
    f = lamina.Function([a, b], {"sum": a + b, "product": a * b})
    out = f([np.array([[1.0, 2.0]], "float32"), np.array([[3.0, 4.0]], "float32")])
    np.testing.assert_allclose(out["sum"], [[4.0, 6.0]])
    np.testing.assert_allclose(out["product"], [[3.0, 8.0]])


def test_function_says_what_is_disconnected():
    a, b = lamina.Input((2,)), lamina.Input((2,))
    with pytest.raises(ValueError, match=r"Graph disconnected|not connected"):
        lamina.Function(a, a + b)


def test_graphs_may_be_deeper_than_the_stack():
    x = first = lamina.KerasTensor((1,))
    for _ in range(1500):
        x = -x
    assert len(lamina.Function(first, x).operations) == 1500


# ------------------------------------------------------------------------------------------------ tracing


def test_infer_keeps_unknown_axes():
    def f(x, y):
        return {"joined": ops.concatenate([x, y], axis=-1), "mean": ops.mean(x, axis=1)}

    spec = trace(f, (None, 3), (None, 4))
    assert spec["joined"].shape == (None, 7)
    assert spec["mean"].shape == (None,)


def test_infer_probes_where_a_size_is_needed():
    def f(x):
        return ops.reshape(x, (ops.shape(x)[0] * 2, 3, 2)), ops.zeros((4, ops.shape(x)[1]))

    flat, zeros = infer(f, (lamina.KerasTensor((None, 12)),))
    assert flat.shape == (None, 3, 2)
    assert zeros.shape == (4, 12)


def test_infer_does_not_assign():
    v = lamina.Variable(0.0)

    def f(x):
        v.assign_add(ops.sum(x))
        return x

    infer(f, (lamina.KerasTensor((None, 3)),))
    assert float(v) == 0.0


def test_compiled_function_is_traced_once_for_all_batch_sizes():
    traces = []

    def f(x):
        traces.append(x.shape)
        return ops.sum(ops.square(x), axis=-1)

    g = compile_function(f)
    for n in (3, 5, 0):
        np.testing.assert_allclose(g(np.ones((n, 4), "float32")), np.full(n, 4.0))
    assert traces == [(None, 4)]


def test_compiled_function_is_traced_for_other_shapes_dtypes_and_constants():
    traces = []

    def f(x, flag):
        traces.append((x.shape, x.dtype, flag))
        return x + 1 if flag else x

    g = compile_function(f)
    g(np.ones((2, 3), "float32"), True)
    g(np.ones((2, 4), "float32"), True)
    g(np.ones((2, 4), "int32"), True)
    out = g(np.ones((2, 4), "int32"), False)
    assert traces == [
        ((None, 3), "float32", True),
        ((None, 4), "float32", True),
        ((None, 4), "int32", True),
        ((None, 4), "int32", False),
    ]
    np.testing.assert_array_equal(out, np.ones((2, 4)))


def test_numbers_are_data_for_a_compiled_function():
    traces = []

    def f(x, rate):
        traces.append(1)
        return x * rate

    g = compile_function(f)
    assert float(g(np.float32(3.0), 2.0)) == 6.0
    assert float(g(np.float32(3.0), 4.0)) == 12.0
    assert len(traces) == 1


def test_compiled_function_keeps_structures_and_constants():
    def f(batch):
        x, y = batch
        return {"b": (x, None), "a": [y["k"] * 2, "text"]}

    out = compile_function(f)((np.ones(2, "float32"), {"k": np.ones(2, "float32")}))
    assert list(out) == ["b", "a"]
    assert out["b"][1] is None
    assert out["a"][1] == "text"
    np.testing.assert_allclose(out["a"][0], [2.0, 2.0])


def test_compiled_function_that_needs_sizes_is_traced_for_each():
    traces = []

    def f(x):
        traces.append(x.shape)
        return ops.zeros((ops.shape(x)[0] * 2,))

    g = compile_function(f)
    assert g(np.ones((3, 1), "float32")).shape == (6,)
    assert g(np.ones((4, 1), "float32")).shape == (8,)
    assert traces == [(None, 1), (3, 1), (4, 1)]


def test_compiled_function_updates_variables():
    v = lamina.Variable(0.0)
    g = compile_function(lambda x: v.assign_add(ops.sum(x)))
    g(np.ones(3, "float32"))
    g(np.ones(2, "float32"))
    assert float(v) == 5.0


def test_compiled_function_gives_numpy_arrays_when_asked():
    out = compile_function(lambda x: [x, 3]).call_numpy(np.ones(2, "float32"))
    assert type(out[0]) is np.ndarray
    assert out[1] == 3


def test_compiled_function_inside_another():
    inner = compile_function(lambda x: x + 1)
    outer = compile_function(lambda x: inner(x) * 2)
    np.testing.assert_allclose(outer(np.ones(2, "float32")), [4.0, 4.0])


def test_an_error_while_tracing_leaves_the_function_usable():
    def f(x):
        if x.shape[-1] == 3:
            raise RuntimeError("three")
        return x

    g = compile_function(f)
    with pytest.raises(RuntimeError, match="three"):
        g(np.ones((2, 3), "float32"))
    assert g(np.ones((2, 4), "float32")).shape == (2, 4)
    assert scope.state.call is None


def test_needing_a_size_that_is_never_known_is_an_error():
    def f():
        raise ConcreteShapeNeeded("what for")

    with pytest.raises(ConcreteShapeNeeded):
        compile_function(f)()


# ---------------------------------------------------------------------------------------------- gradients


def test_tape_gradients_of_variables_and_watched_tensors():
    v = lamina.Variable([1.0, 2.0])
    x = ops.convert_to_tensor([3.0, 4.0])
    with lamina.GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(v * v * x)
    gradients = tape.gradient(y, {"v": v, "x": x})
    np.testing.assert_allclose(gradients["v"], [6.0, 16.0])
    np.testing.assert_allclose(gradients["x"], [1.0, 4.0])


def test_tape_can_be_used_once_unless_persistent():
    v = lamina.Variable(3.0)
    with lamina.GradientTape() as tape:
        y = v * v
    tape.gradient(y, v)
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(y, v)
    with lamina.GradientTape(persistent=True) as tape:
        y = v * v
        z = y * v
    assert float(tape.gradient(y, v)) == 6.0
    assert float(tape.gradient(z, v)) == 27.0


def test_unconnected_gradients():
    v, w = lamina.Variable([1.0, 2.0]), lamina.Variable([3.0])
    with lamina.GradientTape(persistent=True) as tape:
        y = ops.sum(v)
    assert tape.gradient(y, [v, w])[1] is None
    np.testing.assert_array_equal(tape.gradient(y, [v, w], unconnected_gradients="zero")[1], [0.0])


def test_several_targets_are_summed_and_output_gradients_weigh():
    v = lamina.Variable([1.0, 2.0])
    with lamina.GradientTape(persistent=True) as tape:
        a, b = v * 2.0, v * v
    np.testing.assert_allclose(tape.gradient([a, b], v), [4.0, 6.0])
    np.testing.assert_allclose(
        tape.gradient(b, v, output_gradients=ops.convert_to_tensor([1.0, 10.0])), [2.0, 40.0]
    )


def test_tape_inside_a_compiled_function():
    v = lamina.Variable([1.0, 2.0])

    def step(x):
        with lamina.GradientTape() as tape:
            loss = ops.sum(v * x)
        (g,) = tape.gradient(loss, [v])
        v.assign_sub(0.1 * g)
        return loss

    loss = compile_function(step)(np.array([3.0, 4.0], "float32"))
    assert float(loss) == 11.0
    np.testing.assert_allclose(v, [0.7, 1.6], rtol=1e-6)


def test_value_and_grad_of_arguments_and_variables():
    value, gradient = lamina.value_and_grad(lambda x: ops.sum(x**3))(np.array([1.0, 2.0], "float32"))
    assert float(value) == 9.0
    np.testing.assert_allclose(gradient, [3.0, 12.0], rtol=1e-6)
    v = lamina.Variable(2.0)
    (value, aux), gradients = lamina.value_and_grad(lambda x: (v * x, "aux"), variables=[v], has_aux=True)(
        5.0
    )
    assert (float(value), aux, float(gradients[0])) == (10.0, "aux", 5.0)
    assert float(lamina.grad(lambda a, b: a * b, argnums=1)(3.0, 4.0)) == 3.0


def test_value_and_grad_needs_a_scalar():
    with pytest.raises(ValueError, match=r"scalar loss.*\(2,\)"):
        lamina.value_and_grad(lambda x: x)(np.ones(2, "float32"))


def test_value_and_grad_says_where_variables_go():
    with pytest.raises(TypeError, match="For variables: `variables="):
        lamina.value_and_grad(lambda x: x, [lamina.Variable(1.0)])


# ---------------------------------------------------------------------------------------------- variables


def test_variable_from_value_initializer_and_name():
    assert lamina.Variable([1.0, 2.0]).shape == (2,)
    v = lamina.Variable("zeros", shape=(2, 3), dtype="int32", name="w")
    assert (v.shape, v.dtype, v.ndim, v.name, v.path, v.trainable) == ((2, 3), "int32", 2, "w", "w", True)
    v = lamina.Variable(ops.ones, shape=(2,))
    np.testing.assert_array_equal(v, [1.0, 1.0])


def test_variable_needs_a_shape_with_an_initializer():
    with pytest.raises(ValueError, match="`shape` argument should be specified"):
        lamina.Variable("zeros")
    with pytest.raises(ValueError, match="fully-defined"):
        lamina.Variable("zeros", shape=(None, 2))


def test_variable_assignment():
    v = lamina.Variable(np.zeros((2,), "float32"))
    v.assign([1, 2])
    v.assign_add(np.ones(2))
    v.assign_sub(0.5)
    np.testing.assert_allclose(v.numpy(), [1.5, 2.5])
    assert v.dtype == "float32"
    with pytest.raises(ValueError, match="must match"):
        v.assign(np.zeros((3,)))


def test_numpy_value_does_not_change_with_the_variable():
    v = lamina.Variable([1.0, 2.0])
    before = v.numpy()
    v.assign([3.0, 4.0])
    np.testing.assert_array_equal(before, [1.0, 2.0])


def test_variable_operators():
    v = lamina.Variable([1.0, 2.0])
    np.testing.assert_allclose(v + 1, [2.0, 3.0])
    np.testing.assert_allclose(1 - v, [0.0, -1.0])
    np.testing.assert_allclose(np.ones(2, "float32") * v, [1.0, 2.0])
    np.testing.assert_allclose(-v, [-1.0, -2.0])
    np.testing.assert_array_equal(v > 1, [False, True])
    np.testing.assert_allclose(v[1], 2.0)
    assert float(lamina.Variable(2.5)) == 2.5
    assert len(v) == 2
    with pytest.raises(TypeError, match="boolean"):
        bool(v)
    with pytest.raises(TypeError, match="Only scalar"):
        float(v)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "a/b"}, "character `/`"),
        ({"aggregation": "x"}, "aggregation"),
        ({"synchronization": "x"}, "synchronization"),
    ],
)
def test_variable_refuses_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        lamina.Variable(0.0, **kwargs)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_variables_can_be_copied(copier):
    v = lamina.Variable([1.0, 2.0], name="w", trainable=False)
    w = copier(v)
    v.assign([0.0, 0.0])
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])
    assert (w.name, w.trainable, w.dtype) == ("w", False, "float32")


def test_stateless_scope_reads_and_collects():
    v = lamina.Variable(1.0)
    with scope.StatelessScope([(v, ops.convert_to_tensor(10.0))]) as inside:
        v.assign_add(5.0)
        assert float(v + 0.0) == 15.0
    assert float(v) == 1.0
    assert float(inside.get_current_value(v)) == 15.0


def test_autocast_scope_casts_float_variables():
    v, n = lamina.Variable([1.0]), lamina.Variable([1], dtype="int32")
    fixed = lamina.Variable([1.0], autocast=False)
    with scope.AutocastScope("float16"):
        assert v.dtype == "float16"
        assert ops.add(v, v).dtype == "float16"
        assert n.dtype == "int32"
        assert fixed.dtype == "float32"
    assert v.dtype == "float32"
    with pytest.raises(ValueError, match="floating-point"):
        scope.AutocastScope("int32")


def test_plain_follows_what_it_stands_for():
    from lamina.engine import scope
    from lamina.engine.direct import is_plain
    from lamina.engine.scope import state

    seen = []

    class Look(lamina.layers.Layer):
        def call(self, x):
            seen.append((is_plain(), bool(state.call)))
            return x

    Look()(np.zeros((1, 2), "float32"))
    assert seen[-1] == (False, True) and is_plain()
    for opened in (
        scope.flag("eager"),
        scope.AutocastScope("float16"),
        scope.StatelessScope(),
        scope.training_phase(None, True),
    ):
        with opened:
            assert not is_plain()
            with scope.fresh():
                assert is_plain() is not bool(state.eager)
            assert not is_plain()
        assert is_plain()


def test_a_direct_call_is_the_full_call():
    dense = lamina.layers.Dense(2, activation="relu")
    model = lamina.Sequential([lamina.Input((3,)), dense])
    x = np.array([[1.0, -2.0, 3.0], [-1.0, 0.5, -4.0]], "float32")
    full = np.asarray(model._full_call(x))
    for _ in range(3):
        assert np.array_equal(model(x), full)
        assert np.array_equal(model(x[:1]), full[:1])
        assert np.array_equal(model(lamina.ops.convert_to_tensor(x)), full)
    # What the function was not made for goes the full way, and says what is wrong.
    assert np.array_equal(model(x.astype("float64")), full)
    assert np.array_equal(model(x.tolist()), full)
    assert model(lamina.Input((3,))).shape == (None, 2)
    with pytest.raises(ValueError, match="3"):
        model(np.zeros((1, 4), "float32"))
    with pytest.raises(TypeError):
        model()
    # An edited layer, another weight.
    dense.activation = lamina.activations.linear
    linear = np.asarray(model(x))
    assert (linear < 0).any() and np.array_equal(np.maximum(linear, 0), full)
    dense.bias.assign([1.0, 2.0])
    assert np.allclose(model(x), linear + np.array([1.0, 2.0]))


def test_models_that_were_called_directly_are_copied_and_overridden():
    class Doubled(lamina.Sequential):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs) * 2

    x = np.ones((1, 3), "float32")
    model = lamina.Sequential([lamina.Input((3,)), lamina.layers.Dense(2)])
    y = np.asarray([model(x) for _ in range(2)][-1])
    for copied in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal([copied(x) for _ in range(2)][-1], y)
    doubled = Doubled(model.layers)
    assert np.array_equal([doubled(x) for _ in range(2)][-1], 2 * y)
