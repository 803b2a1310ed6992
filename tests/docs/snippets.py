"""Runs the code of a page of docs/, so that what the page shows is what happens.

    python tests/docs/snippets.py     # writes the outputs and pictures of all pages anew

The blocks of a page run from top to bottom in one folder and share their names:

- ```` ```python ````: runs. A ```` ```text ```` block right below it is what it prints, and its error if it
  ends with one. One that begins with a comment `# name.py` is written to that file instead.
- ```` ```console ````: lines that begin with `$ lamina` run, and below each is what it prints.

In what is printed, `...` stands for anything. A picture `x.svg` that the code writes is `docs/images/x.svg`.
"""

import contextlib
import doctest
import io
import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass

import lamina
from lamina import cli

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.py)\n")


@dataclass
class Snippet:
    """A block that runs: its code, what the page says that it prints (`None`: nothing), and where."""

    kind: str
    code: str
    shown: str | None
    place: tuple
    printed: str = ""

    @property
    def is_right(self):
        """Whether the page shows what was printed."""
        return doctest.OutputChecker().check_output(self.shown or "", self.printed, doctest.ELLIPSIS)


def snippets_of(text):
    """The `Snippet`s of a page."""
    found, blocks = [], list(_FENCE.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        kind, content = block.groups()
        if kind == "python":
            below = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
            shown, place = (after[2], after.span(2)) if below else (None, (block.end(), block.end()))
            found.append(Snippet(kind, content, shown, place))
        elif kind == "console":
            for command in re.finditer(r"^\$ (lamina .*)\n((?:(?!\$ ).*\n)*)", content, re.MULTILINE):
                start = block.start(2)
                place = (start + command.start(2), start + command.end(2))
                found.append(Snippet(kind, command[1], command[2], place))
    return found


def run(text, folder, names=None):
    """Runs the snippets of a page inside `folder`; returns them, with what they printed."""
    found, names = snippets_of(text), {"__name__": "__main__", **(names or {})}
    lamina.utils.clear_session(free_memory=False)
    lamina.utils.set_random_seed(0)
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"  # wherever the tests run
    modules = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        with contextlib.chdir(folder), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # such as those on legacy spellings
            warnings.simplefilter("ignore", DeprecationWarning)
            for snippet in found:
                out = io.StringIO()
                # Errors of a command are part of what it prints.
                errors = out if snippet.kind == "console" else io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                    _run_one(snippet, names)
                lines = (line.rstrip() for line in out.getvalue().splitlines())
                snippet.printed = "".join(line + "\n" for line in lines)
    finally:
        sys.path.remove(folder)
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
        for name in set(sys.modules) - modules:  # what a page wrote is no module of the next one
            if getattr(sys.modules[name], "__file__", None) and sys.modules[name].__file__.startswith(folder):
                del sys.modules[name]
    return found


def _run_one(snippet, names):
    if snippet.kind == "console":
        with contextlib.suppress(SystemExit):
            cli.main(shlex.split(snippet.code)[1:])
        return
    file = _FILE.match(snippet.code)
    if file:
        pathlib.Path(file[1]).write_text(snippet.code, encoding="utf-8")
        return
    try:
        exec(compile(snippet.code, "<page>", "exec"), names)
    except Exception as e:
        if snippet.shown is None:
            raise
        print(f"{type(e).__name__}: {e}")


def written_anew(text, snippets):
    """The page with the outputs that are not right replaced by what was printed."""
    for snippet in reversed(snippets):
        if not snippet.is_right:
            start, end = snippet.place
            new = snippet.printed if snippet.shown is not None else f"\n\n```text\n{snippet.printed}```"
            text = text[:start] + new + text[end:]
    return text


def main():
    """Writes all pages and pictures anew."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            page.write_text(written_anew(text, run(text, folder)), encoding="utf-8")
            for picture in pathlib.Path(folder).glob("*.svg"):
                shutil.copy(picture, DOCS / "images" / picture.name)


if __name__ == "__main__":
    main()
