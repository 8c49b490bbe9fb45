"""Figures that stand outside their page: as SVG files, and as pictures inside the pages of others.

The page defines the colours and the font of its figures (``look.css``); a figure that leaves it takes them along.
"""

from __future__ import annotations

import base64
import html
import re

from markupsafe import Markup

_SANS = '--sans: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;'
_LIGHT = "--one: #0072b2; --two: #c4560a; --three: #00805f; --faint: #b4b9be; color: #1c1e21;"
_DARK = "--one: #56b4e9; --two: #e69f4a; --three: #35c29a; --faint: #5d646b; color: #e4e5e6;"
_LINES = "svg * { stroke-linejoin: round; stroke-linecap: butt; }"
SCALE = 1.5  # of a picture's pixels to a figure's points: text of 9 points is read as one of 13 pixels


def alone(figure: Markup) -> str:
    """A figure of the page as an SVG file, light or dark as its reader is."""
    dark = f"@media (prefers-color-scheme: dark) {{ svg {{ {_DARK} }} }}"
    return _standing(figure, dark) + "\n"


def picture(figure: Markup) -> str:
    """A figure of the page as the address of a picture that holds it whole: dark on white wherever it stands."""
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure)[0]
    size = f'width="{SCALE * float(width):.0f}" height="{SCALE * float(height):.0f}"'
    text = _standing(figure, "", size, '<rect width="100%" height="100%" fill="#fff"/>')
    lines = re.sub(r">\s+<", "><", re.sub(r"\s+", " ", text))
    small = re.sub("<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d{4}\b", r"\1", tag[0]), lines)  # a hundredth of a point
    return "data:image/svg+xml;base64," + base64.b64encode(small.encode()).decode("ascii")


def description(figure: Markup) -> str:
    """What a figure shows, in words."""
    found = re.search(r'aria-label="([^"]*)"', figure)
    return html.unescape(found[1]) if found else ""


def _standing(figure: Markup, dark: str, size: str = "", ground: str = "") -> str:
    """The figure with its colours, and attributes and a background if given."""
    head, _, rest = str(figure).partition(">")
    head = head.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" {size}'.rstrip(), 1)
    return f"{head}><style>svg {{ {_LIGHT} {_SANS} }} {dark} {_LINES}</style>{ground}{rest}"
