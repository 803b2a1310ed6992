"""Writing SVG, and how wide a text will be."""

from html import escape
from itertools import pairwise

# Advance widths of the printable ASCII characters in DejaVu Sans, per 1000 units: the widest of the usual
# sans-serif fonts, so a text fits whichever one a viewer has.
# fmt: off
_WIDTHS = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636,
    636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775,
    752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390,
    337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612,
    635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
]
# fmt: on
_BOLD = 1.18  # bold letters are wider
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, SOFT, PAPER = "#1f2430", "#5b6472", "#ffffff"


def text_width(text, size=12, bold=False):
    """Pixels that `text` takes at most."""
    units = sum(_WIDTHS[ord(c) - 32] if 32 <= ord(c) < 127 else 1000 for c in text)
    return units / 1000 * size * (_BOLD if bold else 1)


class Drawing:
    """Shapes on a white sheet that grows to hold them."""

    def __init__(self):
        self._elements, self._corners = [], []

    def rect(self, x, y, width, height, fill=PAPER, stroke=INK, radius=4, dashed=False):
        """A rectangle with its upper left corner at (x, y)."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._add(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{radius}" '
            f'fill="{fill}" stroke="{stroke}"{dash}/>',
            (x, y),
            (x + width, y + height),
        )

    def circle(self, x, y, radius, fill=PAPER, stroke=INK):
        """A circle around (x, y)."""
        self._add(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}" stroke="{stroke}"/>',
            (x - radius, y - radius),
            (x + radius, y + radius),
        )

    def polygon(self, points, fill=INK, stroke="none"):
        """A closed shape."""
        flat = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._add(f'<polygon points="{flat}" fill="{fill}" stroke="{stroke}"/>', *points)

    def text(self, x, y, text, size=12, bold=False, color=INK, anchor="start"):
        """A line of text whose baseline begins (or has its middle or end) at (x, y)."""
        width = text_width(text, size, bold)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        self._add(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" fill="{color}"'
            + (f' text-anchor="{anchor}"' if anchor != "start" else "")
            + (' font-weight="bold"' if bold else "")
            + f">{escape(text, quote=False)}</text>",
            (left, y - size),
            (left + width, y + 0.3 * size),
        )

    def arrow(self, points, vertical=True, color=SOFT, width=1.2, head=6):
        """A smooth line through `points` that ends in an arrow head (none with `head=0`).

        Steps along the main direction are straight; the others leave and arrive along it.
        """
        (x0, y0), (x1, y1) = points[-2:]
        if head:
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
            dx, dy = (x1 - x0) / length, (y1 - y0) / length
            if (x0 if vertical else y0) != (x1 if vertical else y1):  # curves arrive along the axis
                dx, dy = (0, _sign(y1 - y0)) if vertical else (_sign(x1 - x0), 0)
            self._arrow_head(x1, y1, dx, dy, head, color)
            points = [*points[:-1], (x1 - dx * head, y1 - dy * head)]
        d = f"M{_n(points[0][0])} {_n(points[0][1])}"
        for (ax, ay), (bx, by) in pairwise(points):
            if (ax == bx) if vertical else (ay == by):
                d += f"L{_n(bx)} {_n(by)}"
            elif vertical:
                d += f"C{_n(ax)} {_n((ay + by) / 2)} {_n(bx)} {_n((ay + by) / 2)} {_n(bx)} {_n(by)}"
            else:
                d += f"C{_n((ax + bx) / 2)} {_n(ay)} {_n((ax + bx) / 2)} {_n(by)} {_n(bx)} {_n(by)}"
        self._add(f'<path d="{d}" fill="none" stroke="{color}" stroke-width="{width}"/>', *points)

    def line(self, a, b, color=SOFT, width=1, head=0):
        """A straight line from `a` to `b`, with an arrow head of that length."""
        if head:
            length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 or 1
            dx, dy = (b[0] - a[0]) / length, (b[1] - a[1]) / length
            self._arrow_head(*b, dx, dy, head, color)
            b = (b[0] - dx * head, b[1] - dy * head)
        self._add(
            f'<line x1="{_n(a[0])}" y1="{_n(a[1])}" x2="{_n(b[0])}" y2="{_n(b[1])}" stroke="{color}" '
            f'stroke-width="{width}"/>',
            a,
            b,
        )

    def _arrow_head(self, x, y, dx, dy, size, color):
        back, side = (x - dx * size, y - dy * size), (-dy * size * 0.45, dx * size * 0.45)
        self.polygon(
            [(x, y), (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1])], color
        )

    def _add(self, element, *corners):
        self._elements.append(element)
        self._corners.extend(corners)

    def to_svg(self, title, margin=16):
        """The drawing as a text of SVG."""
        xs, ys = [x for x, _ in self._corners] or [0], [y for _, y in self._corners] or [0]
        x, y = min(xs) - margin, min(ys) - margin
        width, height = max(xs) - x + margin, max(ys) - y + margin
        body = "\n".join(self._elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
            f'viewBox="{_n(x)} {_n(y)} {_n(width)} {_n(height)}" font-family="{_FONT}" role="img">\n'
            f"<title>{escape(title, quote=False)}</title>\n"
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" fill="{PAPER}"/>\n'
            f"{body}\n</svg>\n"
        )


def _sign(x):
    return (x > 0) - (x < 0)


def _n(x):
    return f"{x:.2f}".rstrip("0").rstrip(".")
