"""An explanation as an object: plain text, HTML, or plain values."""

import re
import textwrap


class Section:
    """What is said about one layer: a title, its shapes in and out, and sentences."""

    def __init__(self, title, shapes, sentences):
        self.title, self.shapes, self.sentences = title, shapes, sentences


class Explanation:
    """A derivation in sentences. `print` it, or let a notebook show it.

    Attributes:
        title: the whole in one sentence; empty for a single layer.
        notes: sentences that hold for all sections.
        sections: one per call of a layer.
    """

    def __init__(self, title, notes, sections):
        self.title, self.notes, self.sections = title, notes, sections

    def __str__(self):
        lines = [_wrapped(s, "") for s in (self.title, *self.notes) if s]
        for section in self.sections:
            lines += ["", f"{section.title}  {section.shapes}"]
            lines += [_wrapped(s, "   ") for s in section.sentences]
        return "\n".join(lines).strip("\n")

    __repr__ = __str__

    def _repr_html_(self):
        parts = [f"<p><b>{_html(self.title)}</b></p>" if self.title else ""]
        parts += [f"<p>{_html(s)}</p>" for s in self.notes]
        for section in self.sections:
            parts.append(f"<p><b>{_html(section.title)}</b> <code>{_html(section.shapes)}</code></p>")
            parts.append("<ul>" + "".join(f"<li>{_html(s)}</li>" for s in section.sentences) + "</ul>")
        return f"<div>{''.join(parts)}</div>"

    def to_dict(self):
        """The text as plain values, for JSON."""
        return {
            "title": self.title,
            "notes": self.notes,
            "layers": [
                {"title": s.title, "shapes": s.shapes, "sentences": s.sentences} for s in self.sections
            ],
        }


def _wrapped(sentence, indent):
    # A shape, what stands in backquotes, and a result and its sign are not broken: no wrapping there.
    whole = re.sub(
        r"\([\w?]+(?:, ?[\w?]+)*,?\)|`[^`]{1,60}`| = \d", lambda m: m[0].replace(" ", "\xa0"), sentence
    )
    filled = textwrap.fill(
        whole,
        width=100,
        initial_indent=indent,
        subsequent_indent=indent and indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\xa0", " ")


def _html(text):
    from html import escape

    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))
