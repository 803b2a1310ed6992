"""The `lamina` command."""

import argparse


def main(argv=None):
    """Runs `lamina <command>`. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="lamina", description="A Keras-like library on its own Rust engine, for the CPU."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a small convolutional network on handwritten digits")
    demo.add_argument("--epochs", type=int, default=15)
    demo.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    from lamina.demo import run

    return run(epochs=arguments.epochs, seed=arguments.seed)


if __name__ == "__main__":
    raise SystemExit(main())
