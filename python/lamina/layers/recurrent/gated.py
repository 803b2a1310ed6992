"""`SimpleRNN`, `LSTM` and `GRU`: a cell and its loop in one layer."""

from lamina.engine.operation import init_signature
from lamina.layers.recurrent.cells import GRUCell, LSTMCell, SimpleRNNCell
from lamina.layers.recurrent.rnn import RNN

_LOOP = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")


def _of_cell(name):
    return property(lambda self: getattr(self.cell, name), doc=f"As the cell's `{name}`.")


class CellLayer(RNN):
    """A recurrent layer that makes its cell from its own arguments, which are attributes of both."""

    _cell_class: type

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "_cell_class" in cls.__dict__:
            for name in _cell_arguments(cls._cell_class):
                setattr(cls, name, _of_cell(name))

    def _make(self, given):
        """The rest of `__init__`, from its arguments by name (its `locals()`)."""
        kwargs = given["kwargs"]
        options = {name: given[name] for name in _cell_arguments(self._cell_class)}
        options.update({k: kwargs.pop(k) for k in ("implementation",) if k in kwargs})
        options.update({k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs})
        cell = self._cell_class(**options, name=self._cell_name)
        if given.get("use_cudnn", "auto") not in ("auto", True, False):
            raise ValueError(
                "Invalid value for `use_cudnn`: it should be one of {'auto', True, False}. "
                f"Received: use_cudnn={given['use_cudnn']}"
            )
        RNN.__init__(
            self,
            cell,
            activity_regularizer=given["activity_regularizer"],
            **{name: given[name] for name in _LOOP},
            **kwargs,
        )
        if "use_cudnn" in given:
            self.use_cudnn = given["use_cudnn"]

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if getattr(self, "use_cudnn", None) is True:
            raise ValueError(
                "use_cudnn=True was specified, but there is no cuDNN here. Leave it at 'auto', or pass False."
            )
        return super().inner_loop(sequences, initial_state, mask, training)

    def get_config(self):
        # A loop option that the layers take among their keywords.
        return {
            "activity_regularizer": None,
            **super().get_config(),
            "zero_output_for_mask": self.zero_output_for_mask,
        }


def _cell_arguments(cell_class):
    return [n for n in init_signature(cell_class).parameters if n not in ("self", "kwargs")]


class SimpleRNN(CellLayer):
    """The plain recurrent layer: `h' = activation(x @ kernel + h @ recurrent_kernel + bias)` at each step.

    Weights: `kernel` (features, units), `recurrent_kernel` (units, units), `bias` (units,). For the arguments
    about the sequence see `RNN`.

    Input: (batch, time, features), float. Output: (batch, units); (batch, time, units) with
    `return_sequences=True`.
    Raises: ShapeError when the input has not three axes.

    >>> layers.SimpleRNN(4)(Input((10, 8))).shape
    (None, 4)
    """

    _cell_class, _cell_name = SimpleRNNCell, "simple_rnn_cell"
    _config_exclude = ("seed",)  # as in Keras

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        seed=None,
        **kwargs,
    ):
        self._make(locals())


class LSTM(CellLayer):
    """Long short-term memory: a recurrent layer that keeps a memory c beside its output h; see `LSTMCell`.

    Weights: `kernel` (features, 4*units), `recurrent_kernel` (units, 4*units), `bias` (4*units,): four gates
    side by side. States: h and c, (batch, units) each. For the arguments about the sequence see `RNN`.
    `use_cudnn=True` is refused: there is no GPU here.

    Input: (batch, time, features), float. Output: (batch, units), the last step; (batch, time, units) with
    `return_sequences=True`; with `return_state=True` also h and c.
    Raises: ShapeError when the input has not three axes.
    Source: Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735.

    >>> layers.LSTM(64)(Input((10, 8))).shape
    (None, 64)
    """

    _cell_class, _cell_name = LSTMCell, "lstm_cell"
    _config_exclude = ("use_cudnn",)

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        use_cudnn="auto",
        **kwargs,
    ):
        self._make(locals())


class GRU(CellLayer):
    """Gated recurrent unit: a recurrent layer whose gates say how much of the state stays; see `GRUCell`.

    Weights: `kernel` (features, 3*units), `recurrent_kernel` (units, 3*units), `bias` (2, 3*units), or
    (3*units,) with `reset_after=False`: three gates side by side. For the arguments about the sequence see
    `RNN`. `use_cudnn=True` is refused: there is no GPU here.

    Input: (batch, time, features), float. Output: (batch, units), the last step; (batch, time, units) with
    `return_sequences=True`; with `return_state=True` also the state.
    Raises: ShapeError when the input has not three axes.
    Source: Cho et al., 2014, https://arxiv.org/abs/1406.1078.

    >>> layers.GRU(64)(Input((10, 8))).shape
    (None, 64)
    """

    _cell_class, _cell_name = GRUCell, "gru_cell"
    _config_exclude = ("use_cudnn",)

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        reset_after=True,
        use_cudnn="auto",
        **kwargs,
    ):
        self._make(locals())
