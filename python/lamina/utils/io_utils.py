"""Where messages go: to stdout, or to the `lamina` logger when interactive logging is off."""

import sys

from lamina.config import is_interactive_logging_enabled


def print_msg(message, line_break=True):
    """Writes `message` to stdout, or logs it."""
    message = str(message)
    if not is_interactive_logging_enabled():
        import logging

        if text := message.strip("\b\r\n "):
            logging.getLogger("lamina").info(text)
        return
    text = f"{message}\n" if line_break else message
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # a terminal without Unicode: plain characters instead of box drawing
        encoding = sys.stdout.encoding or "ascii"
        text = text.replace("━", "=").encode(encoding, errors="replace").decode(encoding)
        sys.stdout.write(text)
    sys.stdout.flush()
