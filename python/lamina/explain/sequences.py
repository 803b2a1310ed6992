"""Explanations of layers that read sequences: recurrent layers and attention."""

from lamina.explain.words import amount, count, joined

_GATES = {
    "SimpleRNN": None,
    "LSTM": (
        "Four gates decide at each step what enters a memory (input), what of it stays (forget), what is new "
        "(candidate) and what goes out (output)"
    ),
    "GRU": "Three gates decide at each step what stays (update), what is forgotten (reset) and what is new",
}


def recurrent(layer, call):
    """SimpleRNN, LSTM and GRU."""
    steps, features = call.input[1:]
    units, gates = layer.units, layer.cell.gates
    story = _GATES.get(type(layer).__name__)
    sentences = [
        f"`units={units}` is how many values come out of a step. The steps are read one after the other, "
        f"{amount(steps, 'step')} with the same weights: their number has no part in the number of weights.",
        f"At each step a unit sees the {count(features, 'feature')} of the step and the "
        f"{count(units, 'output')} of the step before.",
    ]
    if story:
        sentences.append(
            f"{story}: {gates}*{units} = {gates * units} columns in each kernel, a block per gate."
        )
    if layer.go_backwards:
        sentences.append("`go_backwards=True`: the last step is read first.")
    return [*sentences, *_returned(layer, call)]


def any_recurrent(layer, call):
    """RNN with a cell of any kind."""
    cell = type(layer.cell).__name__
    return [
        f"A `{cell}` is applied to {amount(call.input[1], 'step')}, one after the other, with the same "
        "weights; each gets the state of the one before.",
        *_returned(layer, call),
    ]


def bidirectional(layer, call):
    """Bidirectional."""
    kind = type(layer.forward_layer).__name__
    merged = {
        "concat": "Their outputs are put side by side, which makes the last axis as long as both together",
        "sum": "Their outputs are added",
        "mul": "Their outputs are multiplied",
        "ave": "The mean of their outputs is taken",
        None: "Both outputs are returned",
    }[layer.merge_mode]
    return [
        f"Two layers of the kind {kind}, with weights of their own: one reads the sequence forwards, the "
        f"other backwards. {merged}: {call.input} -> {joined(map(str, call.outputs))}.",
        _last_step(layer),
    ]


def time_distributed(layer, call):
    """TimeDistributed."""
    kind, shape = type(layer.layer).__name__, call.input
    return [
        f"The same {kind}, with the same weights, is applied to each of {amount(shape[1], 'step')}: it takes "
        f"{(shape[0], *shape[2:])} and gives {(call.output[0], *call.output[2:])}. The time axis stays: "
        f"{shape} -> {call.output}."
    ]


def _returned(layer, call):
    sentences = [_last_step(layer) or "`return_sequences=True`: the output of every step is returned."]
    sentences.append(f"Out: {joined(map(str, call.outputs))}.")
    if layer.return_state:
        sentences.append("After the output come the states of the last step (`return_state=True`).")
    return sentences


def _last_step(layer):
    if layer.return_sequences:
        return None
    return (
        "Only the output of the last step is returned, so that the time axis goes; another recurrent layer "
        "after it needs `return_sequences=True` here."
    )


def attention(layer, call):
    """Attention and AdditiveAttention."""
    query, value = call.inputs[:2]
    return [
        f"Each of {amount(query[1], 'step')} of the query is compared with {amount(value[1], 'step')} of the "
        "value (or of the key, if there is one), and becomes the mean of the values, weighted by how well "
        f"they fit. There are as many steps as in the query, each with the {amount(value[-1], 'feature')} of "
        f"the value: {call.output}."
    ]


def heads(layer, call):
    """MultiHeadAttention and GroupQueryAttention."""
    query, value = call.inputs[0], call.inputs[min(1, len(call.inputs) - 1)]
    number = getattr(layer, "num_heads", None) or layer.num_query_heads
    size = getattr(layer, "key_dim", None) or layer.head_dim
    sentences = [
        f"{count(number, 'head')} side by side: each projects the {query[-1]} features of the query and the "
        f"{value[-1]} of the value to {size} of its own, compares them, and takes a weighted mean of the "
        "projected values.",
        f"All heads together are projected to {call.output[-1]} features: {call.output}. The number of steps "
        "has no part in the number of weights.",
    ]
    shared = getattr(layer, "num_key_value_heads", number)
    if shared != number:
        sentences.insert(
            1, f"Key and value have {count(shared, 'head')} only, shared by {number // shared} each."
        )
    return sentences
