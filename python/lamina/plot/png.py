"""A picture as PNG, drawn by resvg with the fonts of this package: the same pixels on every machine."""

import re
from pathlib import Path

# DejaVu Sans (its licence is beside it), cut down to Latin letters: the font whose widths `svg` knows.
_FONTS = [str(Path(__file__).parent / "fonts" / name) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")]
_LATIN = "\u017f"  # the last of the letters in them


def to_png(svg, dpi):
    """The bytes of a PNG of an SVG that `Drawing.to_svg` wrote; 96 dots per inch are a pixel for a unit."""
    import resvg_py

    width = float(re.search(r'width="([\d.]+)"', svg)[1])
    return resvg_py.svg_to_bytes(
        svg_string=svg,
        width=max(round(width * dpi / 96), 1),
        font_files=_FONTS,
        sans_serif_family="DejaVu Sans",
        skip_system_fonts=max(svg) <= _LATIN,  # other letters come from the machine's fonts, where it has any
    )
