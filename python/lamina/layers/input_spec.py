"""What a layer accepts: `InputSpec`, and the check that says what does not fit."""

from lamina import tree
from lamina.backend import standardize_dtype, standardize_shape
from lamina.errors import ShapeError, axis_names


class InputSpec:
    """Rank, dtype and shape of one input of a layer; `None` accepts anything.

    Args:
        dtype: expected dtype.
        shape: expected shape with the batch axis; `None` axes fit any length.
        ndim, min_ndim, max_ndim: expected rank.
        axes: dict from an axis to its expected length.
        allow_last_axis_squeeze: also take rank n+1 with a last axis of 1, or rank n-1 where the spec's last
            axis is 1.
        name: the key of this input when data comes as a dict.
        optional: whether `None` may be passed.
    """

    def __init__(
        self,
        dtype=None,
        shape=None,
        ndim=None,
        max_ndim=None,
        min_ndim=None,
        axes=None,
        allow_last_axis_squeeze=False,
        name=None,
        optional=False,
    ):
        self.dtype = None if dtype is None else standardize_dtype(dtype)
        self.shape = None if shape is None else standardize_shape(shape)
        self.ndim = ndim if shape is None else len(self.shape)
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.name, self.optional = name, optional
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        try:
            self.axes = {int(k): v for k, v in (axes or {}).items()}
        except (AttributeError, TypeError, ValueError):
            raise TypeError(
                f"Argument `axes` must be a dict with integer keys. Received: axes={axes}"
            ) from None
        rank = self.ndim or self.max_ndim
        if self.axes and rank is not None and max(self.axes) > rank - 1:
            raise ValueError(f"Axis {max(self.axes)} is greater than the maximum allowed value: {rank - 1}")

    def __repr__(self):
        fields = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        return f"InputSpec({', '.join(f'{f}={getattr(self, f)}' for f in fields if getattr(self, f))})"

    def get_config(self):
        """The arguments as a dict."""
        fields = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        return {f: getattr(self, f) for f in fields}

    @classmethod
    def from_config(cls, config):
        """Makes a spec from `get_config()`'s dict."""
        return cls(**config)


def assert_input_compatibility(input_spec, inputs, layer_name, layer=None):
    """Raises `ShapeError` (a `ValueError`) unless `inputs` fit `input_spec` (a spec, or a nested structure
    of specs).
    """
    if not input_spec:
        return
    single = isinstance(input_spec, InputSpec) and hasattr(inputs, "shape")
    if single and _problem(input_spec, inputs.shape, inputs) is None:
        return
    specs = tree.flatten(input_spec)
    if isinstance(inputs, dict) and all(s is not None and s.name for s in specs):
        names = [s.name for s in specs]
        missing = [n for n in names if n not in inputs]
        if missing:
            raise ValueError(
                f'Missing data for input "{missing[0]}". '
                f"You passed a data dictionary with keys {list(inputs)}. Expected the following keys: {names}"
            )
        inputs = [inputs[n] for n in names]
    inputs = tree.flatten(inputs)
    if len(inputs) != len(specs):
        names = [s.name for s in specs if s is not None and s.name]
        how = (
            f" Pass them as a dict, e.g. `layer({{{', '.join(repr(n) + ': ...' for n in names)}}})`."
            if names
            else ""
        )
        raise ValueError(
            f'Layer "{layer_name}" expects {len(specs)} input(s), '
            f"but it received {len(inputs)} input tensors.{how} Inputs received: "
            f"{[getattr(x, 'shape', x) for x in inputs]}"
        )
    for index, (x, spec) in enumerate(zip(inputs, specs, strict=True)):
        if spec is None or (x is None and spec.optional):
            continue
        if not hasattr(x, "shape"):
            raise ValueError(
                f"Inputs to a layer should be tensors. Got '{x}' (of type {type(x)}) as input for layer "
                f"'{layer_name}'."
            )
        problem = _problem(spec, standardize_shape(x.shape), x)
        if problem:
            history = getattr(x, "_keras_history", None)
            named = f" with name '{spec.name}'" if spec.name else ""
            layout = getattr(layer, "data_format", None)
            maker = history.operation if history else None
            cause, fix = _advice(spec, tuple(x.shape), layer, maker)
            raise ShapeError(
                f"Input {index}{named} of layer '{layer_name}' is incompatible with the layer: {problem}. "
                f"Full shape received: {tuple(x.shape)}",
                layer=layer or layer_name,
                got=tuple(x.shape),
                axes=_names(len(x.shape), spec, layout),
                expected=_words(spec, layout),
                producer=maker,
                cause=cause,
                fix=fix,
            )


def _problem(spec, shape, x):
    """What of `shape` does not fit, in Keras's words; `None` when it fits."""
    ndim = len(shape)
    if spec.ndim is not None and not spec.allow_last_axis_squeeze and ndim != spec.ndim:
        return f"expected ndim={spec.ndim}, found ndim={ndim}"
    if spec.max_ndim is not None and ndim > spec.max_ndim:
        return f"expected max_ndim={spec.max_ndim}, found ndim={ndim}"
    if spec.min_ndim is not None and ndim < spec.min_ndim:
        return f"expected min_ndim={spec.min_ndim}, found ndim={ndim}"
    if spec.dtype is not None and standardize_dtype(x.dtype) != spec.dtype:
        return f"expected dtype={spec.dtype}, found dtype={standardize_dtype(x.dtype)}"
    for axis, value in spec.axes.items():
        if value is not None and shape[axis] not in (value, None):
            wanted = f"expected axis {axis} of input shape to have value {value}"
            return f"{wanted}, but received input with shape {shape}"
    if spec.shape is not None:
        expected = spec.shape
        if spec.allow_last_axis_squeeze:
            shape = shape[:-1] if shape and shape[-1] == 1 else shape
            expected = expected[:-1] if expected and expected[-1] == 1 else expected
        if any(a is not None and b is not None and a != b for a, b in zip(expected, shape, strict=False)):
            return f"expected shape={spec.shape}, found shape={shape}"
    return None


def _names(ndim, spec, layout):
    """Names for the axes of a value; one that lacks its channels has the names of the others."""
    wanted = spec.ndim or spec.min_ndim
    if wanted is not None and wanted > 2 and ndim == wanted - 1:
        return tuple(n for n in axis_names(wanted, layout) or () if n not in ("channels", "features")) or None
    return axis_names(ndim, layout)


def _words(spec, layout):
    if spec.shape is not None:
        return f"shape {spec.shape}"
    words = []
    for count, ndim in (("", spec.ndim), ("at least ", spec.min_ndim)):
        if ndim is not None:
            names = axis_names(ndim, layout) if ndim > 2 or not count else None
            words.append(f"{count}{ndim} axes" + (f" = ({', '.join(names)})" if names else ""))
    if spec.max_ndim is not None:
        words.append(f"at most {spec.max_ndim} axes")
    words += [f"{v} along axis {k}" for k, v in spec.axes.items() if v is not None]
    if spec.dtype is not None:
        words.append(f"dtype {spec.dtype}")
    return ", ".join(words) or None


def _advice(spec, shape, layer, maker):
    """(cause, fix): an axis is missing, or the channels stand where the other data format has them.

    `maker` is the layer that made the value, or `None`.
    """
    wanted, ndim, layout = spec.ndim or spec.min_ndim, len(shape), getattr(layer, "data_format", None)
    if wanted is not None and not spec.allow_last_axis_squeeze and ndim == wanted - 1:
        if ndim == 1:
            return None, "`x[None, :]` if this is one sample without its batch axis"
        if layout is None:
            one_sample = "`x[None]` if this is one sample without its batch axis"
            return None, f"`x[..., None]` if each value is one feature or channel; {one_sample}"
        sizes, index = ((*shape[1:], 1), "x[..., None]")
        if layout == "channels_first":
            sizes, index = (1, *shape[1:]), "x[:, None]"
        fix = f"`Input({sizes})` and `{index}` for one channel; `x[None]` if this is one sample"
        if maker is not None and type(maker).__name__ != "InputLayer":
            fix = f"`Reshape({sizes})` before it, for one channel"
        return "the channel axis is missing", fix
    if wanted is not None and ndim == 2 and wanted > 3 and layout is not None and maker is not None:
        sizes = [n for n in axis_names(wanted, layout) if n != "batch"]
        equal = f" with {' * '.join(sizes)} = {shape[1]}" if shape[1] is not None else ""
        return "each sample is one row of values", f"`Reshape(({', '.join(sizes)}))` before it{equal}"
    for axis, value in spec.axes.items():
        position = axis % ndim if -ndim <= axis < ndim else None
        other = {ndim - 1: 1, 1: ndim - 1}.get(position)
        if ndim < 3 or other is None or value is None or shape[other] != value or shape[position] == value:
            continue
        swapped, source, target = ("channels_first", 1, -1) if other == 1 else ("channels_last", -1, 1)
        fix = f"`np.moveaxis(x, {source}, {target})`"
        if layout is not None:
            fix += f', or `data_format="{swapped}"` in this layer'
        elif hasattr(layer, "axis"):
            fix += f", or `axis={source}` in this layer"
        return f"axis {other} holds the {value} channels ({swapped} data)", fix
    for axis, value in spec.axes.items():
        if getattr(layer, "built", False) and -ndim <= axis < ndim and shape[axis] not in (value, None):
            cause = f"the layer's weights were made for {value} along axis {axis}"
            cause += f", and the value has {shape[axis]}"
            return cause, f"feed {value} along that axis, or make a new layer: `{type(layer).__name__}(...)`"
    return None, None
