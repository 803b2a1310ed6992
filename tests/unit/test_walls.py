"""Who may lean on whom: only ops, random and the engine's Python side touch the Rust module."""

import ast
import pathlib
import subprocess
import sys

import pytest

import lamina

ROOT = pathlib.Path(lamina.__file__).parent
MAY_TOUCH_THE_ENGINE = ("engine/", "ops/", "random.py")
MODULES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


def imported(path):
    """The modules (and `module.name`s) that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(MAY_TOUCH_THE_ENGINE)])
def test_only_ops_and_engine_import_the_rust_module(module):
    assert not [name for name in imported(ROOT / module) if "_core" in name.split(".")]


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("engine/")])
def test_the_engine_side_knows_no_layers(module):
    above = ("lamina.layers", "lamina.models", "lamina.trainers", "lamina.losses", "lamina.optimizers")
    assert not [name for name in imported(ROOT / module) if name.startswith(above)]


def test_importing_lamina_loads_nothing_heavy():
    code = (
        "import sys, lamina, lamina.layers, lamina.models, lamina.optimizers;"
        "heavy = ('rich', 'h5py', 'keras', 'jax', 'sklearn', 'html', 'resvg_py');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_a_misspelt_one_gets_a_suggestion():
    for name in lamina.__all__:
        assert getattr(lamina, name) is not None
    with pytest.raises(AttributeError, match="Did you mean 'Sequential'"):
        lamina.Sequental  # noqa: B018
