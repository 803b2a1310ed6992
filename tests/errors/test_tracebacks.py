"""A traceback shows the user's own lines; a switch brings lamina's back."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import lamina
from lamina import layers

START = """
import numpy as np
import lamina
from lamina import layers, ops

def net():
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(3), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    return model

x = np.zeros((8, 5), "float32")
y = np.zeros((8, 1), "float32")
"""

MISTAKES = {
    "layer": "layers.Dense(3)(layers.Dense(4))",
    "symbolic layer": "layers.Conv2D(3, 3)(lamina.Input((28, 28)))",
    "constructor": "layers.Dense(3, activation='rleu')",
    "keyword": "layers.Dense(3, activaton='relu')",
    "missing": "layers.Dense()",
    "loss": "lamina.losses.BinaryCrossentropy(from_logit=True)",
    "stack": "lamina.Sequential([lamina.Input((28, 28)), layers.Conv2D(3, 3)])",
    "add": "lamina.Sequential([lamina.Input((28, 28))]).add(layers.Conv2D(3, 3))",
    "build": "layers.Conv2D(3, 3).build((None, 28))",
    "call": "net()(x)",
    "predict": "net().predict(x, verbose=0)",
    "predict_on_batch": "net().predict_on_batch(x)",
    "fit": "net().fit(x, y, verbose=0)",
    "fit keyword": "net().fit(x, y, epoch=3)",
    "evaluate": "net().evaluate(x, y, verbose=0)",
    "train_on_batch": "net().train_on_batch(x, y)",
    "test_on_batch": "net().test_on_batch(x, y)",
    "compile": "net().compile('adma')",
    "ops": "ops.matmul(np.zeros((2, 3)), np.zeros((4, 5)))",
    "symbolic ops": "ops.add(lamina.Input((3,)), lamina.Input((4,)))",
}


def traceback_of(tmp_path, statement, start=START, before=""):
    """(files of the frames, the text after them) of a script that fails."""
    script = tmp_path / "script.py"
    script.write_text(f"{start}\n{before}\n{statement}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith("  File ")]
    end = next(i for i in range(frames[-1] + 1, len(lines)) if not lines[i].startswith("    "))
    return [lines[i].split('"')[1] for i in frames], "\n".join(lines[end:]), script


@pytest.fixture
def filtered():
    """The suite runs with whole tracebacks; here they are as a user has them."""
    lamina.config.enable_traceback_filtering()
    yield
    lamina.config.disable_traceback_filtering()


@pytest.mark.parametrize("mistake", ["fit", "call", "stack"])
def test_a_script_shows_its_own_lines_only(tmp_path, mistake):
    files, text, script = traceback_of(tmp_path, MISTAKES[mistake])
    assert files == [str(script)]
    first, *rest = text.splitlines()
    assert first.startswith("lamina.errors.ShapeError: Input 0")
    assert rest and all(line.startswith("  ") for line in rest)  # the error's own text comes last
    assert "fix:" in rest[-1]


def test_the_switch_brings_all_frames_back(tmp_path):
    switch = "lamina.config.disable_traceback_filtering()"
    files, _, script = traceback_of(tmp_path, MISTAKES["fit"], before=switch)
    assert files[0] == str(script)
    ours = [file for file in files if "lamina" in file and file != str(script)]
    assert len(ours) == len(files) - 1 > 5


@pytest.mark.parametrize("name", MISTAKES)
def test_no_frame_of_ours(filtered, name):
    scope = {}
    exec(START, scope)
    with pytest.raises((ValueError, TypeError)) as caught:
        exec(compile(MISTAKES[name], "mistake.py", "exec"), scope)
    files = [str(entry.path) for entry in caught.traceback]
    assert all(file.endswith(("mistake.py", "test_tracebacks.py")) for file in files), files


def test_the_frames_of_the_users_layers_stay(filtered):
    class Odd(layers.Layer):
        def call(self, x):
            return self.help(x)

        def help(self, x):
            raise KeyError("mine")

    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(3)])
    with pytest.raises(KeyError) as caught:
        model.add(Odd())
    names = [entry.name for entry in caught.traceback]
    assert names == ["test_the_frames_of_the_users_layers_stay", "call", "help"]


def test_switches():
    assert not lamina.config.is_traceback_filtering_enabled()  # the suite's own setting
    lamina.config.enable_traceback_filtering()
    assert lamina.config.is_traceback_filtering_enabled()
    lamina.config.disable_traceback_filtering()


def test_warnings_point_at_the_users_line():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        layers.Dense(3, input_dim=4)
        model = lamina.Sequential([lamina.Input((10, 1)), layers.Conv1D(2, 3)])
        model(np.zeros((2, 10), "float32"))
        model.predict(np.zeros((2, 10), "float32"), verbose=0)
    assert len(seen) == 2
    assert {warning.filename for warning in seen} == {__file__}
