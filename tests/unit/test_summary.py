"""`model.summary()` as text."""

import io

import pytest

import lamina
from lamina import layers


def text_of(model, **kwargs):
    lines = []
    model.summary(print_fn=lines.append, **kwargs)
    return "\n".join(lines)


def rows(text):
    """{layer name: the other columns} of a table."""
    found = {}
    for line in text.splitlines():
        if line.startswith("│"):
            cells = [c.strip() for c in line.strip("│").split("│")]
            if cells[0]:
                found[cells[0].split(" ")[0]] = cells[1:]
    return found


def small():
    return lamina.Sequential(
        [lamina.Input((3,)), layers.Dense(4, name="first"), layers.Dense(1, name="last")], name="small"
    )


def test_sequential_summary():
    text = text_of(small())
    assert text.startswith('Model: "small"')
    assert rows(text)["first"] == ["(None, 4)", "16"]
    assert rows(text)["last"] == ["(None, 1)", "5"]
    assert "Total params: 21 (84.00 B)" in text
    assert "Non-trainable params: 0 (0.00 B)" in text


def test_printed_summary_is_plain_when_it_goes_to_a_file(capsys):
    small().summary()
    out = capsys.readouterr().out
    assert "\x1b[" not in out
    assert "first (Dense)" in out


def test_where_only_ascii_can_be_written_the_table_is_ascii(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    outer = lamina.Sequential([lamina.Input((3,)), small(), layers.Dense(2, name="top" * 30)])
    outer.summary(expand_nested=True)
    out.flush()
    text = out.buffer.getvalue().decode("ascii")
    assert "| Layer (type)" in text and "+ first (Dense)" in text


def test_memory_says_the_bytes_of_each_dtype():
    model = lamina.Sequential(
        [lamina.Input((8,)), layers.Embedding(10, 4, dtype="float16"), layers.Flatten(), layers.Dense(2)]
    )
    text = text_of(model, memory=True)
    assert "Weights in float16: 40 (80.00 B)" in text
    assert "Weights in float32: 66 (264.00 B)" in text
    assert "Weights in" not in text_of(model)


def test_branches_show_connections():
    a, b = lamina.Input((3,), name="a"), lamina.Input((3,), name="b")
    model = lamina.Model([a, b], layers.Add(name="add")([a, layers.Dense(3, name="d")(b)]))
    table = rows(text_of(model, line_length=108))
    assert table["a"] == ["(None, 3)", "0", "-"]
    assert table["d"] == ["(None, 3)", "12", "b[0][0]"]
    assert table["add"] == ["(None, 3)", "0", "a[0][0], d[0][0]"]


def test_nested_models_can_be_expanded():
    model = lamina.Sequential([lamina.Input((3,)), small(), layers.Dense(2, name="top")])
    assert "first" not in text_of(model)
    text = text_of(model, expand_nested=True)
    assert "└ first (Dense)" in text


def test_trainable_column():
    model = small()
    model.layers[0].trainable = False
    table = rows(text_of(model, show_trainable=True))
    assert (table["first"][-1], table["last"][-1]) == ("N", "Y")
    assert "Non-trainable params: 16" in text_of(model)


def test_unbuilt_model_never_claims_zero_parameters():
    text = text_of(lamina.Sequential([layers.Dense(4, name="d")]))
    assert "unbuilt" in rows(text)["d"][1]
    assert "Total params: unbuilt" in text


def test_subclassed_model_shows_shapes():
    class Net(lamina.Model):
        def __init__(self):
            super().__init__()
            self.d = layers.Dense(4, name="d")

        def call(self, x):
            return self.d(x)

    model = Net()
    model.build((None, 3))
    assert rows(text_of(model))["d"] == ["(None, 4)", "16"]


def test_layer_range():
    assert "first" not in text_of(small(), layer_range=["last", "last"])
    with pytest.raises(ValueError, match=r"No layer matches 'lst'.*Did you mean 'last'"):
        text_of(small(), layer_range=["first", "lst"])


def test_optimizer_parameters_are_counted():
    import numpy as np

    model = small()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert "Optimizer params: 44" in text_of(model)


def test_too_narrow():
    with pytest.raises(ValueError, match="Insufficient console width"):
        text_of(small(), line_length=8)


def test_formulas_flops_and_memory_are_columns():
    text = text_of(small(), formulas=True, flops=True, memory=True, batch_size=10)
    assert rows(text)["first"] == ["(None, 4)", "16", "3*4 + 4", "240", "160.00 B"]
    assert rows(text)["last"] == ["(None, 1)", "5", "4*1 + 1", "80", "40.00 B"]
    assert "FLOPs as planned: 320 (one prediction, batch size 10)" in text
    assert "Memory of intermediate values: " in text


def test_costs_show_inside_nested_models_and_branches():
    inner = small()
    a = lamina.Input((3,), name="a")
    model = lamina.Model(a, layers.Add(name="add")([inner(a), layers.Dense(1, name="side")(a)]))
    table = rows(text_of(model, flops=True, expand_nested=True))
    assert table["small"] == ["(None, 1)", "21", "a[0][0]", "32"]
    assert table["└"] == ["(None, 1)", "5", "-", "8"]
    assert table["a"][-1] == "0"


def test_an_unbuilt_model_has_no_costs():
    text = text_of(lamina.Sequential([layers.Dense(4, name="d")]), flops=True, memory=True, formulas=True)
    assert rows(text)["d"][2:] == ["-", "?", "?"]


def test_the_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size"):
        text_of(small(), flops=True, batch_size=0)
