"""What ops do beyond values: unknown axes, control flow, indices out of range, the words of their errors."""

import numpy as np
import pytest

import lamina
from lamina import ops
from lamina.engine.trace import compile_function
from lamina.errors import ShapeError


def spec(function, *shapes, dtype="float32"):
    """Output shape(s) of a function of KerasTensors."""
    out = function(*[lamina.KerasTensor(s, dtype) for s in shapes])
    return [o.shape for o in out] if isinstance(out, (list, tuple)) else out.shape


@pytest.mark.parametrize(
    "function, shape, expected",
    [
        (lambda x: ops.reshape(x, (-1, 12)), (None, 3, 4), (None, 12)),
        (lambda x: ops.reshape(x, (ops.shape(x)[0], 12)), (None, 3, 4), (None, 12)),
        (lambda x: ops.repeat(x, 2, axis=0), (None, 3), (None, 3)),
        (lambda x: ops.repeat(x, 2, axis=1), (None, 3), (None, 6)),
        (lambda x: ops.einsum("abc,cde->abde", x, np.ones((4, 2, 3))), (None, None, 4), (None, None, 2, 3)),
        (lambda x: ops.einsum("btd,bsd->bts", x, x), (None, None, 4), (None, None, None)),
        (lambda x: ops.tensordot(x, np.ones((4, 5)), 1), (None, None, 4), (None, None, 5)),
        (lambda x: ops.moments(x, [0])[0], (None, 3), (3,)),
        (lambda x: ops.pad(x, ((0, 0), (1, 1))), (None, 3), (None, 5)),
        (lambda x: ops.average_pool(x, 2), (None, None, 6, 3), (None, None, 3, 3)),
        (lambda x: ops.conv(x, np.ones((3, 3, 8))), (None, None, 3), (None, None, 8)),
        (lambda x: ops.one_hot(ops.argmax(x, -1), 7), (None, 3), (None, 7)),
        (lambda x: ops.concatenate([x, x], 1), (None, 3), (None, 6)),
        (lambda x: ops.split(x, 3, axis=1)[0], (None, 6), (None, 2)),
        (lambda x: ops.quantile(x, 0.5, axis=1), (None, 6), (None,)),
        (lambda x: ops.size(x), (None, 6), ()),
    ],
)
def test_unknown_axes_stay_exact(function, shape, expected):
    assert spec(function, shape) == expected


def test_argpartition_puts_the_kth_in_its_place(rng):
    x = rng.normal(size=(4, 9)).astype("float32")
    for kth in (0, 4, -1):
        places = np.asarray(ops.argpartition(x, kth))
        assert places.dtype == "int32" and (np.sort(places) == np.arange(9)).all()
        found = np.take_along_axis(x, places, 1)
        np.testing.assert_array_equal(found[:, kth], np.sort(x)[:, kth])
        assert (found[:, :kth] <= found[:, kth : kth + 1 or None]).all()
    with pytest.raises(ValueError, match="`kth` is out of range"):
        ops.argpartition(x, 9)


def test_tensors_and_arrays():
    x = ops.convert_to_tensor([[1.0, 2.0]])
    assert ops.is_tensor(x) and not ops.is_tensor(np.ones(2)) and not ops.is_tensor(1.0)
    back = ops.convert_to_numpy([x, x])
    assert type(back) is np.ndarray and back.shape == (2, 1, 2)
    assert ops.empty((2, 3), dtype="int32").shape == (2, 3)
    empty = ops.empty_like(x, dtype="float64")
    assert empty.shape == (1, 2) and empty.dtype == "float64"


def test_vectorized_map_goes_over_the_first_axis():
    x = np.arange(6, dtype="float32").reshape(3, 2)
    np.testing.assert_array_equal(
        ops.vectorized_map(lambda row: ops.sum(row) * row, x), x * x.sum(1, keepdims=True)
    )
    both = ops.vectorized_map(lambda pair: pair[0] - pair[1], [x, 2 * x])
    np.testing.assert_array_equal(both, -x)


def test_batch_normalization_train_uses_the_statistics_of_the_batch(rng):
    x, scale, offset = (rng.normal(size=s).astype("float32") for s in [(5, 3, 4), 3, 3])
    y, mean, variance = ops.batch_normalization_train(x, 1, offset, scale, epsilon=1e-2)
    np.testing.assert_allclose(mean, x.mean((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, x.var((0, 2)), rtol=1e-5)
    expected = ops.batch_normalization(x, mean, variance, 1, offset, scale, epsilon=1e-2)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_size_of_an_unknown_batch_is_a_number_at_run_time():
    count = compile_function(lambda x: ops.size(x))
    assert int(count(np.zeros((5, 3), "float32"))) == 15
    assert int(count(np.zeros((2, 3), "float32"))) == 6


def test_shape_gives_ints_in_a_compiled_function():
    seen = []

    def double(x):
        batch, features = ops.shape(x)
        seen.append((batch, features))
        return ops.reshape(ops.tile(x, (1, 2)), (batch * 2, features))

    compiled = compile_function(double)
    for batch in (2, 5):
        assert compiled(np.ones((batch, 3), "float32")).shape == (2 * batch, 3)
    assert seen[-1] == (5, 3)


def test_indexing():
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    t = ops.convert_to_tensor(x)
    for key in [
        0,
        -1,
        (0, 1),
        slice(1, None),
        (slice(None), slice(None, None, -1)),
        (Ellipsis, 2),
        (None, 0),
        (0, None),
    ]:
        np.testing.assert_array_equal(ops.get_item(t, key), x[key])
    with pytest.raises(IndexError):
        t[5]


def test_lists_of_tensors_are_stacked():
    a, b = ops.ones((2,)), ops.zeros((2,))
    np.testing.assert_array_equal(ops.sum([a, b], axis=0), [1.0, 1.0])
    assert ops.convert_to_tensor([[a, b], [b, a]]).shape == (2, 2, 2)


def test_a_variable_is_a_tensor():
    v = lamina.Variable([1.0, 2.0])
    np.testing.assert_array_equal(ops.square(v), [1.0, 4.0])
    np.testing.assert_array_equal(ops.concatenate([v, v]), [1.0, 2.0, 1.0, 2.0])
    with lamina.GradientTape() as tape:
        loss = ops.sum(ops.stack([v, ops.where([True, False], v, 0.0)]) ** 2)
    np.testing.assert_allclose(tape.gradient(loss, v), [4.0, 4.0])


def test_dtypes_of_scalars_are_weak():
    half = ops.ones((2,), "float16")
    assert ops.add(half, 1.5).dtype == "float16"
    assert ops.multiply(2, ops.ones((2,), "int8")).dtype == "int8"
    assert ops.divide(ops.ones((2,), "int32"), 2).dtype == "float32"
    assert ops.maximum(0, half).dtype == "float16"


@pytest.mark.parametrize("product", [ops.matmul, lambda a, b: ops.einsum("ij,jk", a, b)])
def test_products_of_int8_are_summed_in_int32(product):
    a = np.full((2, 3), 100, "int8")
    c = product(a, a.T)
    assert c.dtype == product(*(lamina.KerasTensor(s, "int8") for s in [(2, 3), (3, 2)])).dtype == "int32"
    assert np.asarray(c).tolist() == [[30_000] * 2] * 2


def test_products_of_booleans():
    a = np.array([[True, False], [False, False]])
    for product in (ops.matmul(a, a), ops.dot(a, a)):
        assert product.dtype == "bool"
        assert np.asarray(product).tolist() == a.tolist()
    assert ops.square(a).dtype == "int32"


def test_numpy_s_functions_read_tensors():
    t = ops.convert_to_tensor([0.0, 1.0])
    assert isinstance(np.sin(t), np.ndarray)
    np.testing.assert_allclose(np.sin(t), np.sin([0.0, 1.0]), rtol=1e-6)
    for out in (np.ones(2) + t, np.float32(1) + t, np.ones((2, 2)) @ t):
        assert ops.is_tensor(out)


def test_none_is_not_a_number():
    with pytest.raises(TypeError, match="expected numbers"):
        ops.convert_to_tensor(np.array([1.0, None], dtype=object))


# --- gradients at the points where conventions matter


def gradient(function, x):
    return np.asarray(lamina.grad(lambda v: ops.sum(function(v)))(np.asarray(x, "float32")))


@pytest.mark.parametrize(
    "function, x, expected",
    [
        (lambda v: ops.binary_crossentropy([1.0], v, from_logits=True), [0.0], [-0.5]),
        (lambda v: ops.divide_no_nan(1.0, v), [0.0], [0.0]),
        (lambda v: ops.cdist(v, v), [[1.0, 2.0]], [[0.0, 0.0]]),
        (lambda v: ops.relu(v), [0.0], [0.0]),
        (lambda v: ops.sinc(v), [0.0], [0.0]),
        (lambda v: ops.logsumexp(v), [1e4, 1e4], [0.5, 0.5]),
        (lambda v: ops.softplus(v), [-1000.0, 1000.0], [0.0, 1.0]),
        (lambda v: ops.stop_gradient(v) * v, [3.0], [3.0]),
        (lambda v: ops.normalize(v), [0.0, 0.0], [1e7, 1e7]),
    ],
)
def test_gradients_at_special_points(function, x, expected):
    np.testing.assert_allclose(gradient(function, x), expected, rtol=1e-5)


def test_sparse_crossentropy_ignores_labels_outside():
    logits = np.zeros((3, 4), "float32")
    loss = ops.sparse_categorical_crossentropy([0, -1, 4], logits, from_logits=True)
    np.testing.assert_allclose(loss, [np.log(4.0), 0.0, 0.0], rtol=1e-6)


def test_one_hot_of_ids_outside_is_zeros():
    np.testing.assert_array_equal(ops.one_hot([1, 3, -1], 3), [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_the_last_of_several_updates_wins():
    x = ops.scatter_update(np.zeros(3, "float32"), [[1], [1], [-1]], [5.0, 7.0, 9.0])
    np.testing.assert_array_equal(x, [0.0, 7.0, 9.0])


def test_segments_outside_are_left_out_and_empty_ones_are_neutral():
    data, ids = np.array([1.0, 2.0, 3.0], "float32"), np.array([0, 5, -1], "int32")
    np.testing.assert_array_equal(ops.segment_sum(data, ids, 2), [1.0, 0.0])
    np.testing.assert_array_equal(ops.segment_max(data, ids, 2), [1.0, -np.inf])


def test_grouped_attention_shares_heads():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 3, heads, 4)).astype("float32") for heads in (4, 2, 2))
    shared = ops.dot_product_attention(q, k, v)
    spelled = ops.dot_product_attention(q, np.repeat(k, 2, 2), np.repeat(v, 2, 2))
    np.testing.assert_allclose(shared, spelled, rtol=1e-6)


def test_qr_is_a_factorisation():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    for mode, k in (("reduced", 3), ("complete", 5)):
        q, r = ops.qr(x, mode)
        assert q.shape == (2, 5, k) and r.shape == (2, k, 3)
        np.testing.assert_allclose(ops.matmul(q, r), x, atol=1e-5)
        np.testing.assert_allclose(
            ops.matmul(ops.swapaxes(q, -1, -2), q), np.stack([np.eye(k)] * 2), atol=1e-5
        )
        np.testing.assert_array_equal(r, ops.triu(r))


def test_det_of_a_singular_matrix_is_zero():
    assert float(ops.det(np.zeros((2, 2), "float32"))) == 0.0


# --- control flow: on data, and traced


@pytest.fixture(params=["eager", "compiled"])
def run(request):
    return (
        (lambda f, *args: f(*args))
        if request.param == "eager"
        else (lambda f, *args: compile_function(f)(*args))
    )


def test_cond(run):
    def f(x):
        return ops.cond(ops.sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)

    np.testing.assert_array_equal(run(f, np.array([1.0, 2.0], "float32")), [2.0, 4.0])
    np.testing.assert_array_equal(run(f, np.array([-1.0, -2.0], "float32")), [-2.0, -3.0])


def test_switch_cuts_its_index(run):
    branches = [lambda x: x, lambda x: x * 10.0, lambda x: x * 100.0]
    for index, factor in ((0, 1.0), (1, 10.0), (7, 100.0), (-3, 1.0)):
        y = run(lambda i, x: ops.switch(i, branches, x), np.int32(index), np.float32(2.0))
        assert float(y) == 2.0 * factor


def test_while_loop_stops_each_at_its_time(run):
    def f(x):
        return ops.while_loop(
            lambda i, v: v < 100.0, lambda i, v: (i + 1, v * 2.0), (0, x), maximum_iterations=20
        )

    count, value = run(f, np.float32(3.0))
    assert int(count) == 6 and float(value) == 192.0


def test_a_traced_while_loop_needs_a_limit():
    with pytest.raises(ValueError, match="maximum_iterations"):
        compile_function(lambda x: ops.while_loop(lambda v: v < 9.0, lambda v: v + 1.0, x))(np.float32(0.0))


def test_scan_and_fori_loop(run):
    xs = np.arange(6, dtype="float32").reshape(3, 2)

    def cumulative(xs):
        return ops.scan(lambda total, x: (total + x, total + x), np.zeros(2, "float32"), xs)

    last, all_of_them = run(cumulative, xs)
    np.testing.assert_array_equal(all_of_them, np.cumsum(xs, 0))
    np.testing.assert_array_equal(last, xs.sum(0))
    _, reversed_ = run(
        lambda v: ops.scan(lambda t, x: (t + x, t + x), np.zeros(2, "float32"), v, reverse=True), xs
    )
    np.testing.assert_array_equal(reversed_, np.cumsum(xs[::-1], 0)[::-1])
    assert float(run(lambda v: ops.fori_loop(0, 4, lambda i, s: s + i * v, 0.0), np.float32(2.0))) == 12.0


def test_map_over_a_structure(run):
    a, b = np.ones((3, 2), "float32"), np.arange(3, dtype="float32")
    y = run(lambda u, v: ops.map(lambda p: p["u"] * p["v"], {"u": u, "v": v}), a, b)
    np.testing.assert_array_equal(y, a * b[:, None])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    x = np.arange(1.0, 2 * n + 1, dtype="float32").reshape(n, 2)
    y = ops.associative_scan(lambda a, b: a + b, x, reverse=reverse)
    expected = np.cumsum(x[::-1], 0)[::-1] if reverse else np.cumsum(x, 0)
    np.testing.assert_allclose(y, expected)


# --- errors


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ops.sum(np.ones((2, 3)), axis=2), "`axis` is out of range: 2 for a tensor with 2 axes"),
        (lambda: ops.transpose(np.ones((2, 3)), (0, 0)), "`axes` must name each of the 2 axes once"),
        (lambda: ops.split(np.ones(7), 3), "leaves a rest of 1"),
        (lambda: ops.concatenate([]), "at least one tensor"),
        (lambda: ops.einsum("ij,jk->iz", np.ones((2, 3)), np.ones((3, 4))), "must name labels"),
        (lambda: ops.einsum("ij->i", np.ones((2, 3, 4))), "does not fit an operand with 3 axes"),
        (lambda: ops.max_pool(np.ones((1, 4, 4, 1)), 2, padding="full"), "Invalid padding"),
        (lambda: ops.pad(np.ones(3), 1, mode="reflect", constant_values=1), "constant_values"),
        (lambda: ops.one_hot([1], 3, sparse=True), "dense tensors only"),
        (lambda: ops.where(True, 1.0), "both must be given"),
        (lambda: ops.solve(np.ones((2, 3)), np.ones(2)), "expected square matrices"),
        (lambda: ops.conv(np.ones((2, 3)), np.ones((3, 3, 1, 1))), "found ndim=2"),
        (lambda: ops.conv(np.ones((1, 8, 8, 3)), np.ones((3, 3, 4, 8))), "evenly divisible"),
        (lambda: ops.categorical_crossentropy(np.ones((3, 4)), np.ones((3, 5))), "must have the same shape"),
    ],
)
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        call()


def test_a_shape_error_is_data():
    with pytest.raises(ShapeError) as caught:
        ops.sparse_categorical_crossentropy(np.zeros((3, 4), "int32"), np.ones((3, 4)))
    assert caught.value.argument == "target" and caught.value.got == (3, 4)
    assert "categorical_crossentropy" in caught.value.fix


def test_ops_that_need_data_say_so_when_traced():
    with pytest.raises(TypeError, match="depends on the values"):
        compile_function(lambda x: ops.nonzero(x))(np.ones(3, "float32"))


def test_bitwise_ops_refuse_floats():
    with pytest.raises(TypeError, match="integers or booleans"):
        ops.bitwise_and(np.ones(3, "float32"), 1)


def test_take_refuses_float_indices():
    with pytest.raises(TypeError, match="integer indices"):
        ops.take(np.ones(3), [0.5])


@pytest.mark.parametrize("size, antialias", [((7, 3), False), ((3, 9), True), ((2, 2), True)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"])
def test_resize_is_jax_s(interpolation, size, antialias):
    jax = pytest.importorskip("jax")
    x = np.random.default_rng(0).uniform(size=(2, 5, 4, 3)).astype("float32")
    method = {"bilinear": "linear", "bicubic": "cubic"}.get(interpolation, interpolation)
    expected = jax.image.resize(x, (2, *size, 3), method, antialias=antialias)
    np.testing.assert_allclose(
        ops.image.resize(x, size, interpolation, antialias), expected, rtol=1e-4, atol=1e-5
    )
    first = ops.image.resize(
        np.moveaxis(x, -1, 1), size, interpolation, antialias, data_format="channels_first"
    )
    np.testing.assert_allclose(np.moveaxis(np.asarray(first), 1, -1), expected, rtol=1e-4, atol=1e-5)


def test_resize_keeps_integers_and_aspect_ratios():
    x = np.full((4, 8, 3), 200, "uint8")
    assert ops.image.resize(x, (2, 2), "bicubic").dtype == "uint8"
    np.testing.assert_array_equal(ops.image.resize(x, (2, 2)), np.full((2, 2, 3), 200))
    cropped = ops.image.resize(np.arange(32.0).reshape(4, 8, 1), (4, 4), crop_to_aspect_ratio=True)
    np.testing.assert_allclose(np.asarray(cropped)[..., 0], np.arange(32.0).reshape(4, 8)[:, 2:6])
    padded = ops.image.resize(x, (8, 8), "nearest", pad_to_aspect_ratio=True, fill_value=7)
    assert np.asarray(padded)[0, 0, 0] == 7 and np.asarray(padded)[4, 4, 0] == 200


def test_pad_crop_and_patches():
    x = np.arange(24.0).reshape(4, 6, 1)
    padded = np.asarray(
        ops.image.pad_images(x, top_padding=1, left_padding=2, target_height=7, target_width=9)
    )
    np.testing.assert_array_equal(padded[1:5, 2:8], x)
    assert padded.shape == (7, 9, 1)
    cropped = ops.image.crop_images(
        padded, top_cropping=1, bottom_cropping=2, left_cropping=2, target_width=6
    )
    np.testing.assert_array_equal(cropped, x)
    with pytest.raises(ValueError, match="two of top_padding"):
        ops.image.pad_images(x, top_padding=1, left_padding=1, right_padding=1)
    patches = np.asarray(ops.image.extract_patches(x, (2, 3)))
    np.testing.assert_array_equal(patches[1, 1], x[2:4, 3:6].ravel())


def test_grayscale():
    x = np.ones((2, 3, 3), "float32") * [1.0, 2.0, 3.0]
    np.testing.assert_allclose(
        ops.image.rgb_to_grayscale(x), np.full((2, 3, 1), 0.2989 + 2 * 0.587 + 3 * 0.114), rtol=1e-6
    )


def test_names_and_signatures_are_keras_s():
    """Every public function here that Keras has takes Keras's arguments in Keras's order."""
    import inspect

    keras = pytest.importorskip("keras")
    missing = {}
    for name in dir(keras.ops):
        theirs, ours = getattr(keras.ops, name), getattr(ops, name, None)
        if not inspect.isfunction(theirs) or ours is None:
            continue
        a, b = (list(inspect.signature(f).parameters) for f in (theirs, ours))
        if a != b[: len(a)]:
            missing[name] = (a, b)
    assert not missing


def test_what_keras_has_and_we_lack_is_known():
    """The list may only shrink."""
    import inspect

    keras = pytest.importorskip("keras")
    absent = {n for n in dir(keras.ops) if inspect.isfunction(getattr(keras.ops, n)) and not hasattr(ops, n)}
    assert absent <= {
        *["ctc_decode", "ctc_loss", "custom_gradient", "jvp", "polar", "rearrange", "vectorize"],
        *["view", "view_as_complex", "view_as_real"],
        *[
            "eig",
            "eigh",
            "svd",
            "pinv",
            "matrix_rank",
            "lu_factor",
            "fft",
            "fft2",
            "ifft2",
            "rfft",
            "irfft",
            "stft",
            "istft",
            "i0",
            "nextafter",
        ],
    }
