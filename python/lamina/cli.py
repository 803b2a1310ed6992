"""The `lamina` command."""

import argparse
import os
import sys

_FILE = (
    "FILE is `module:attribute` (a model, or a function that returns one), or a file of `model.to_json()` "
    "with its weights beside it: model.json and model.npz or model.weights.npz."
)


def main(argv=None):
    """Runs `lamina <command>`. Returns the exit status; 2 when what was given cannot be used."""
    arguments = _parser().parse_args(argv)
    from lamina.commands import CommandError

    try:
        status = arguments.run(arguments) or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130  # as shells say it
    except BrokenPipeError:  # `lamina summary ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CommandError, ValueError, OSError, NotImplementedError, ImportError) as e:
        print(_block(arguments.command, e), file=sys.stderr)
        return 2


def _block(command, error):
    """An error as one block: what, and below it where, expected and fix, each on a line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    first, *rest = (text or type(error).__name__).splitlines()
    return "\n".join([f"lamina {command}: {first}", *[f"  {line.strip()}" for line in rest if line.strip()]])


def _parser():
    parser = argparse.ArgumentParser(
        prog="lamina",
        description="A Keras-like library on its own Rust engine, for the CPU.",
        epilog=_FILE,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, help, file=True, json=True):
        sub = commands.add_parser(name, help=help, description=help, epilog=_FILE if file else None)
        sub.set_defaults(run=run)
        if file:
            sub.add_argument("file", metavar="FILE")
        if json:
            sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        return sub

    demo = command(
        "demo", _demo, "train a small convolutional network on handwritten digits", file=False, json=False
    )
    demo.add_argument("--epochs", type=int, default=15)
    demo.add_argument("--seed", type=int, default=0)

    summary = command("summary", _lazily("show", "summary"), "the table of layers")
    summary.add_argument("--formulas", action="store_true", help="how each number of weights comes about")
    summary.add_argument("--flops", action="store_true", help="floating-point operations")
    summary.add_argument("--memory", action="store_true", help="bytes of the outputs")
    summary.add_argument("--batch-size", type=_positive, default=1, help="for --flops and --memory")
    summary.add_argument("--expand-nested", action="store_true", help="show the layers of nested models")
    summary.add_argument("--trainable", action="store_true", help="show which layers train")

    explain = command("explain", _lazily("show", "explain"), "derive every shape and weight in sentences")
    explain.add_argument(
        "--input-shape", type=_shape, help="such as 28,28,1: without the batch, for a model that is not built"
    )

    plot = command("plot", _lazily("show", "plot"), "draw the model", json=False)
    plot.add_argument("-o", "--output", metavar="model.svg", default="model.svg", help=".svg or .png")
    plot.add_argument("--view", choices=("graph", "neurons", "blocks"), default="graph")
    plot.add_argument("--rankdir", choices=("TB", "LR", "BT", "RL"), default="TB", help="where arrows go")
    plot.add_argument("--expand-nested", action="store_true", help="draw the layers of nested models")
    plot.add_argument("--dtype", action="store_true", help="write dtypes beside the arrows")
    plot.add_argument("--activations", action="store_true", help="write the activation of each layer")
    plot.add_argument("--trainable", action="store_true", help="write which layers train")
    plot.add_argument("--no-shapes", action="store_true", help="leave the shapes out")
    plot.add_argument("--no-names", action="store_true", help="leave the names of layers out")
    plot.add_argument("--dpi", type=_positive, default=200, help="dots per inch of a PNG")

    command("inspect", _lazily("show", "inspect"), "what a file holds, without building the model")

    predict = command("predict", _lazily("run", "predict"), "predictions for an array")
    predict.add_argument("data", metavar="x.npy", help="an .npz with the inputs' names for several inputs")
    predict.add_argument("-o", "--output", metavar="y.npy", help="default: print them")
    predict.add_argument("--weights", metavar="FILE.npz", help="default: those beside FILE")
    predict.add_argument("--batch-size", type=_positive, default=32)

    bench = command("bench", _lazily("run", "bench"), "latency and throughput by batch size and threads")
    bench.add_argument("--batch", type=_integers, default=[1, 32], help="such as 1,8,32")
    bench.add_argument("--threads", type=_integers, help="such as 1,2; default: one and all")
    bench.add_argument("--length", type=_positive, help="size of axes that the model leaves unknown")
    bench.add_argument("--seconds", type=float, default=0.5, help="how long to measure each")
    return parser


class _Version(argparse.Action):
    """Prints the version; lamina is imported only then."""

    def __call__(self, parser, *_):
        import lamina

        print(f"lamina {lamina.__version__}")
        parser.exit()


def _lazily(module, name):
    """Imports when it runs, so that `lamina --help` is quick."""

    def run(arguments):
        import importlib

        return getattr(importlib.import_module(f"lamina.commands.{module}"), name)(arguments)

    return run


def _demo(arguments):
    from lamina.demo import run

    return run(epochs=arguments.epochs, seed=arguments.seed)


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return number


def _integers(text):
    return [_positive(part) for part in text.split(",")]


def _shape(text):
    parts = [p.strip() for p in text.strip("() ").split(",") if p.strip()]
    try:
        return tuple(None if p == "None" else _positive(p) for p in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a shape such as 28,28,1") from None


if __name__ == "__main__":
    raise SystemExit(main())
