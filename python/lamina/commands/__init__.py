"""What the `lamina` command does, one function a subcommand. Each takes the parsed arguments."""


class CommandError(Exception):
    """What the user gave cannot be used; the message says why, and what to give."""
