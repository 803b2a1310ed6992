"""The `lamina` command: what it prints, its exit status, and what a wrong use says."""

import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

import lamina
from lamina import cli, layers

NETWORKS = """
import lamina
from lamina import layers

def build():
    first = layers.Dense(4, name="first")
    return lamina.Sequential([lamina.Input((3,)), first, layers.Dense(1)], name="tiny")

model = build()
number = 3

def broken():
    return layers.Conv2D(4, 3)(lamina.Input((28, 28)))

def with_argument(n):
    return model

unbuilt = lamina.Sequential([layers.Dense(4)])
sequence = lamina.Sequential([lamina.Input((None, 3)), layers.Conv1D(4, 3)])
ids = lamina.Sequential([lamina.Input((5,), dtype="int32"), layers.Embedding(10, 4)])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module of networks, a saved model with its weights, and data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks.py").write_text(NETWORKS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("networks", None)
    model = lamina.Sequential(
        [lamina.Input((3,)), layers.Dense(4, activation="relu", name="first"), layers.Dense(1)], name="saved"
    )
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.npz")
    np.save(tmp_path / "x.npy", np.arange(15, dtype="float32").reshape(5, 3))
    yield tmp_path, model
    sys.modules.pop("networks", None)


@pytest.fixture
def run(folder, capsys):
    """Runs a command line: (exit status, stdout, stderr)."""

    def call(*arguments):
        status = cli.main(list(arguments))
        return status, *capsys.readouterr()

    return call


@pytest.mark.parametrize("file", ["networks:build", "networks:model", "model.json"])
def test_summary(run, file):
    status, out, err = run("summary", file, "--flops", "--formulas", "--memory", "--batch-size", "2")
    assert (status, err) == (0, "")
    assert "3*4 + 4" in out and "FLOPs" in out and "batch size 2" in out and "Total params: 21" in out
    assert "\x1b[" not in out


def test_summary_as_json(run):
    _, out, _ = run("summary", "model.json", "--json", "--batch-size", "10")
    found = json.loads(out)
    assert (found["name"], found["params"], found["flops"]) == ("saved", 21, 320)
    assert (
        found["layers"][0]
        == {
            "name": "first",
            "type": "Dense",
            "input_shapes": [[None, 3]],
            "output_shapes": [[None, 4]],
            "params": 16,
            "formula": "3*4 + 4",
            "trainable": True,
            "flops": 10 * (2 * 3 * 4 + 4),  # the relu besides
            "output_bytes": 160,
        }
        or found["layers"][0]["flops"] == 240
    )
    _, out, _ = run("summary", "networks:unbuilt", "--json")
    assert json.loads(out)["params"] is None


def test_explain(run):
    status, out, _ = run("explain", "model.json")
    assert status == 0
    assert "Model 'saved' turns (None, 3) into (None, 1)" in out
    _, out, _ = run("explain", "model.json", "--json")
    assert json.loads(out)["layers"][1]["shapes"] == "(None, 3) -> (None, 4)"
    _, out, _ = run("explain", "networks:unbuilt", "--input-shape", "3")
    assert "(None, 3) -> (None, 4)" in out


def test_predict(run, folder):
    path, model = folder
    expected = model.predict(np.load(path / "x.npy"), verbose=0)
    status, out, _ = run("predict", "model.json", "x.npy", "-o", "y.npy")
    assert (status, out) == (0, "y.npy: (5, 1) float32\n")
    np.testing.assert_array_equal(np.load(path / "y.npy"), expected)
    _, out, _ = run("predict", "model.json", "x.npy", "--json")
    (values,) = json.loads(out)["outputs"]
    np.testing.assert_array_equal(np.array(values["values"], "float32"), expected)
    assert str(expected) in run("predict", "model.json", "x.npy")[1]


def test_predict_with_several_inputs_and_outputs(run, folder):
    path, _ = folder
    a, b = lamina.Input((3,), name="a"), lamina.Input((2,), name="b")
    both = layers.Concatenate()([a, b])
    model = lamina.Model([a, b], [layers.Dense(1)(both), both])
    (path / "two.json").write_text(model.to_json())
    model.save_weights(path / "other.weights.npz")
    np.savez(path / "x.npz", a=np.ones((4, 3), "float32"), b=np.ones((4, 2), "float32"))
    line = ("predict", "two.json", "x.npz", "--weights", "other.weights.npz", "-o")
    assert run(*line, "y.npz")[0] == 0
    with np.load(path / "y.npz") as y:
        assert [y[n].shape for n in y.files] == [(4, 1), (4, 5)]
    status, _, err = run(*line, "y.npy")
    assert status == 2 and "2 outputs" in err


@pytest.mark.parametrize("view", ["graph", "neurons"])
def test_plot(run, folder, view):
    path, _ = folder
    assert run("plot", "model.json", "-o", "picture.svg", "--view", view) == (0, "picture.svg\n", "")
    assert "<svg" in (path / "picture.svg").read_text()


def test_plot_writes_what_was_asked_for(run, folder):
    path, _ = folder
    line = "plot model.json -o p.svg --dtype --activations --trainable --no-shapes --no-names --rankdir LR"
    assert run(*line.split())[0] == 0
    svg = (path / "p.svg").read_text()
    assert ">float32<" in svg and ">relu<" in svg and ">trainable<" in svg
    assert "(None" not in svg and ">dense<" not in svg
    sizes = []
    for dpi in ("96", "192"):
        assert run("plot", "model.json", "-o", "p.png", "--dpi", dpi)[0] == 0
        sizes.append(struct.unpack(">I", (path / "p.png").read_bytes()[16:20])[0])
    assert sizes[1] == pytest.approx(2 * sizes[0], abs=4)


def test_version(capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(["--version"])
    assert e.value.code == 0
    assert capsys.readouterr().out == f"lamina {lamina.__version__}\n"


def test_an_interrupt_ends_without_a_traceback(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lamina.commands.show.load_model", interrupted)
    assert run("summary", "model.json") == (130, "", "")


def test_inspect_builds_nothing(run, folder, monkeypatch):
    monkeypatch.setattr("lamina.commands.show.load_model", None)
    status, out, _ = run("inspect", "model.json")
    assert status == 0
    assert "model.json: Sequential 'saved', 3 layers" in out
    assert "units=4, activation=relu" in out
    assert "model.npz: 4 arrays, 84.00 B" in out
    _, out, _ = run("inspect", "model.npz", "--json")
    arrays = json.loads(out)["weights"]["arrays"]
    assert arrays[0] == {"name": "layers/dense/vars/0", "shape": [3, 4], "dtype": "float32", "bytes": 48}


def test_bench(run):
    before = lamina.engine.runtime.num_threads()
    line = ("--batch", "1,4", "--threads", "1", "--seconds", "0.01")
    status, out, _ = run("bench", "networks:model", *line)
    assert status == 0 and "samples/s" in out and len(out.splitlines()) == 4
    results = json.loads(run("bench", "networks:ids", *line, "--json")[1])["results"]
    assert [(r["batch"], r["threads"]) for r in results] == [(1, 1), (4, 1)]
    for r in results:
        assert 0 < r["fastest_s"] <= r["median_s"]
        assert r["samples_per_s"] == pytest.approx(r["batch"] / r["median_s"])
    assert run("bench", "networks:sequence", *line, "--length", "9")[0] == 0
    assert lamina.engine.runtime.num_threads() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("summary networks:modl", "networks has no attribute 'modl'. Did you mean 'model'?"),
        ("summary networks:number", "networks:number is of type int"),
        ("summary networks:with_argument", "did not make a model: TypeError"),
        ("summary networks:broken", "where: "),
        ("summary nowhere:model", "There is no module nowhere"),
        ("summary missing.json", "There is no file missing.json"),
        ("summary x.npy", "x.npy is not JSON: it is no text."),
        ("summary list.json", "does not describe a model"),
        ("summary dense.json", "describes a Dense, not a model"),
        ("summary torn.json", "describes no model that can be made: KeyError"),
        ("summary unknown.json", "Could not locate class 'Nope'"),
        ("inspect flat.json", "does not describe a model"),
        ("explain networks:unbuilt", "input shape is unknown"),
        ("explain networks:unbuilt", "fix: --input-shape"),
        ("predict bare.json x.npy", "There are no weights for bare.json"),
        ("predict bare.json x.npy --weights model.json", ".npz"),
        ("predict bare.json x.npy --weights none.npz", "none.npz"),
        ("predict model.json none.npy", "There is no file none.npy"),
        ("predict model.json networks.py", "holds no arrays of numbers"),
        ("predict model.json x.npy -o y.txt", "must end in .npy or .npz"),
        ("predict model.json wide.npy", "expected"),
        ("inspect networks:model", "`inspect` reads files"),
        ("inspect torn.npz", "is not an .npz file of arrays, or is damaged"),
        ("inspect none.npz", "There is no file none.npz"),
        ("bench networks:unbuilt", "is unknown"),
        ("bench networks:sequence", "--length"),
        ("plot model.json -o model.bmp", ".svg"),
        ("plot model.json -o no/where.png", "lamina plot: No such file or directory: no/where.png"),
    ],
)
def test_a_wrong_use_is_one_block_on_stderr_and_status_2(run, folder, line, words):
    path, model = folder
    (path / "list.json").write_text("[1, 2]")
    (path / "dense.json").write_text(json.dumps(lamina.saving.serialize_keras_object(layers.Dense(2))))
    (path / "bare.json").write_text(model.to_json())
    call = {"class_name": "__keras_tensor__", "config": {"keras_history": ["zz", 0, 0]}}
    torn = {"class_name": "Dense", "name": "d", "config": {"units": 3}, "inbound_nodes": [{"args": [call]}]}
    graph = {"name": "a", "layers": [torn], "input_layers": [], "output_layers": [["d", 0, 0]]}
    (path / "torn.json").write_text(json.dumps({"class_name": "Functional", "config": graph}))
    (path / "unknown.json").write_text('{"class_name": "Nope", "config": {}}')
    (path / "flat.json").write_text('{"class_name": "Sequential", "config": [1]}')
    (path / "torn.npz").write_bytes((path / "model.npz").read_bytes()[:100])
    np.save(path / "wide.npy", np.ones((5, 7), "float32"))
    status, out, err = run(*line.split())
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith(f"lamina {line.split()[0]}: ")
    assert "Traceback" not in err and "\n\n" not in err
    assert all(row.startswith("  ") for row in err.splitlines()[1:])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sumary model.json",
        "explain m:m --input-shape 5,x",
        "bench networks:model --batch 0",
        "summary",
        "bench m:m --threads x",
    ],
)
def test_a_line_that_cannot_be_parsed_shows_usage(folder, capsys, line):
    with pytest.raises(SystemExit) as e:
        cli.main(line.split())
    assert e.value.code == 2
    assert "usage: lamina" in capsys.readouterr().err


def test_output_that_nobody_reads_is_no_error(folder):
    code = f"{sys.executable} -m lamina.cli explain model.json | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(lamina.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    assert done.stdout == "0\n"


def test_the_package_runs_as_the_command():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(lamina.__file__).parents[1])}

    def run(*line):
        line = [sys.executable, "-m", "lamina", *line]
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    assert run("--version") == (0, f"lamina {lamina.__version__}\n", "")
    status, out, err = run("summary", "no.json")
    assert (status, out) == (2, "") and err.startswith("lamina summary: There is no file no.json.")
