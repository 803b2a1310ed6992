"""Errors are data: what was wrong, where, what came in, what would have been accepted, and a fix to paste."""


class ShapeError(ValueError):
    """Shapes or dtypes do not fit. Raised before anything is computed.

    Args:
        message: the first line, with the words that people search for.
        op, layer, argument: where: the op's name, the layer (its name or itself), the operand or argument at
            fault.
        got: a shape, several shapes, or words.
        axes: names for the axes of `got`, such as `("batch", "features")`.
        expected: what would have been accepted, in words.
        producer: the layer that made the value (its name or itself).
        cause: the likely mistake.
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
        fix=None,
    ):
        super().__init__(message)
        self.message, self.op, self.layer, self.argument = str(message), op, layer, argument
        self.expected, self.got, self.axes = expected, got, axes
        self.producer, self.cause, self.fix = producer, cause, fix

    def __str__(self):
        lines = [self.message]
        for title, text in (
            ("where", self._where()),
            ("got", _shapes(self.got, self.axes)),
            ("expected", self.expected),
            ("cause", self.cause),
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
            parts.append("fed by " + " and ".join(_named(p) for p in producers))
        return ", ".join(parts)

    def __reduce__(self):
        fields = {k: v for k, v in vars(self).items() if k != "message"}
        for name in ("layer", "producer"):
            if fields[name] is not None:
                fields[name] = _text(fields[name])
        return _rebuild, (self.message, fields)


def _rebuild(message, fields):
    return ShapeError(message, **fields)


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


class FileFormatError(ValueError):
    """A file is truncated, corrupted, foreign or unsafe; the message says what is wrong where."""


def did_you_mean(name, known):
    """`" Did you mean 'relu'?"` when `name` looks like one of the `known` names, else `""`."""
    import difflib

    names = [str(k) for k in known]
    found = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if not found:  # a wrong case only: "Adam" for "adam"
        found = [n for n in names if n.lower() == str(name).lower()][:1]
    return f" Did you mean '{found[0]}'?" if found else ""
