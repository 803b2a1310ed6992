"""Every page of docs/ shows what its code really does, with pictures that are up to date."""

import re

import pytest
import snippets

import lamina

TEXTS = {page.name: page.read_text(encoding="utf-8") for page in snippets.PAGES}
README = snippets.DOCS.parent / "README.md"
ANEW = "write it anew: python tests/docs/snippets.py"


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_shows_what_happens(page, tmp_path):
    found = snippets.run(TEXTS[page], str(tmp_path))
    assert found
    for snippet in found:
        assert snippet.is_right, f"{snippet.code}\nprints\n{snippet.printed}\n{ANEW}"
    for picture in tmp_path.glob("*.svg"):
        kept = snippets.DOCS / "images" / picture.name
        assert f"](images/{picture.name})" in TEXTS[page]
        assert kept.read_text(encoding="utf-8") == picture.read_text(encoding="utf-8"), ANEW


def test_every_picture_and_page_that_is_linked_exists():
    linked = {}
    for name, text in {**TEXTS, "../README.md": README.read_text(encoding="utf-8")}.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            linked.setdefault((snippets.DOCS / name).parent.joinpath(target).resolve(), name)
    assert [(path, page) for path, page in linked.items() if not path.exists()] == []
    pictures = set((snippets.DOCS / "images").resolve().iterdir())
    assert pictures - set(linked) == set(), "pictures that no page shows"
    assert {page.resolve() for page in snippets.PAGES} - set(linked) == set(), "pages that nothing links to"


def test_the_code_of_the_readme_runs(tmp_path, rng):
    names = {"x": rng.random((32, 28, 28, 1), "float32"), "y": rng.integers(0, 10, 32)}
    text = README.read_text(encoding="utf-8")
    assert snippets.snippets_of(text)
    snippets.run(text, str(tmp_path), names)


@pytest.mark.parametrize(
    ("page", "right"),
    [
        ("```python\nprint(1)\n```\n\n```text\n1\n```\n", True),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", False),
        ("```python\nprint(1)\n```\n", False),  # it prints and the page does not say so
        ("```python\nprint(1)\n```\nand\n```text\n1\n```\n", False),  # not right below
        ("```python\nprint('a b c')\n```\n```text\na ... c\n```\n", True),
        ("```python\nint('x')\n```\n```text\nValueError: ...\n```\n", True),
        ("```python\nint('1')\n```\n```text\nValueError: ...\n```\n", False),
        ("```console\n$ lamina --version\nlamina " + lamina.__version__ + "\n```\n", True),
        ("```console\n$ lamina summary none.json\nlamina summary: all is well\n```\n", False),
        (
            "```python\n# nets.py\nx = 1\n```\n```python\nimport nets\nprint(nets.x)\n```\n```text\n1\n```\n",
            True,
        ),
    ],
)
def test_the_runner_sees_what_is_wrong(page, right, tmp_path):
    found = snippets.run(page, str(tmp_path))
    assert all(s.is_right for s in found) == right
    anew = snippets.written_anew(page, found)
    assert (anew == page) == right
    assert all(s.is_right for s in snippets.run(anew, str(tmp_path)))


def test_an_error_that_a_page_does_not_show_is_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        snippets.run("```python\n1 / 0\n```\n", str(tmp_path))
