"""Holds `_core.pyi` to the built module: the same names, and the same parameters of every function."""

import ast
import inspect
import pathlib
import sys

import lamina
from lamina import _core


def stub_signatures():
    """Functions and classes that the stub declares: name -> parameter names, or method names."""
    source = pathlib.Path(lamina.__file__).with_name("_core.pyi").read_text()
    functions, classes = {}, {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = _parameters(node.args)
        elif isinstance(node, ast.ClassDef):
            classes[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)} | {
                n.target.id for n in node.body if isinstance(n, ast.AnnAssign)
            }
    return functions, classes


def _parameters(args):
    names = [a.arg for a in (*args.posonlyargs, *args.args)]
    return names + ([args.vararg.arg] if args.vararg else []) + [a.arg for a in args.kwonlyargs]


def main():
    """Prints every difference; exit code 1 if there is one."""
    functions, classes = stub_signatures()
    problems = []
    built = {n for n in dir(_core) if not n.startswith("__")}
    declared = set(functions) | set(classes)
    problems += [f"{n}: in the module, not in the stub" for n in sorted(built - declared)]
    problems += [
        f"{n}: in the stub, not in the module"
        for n in sorted(declared - built)
        if n not in ("Dim", "TensorLike")
    ]
    for name, parameters in functions.items():
        if name in built:
            actual = list(inspect.signature(getattr(_core, name)).parameters)
            if actual != parameters:
                problems.append(f"{name}: the stub has {parameters}, the module {actual}")
    for name, members in classes.items():
        if name in built:
            missing = [m for m in sorted(members) if not hasattr(getattr(_core, name), m)]
            problems += [f"{name}.{m}: in the stub, not in the module" for m in missing]
    print("\n".join(problems) or "stubs match the module")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
