"""Errors are data: what was wrong, where, what came in, what would have been accepted, and a fix to paste."""


class ExplainedError(ValueError):
    """An error whose parts are data. Raised before anything is computed.

    Args:
        message: the first line, with the words that people search for.
        op, layer, argument: where: the op's name, the layer (its name or itself), the operand or argument at
            fault.
        got: a shape, several shapes, or words.
        axes: names for the axes of `got`, such as `("batch", "features")`.
        expected: what would have been accepted, in words.
        producer: the layer that made the value (its name or itself).
        cause: the likely mistake.
        trail: the sizes on the way there, layer by layer: `"28x28 -> conv2d 26x26"`; `True` where they are to
            be filled in by who knows them.
        fix: code that can be pasted.

    Each is an attribute; `str()` renders them.
    """

    def __init__(
        self,
        message="",
        *,
        op=None,
        layer=None,
        argument=None,
        expected=None,
        got=None,
        axes=None,
        producer=None,
        cause=None,
        trail=None,
        fix=None,
    ):
        super().__init__(message)
        self.message, self.op, self.layer, self.argument = str(message), op, layer, argument
        self.expected, self.got, self.axes = expected, got, axes
        self.producer, self.cause, self.trail, self.fix = producer, cause, trail, fix

    def __str__(self):
        lines = [self.message]
        for title, text in (
            ("where", self._where()),
            ("got", _shapes(self.got, self.axes)),
            ("expected", self.expected),
            ("cause", self.cause),
            ("sizes", self.trail if isinstance(self.trail, str) else None),
            ("fix", self.fix),
        ):
            if text:
                lines.append(f"  {title}: {text}")
        return "\n".join(lines)

    def _where(self):
        parts = []
        if self.layer is not None:
            parts.append(f"layer {_named(self.layer)}")
        if self.op is not None:
            parts.append(f"op {self.op}")
        if self.argument is not None:
            parts.append(f"argument `{self.argument}`")
        if self.producer is not None:
            producers = self.producer if isinstance(self.producer, (list, tuple)) else [self.producer]
            parts.append("fed by " + " and ".join(dict.fromkeys(_named(p) for p in producers)))
        return ", ".join(parts)

    def __reduce__(self):
        fields = {k: v for k, v in vars(self).items() if k != "message"}
        for name in ("layer", "producer"):
            if fields[name] is not None:
                fields[name] = _text(fields[name])
        return _rebuild, (type(self), self.message, fields)


class ShapeError(ExplainedError):
    """Shapes or dtypes do not fit."""


class DataError(ExplainedError):
    """Values that cannot be right: NaN, a label without a class, an id outside its table."""


def _rebuild(cls, message, fields):
    return cls(message, **fields)


def _text(who):
    return (
        [_text(w) for w in who]
        if isinstance(who, (list, tuple))
        else who
        if isinstance(who, str)
        else _named(who)
    )


def _named(who):
    if isinstance(who, str):
        return who if who.startswith("'") else f"'{who}'"
    return f"'{who.name}' ({type(who).__name__})"


def _is_shape(x):
    return isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x)


def show_shape(shape, axes=None):
    """A shape as text: `(None, 28, 28, 1)`, with its axes named when names are given."""
    text = str(tuple(shape))
    return f"{text} = ({', '.join(axes)})" if axes and len(axes) == len(shape) else text


def _shapes(got, axes):
    if got is None or isinstance(got, str):
        return got
    if _is_shape(got):
        return show_shape(got, axes)
    if isinstance(got, (list, tuple)):
        return ", ".join(str(_shapes(g, None)) for g in got)
    if isinstance(got, dict):
        return ", ".join(f"{k}: {_shapes(v, None)}" for k, v in got.items())
    return str(got)


_SPATIAL = {3: ("time",), 4: ("height", "width"), 5: ("depth", "height", "width")}


def axis_names(ndim, data_format=None):
    """Names for the axes of a value with `ndim` axes, as the layers of `data_format` read it, or `None`."""
    if ndim in (1, 2):
        return ("batch", "features")[:ndim]
    spatial = _SPATIAL.get(ndim)
    if spatial is None:
        return None
    if data_format == "channels_first":
        return ("batch", "channels", *spatial)
    return ("batch", *spatial, "features" if ndim == 3 and data_format is None else "channels")


class FileFormatError(ValueError):
    """A file is truncated, corrupted, foreign or unsafe; the message says what is wrong where."""


# What Keras 1 called things, with the same meaning.
LEGACY_NAMES = {
    "W_constraint": "kernel_constraint",
    "W_regularizer": "kernel_regularizer",
    "atrous_rate": "dilation_rate",
    "b_constraint": "bias_constraint",
    "b_regularizer": "bias_regularizer",
    "bias": "use_bias",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "lr": "learning_rate",
    "nb_epoch": "epochs",
    "nb_filter": "filters",
    "output_dim": "units",
    "p": "rate",
    "pool_length": "pool_size",
    "subsample": "strides",
    "subsample_length": "strides",
}
# And what stood in the place of something else.
_REPLACED = {"nb_val_samples": "validation_steps", "samples_per_epoch": "steps_per_epoch"}


def did_you_mean(name, known):
    """`" Did you mean 'relu'?"` when `name` looks like one of the `known` names, else `""`."""
    name, names = str(name), [str(k) for k in known]
    today = LEGACY_NAMES.get(name) or _REPLACED.get(name)
    if today in names:
        return f" `{name}` is called `{today}`."
    best = min(names, key=lambda known: _typos(name, known), default="")
    # A third of the letters may be wrong; names that begin alike may differ more.
    if best and (_typos(name, best) <= max(1, len(name) // 3) or _begins_like(name, best)):
        return f" Did you mean '{best}'?"
    return ""


def _typos(a, b):
    """How many letters to insert, drop, replace or swap with their neighbour; another case counts a quarter.

    The optimal string alignment distance.
    """
    older, old = [], list(range(len(b) + 1))
    for i, c in enumerate(a, start=1):
        row = [i]
        for j, d in enumerate(b, start=1):
            wrong = 0 if c == d else 0.25 if c.lower() == d.lower() else 1
            row.append(min(old[j] + 1, row[j - 1] + 1, old[j - 1] + wrong))
            if i > 1 and j > 1 and c == b[j - 2] and d == a[i - 2]:
                row[j] = min(row[j], older[j - 2] + 1)
        older, old = old, row
    return old[-1]


def _begins_like(a, b):
    same = [x == y for x, y in zip(a.lower(), b.lower(), strict=False)]
    n = [*same, False].index(False)
    return n >= 4 and n > len(b) // 2
