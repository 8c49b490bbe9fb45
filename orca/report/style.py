"""One look for all figures: small SVGs that take their text and data colours from the page, so that they suit its mode.

Colours are drawn as sentinels and replaced by ``currentColor`` and CSS variables; the page defines those for light and
dark. The palette is that of Okabe and Ito (2008), told apart by colour-blind readers; lines differ in dash as well.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave

INK, ONE, TWO, THREE, FAINT = "#010203", "#010204", "#010205", "#010206", "#010207"
CSS = {INK: "currentColor", ONE: "var(--one)", TWO: "var(--two)", THREE: "var(--three)", FAINT: "var(--faint)"}
CELL = (0 / 255, 114 / 255, 178 / 255)  # the blue of the palette, for cells whose opacity is the value
WIDTH = 4.6  # inches at 72 points: a figure is read at its own size on a phone and a little larger on a desk

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}


@contextmanager
def figure(height: float) -> Iterator[Figure]:
    """An empty figure of the common width, in the common style."""
    with mpl.rc_context(_RC):
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def svg(fig: Figure, name: str, alt: str) -> Markup:
    """The figure as inline SVG with an accessible description; ``name`` keeps its ids apart from other figures'."""
    out = io.StringIO()
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)  # the page has the same
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--sans)", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    for sentinel, css in CSS.items():
        text = text.replace(sentinel, css)
    view = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg class="figure" role="img" aria-label="{html.escape(alt)}" {view.group(0) if view else ""}>'
    return Markup(head + text[text.index(">") + 1 :].strip())  # noqa: S704 - our own drawing


def strip(channels: np.ndarray, alt: str) -> Markup:
    """A few signals (C, L) as plain lines over one another, for thumbnails."""
    low, high = float(np.min(channels)), float(np.max(channels))
    scaled = 94 - 88 * (channels - low) / ((high - low) or 1.0)
    x = np.linspace(0, 150, channels.shape[1])
    lines = "".join(
        f'<polyline fill="none" stroke="{css}" stroke-width="1.6" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        + '"/>'
        for y, css in zip(scaled, (CSS[ONE], CSS[TWO], CSS[THREE]), strict=False)
    )
    head = f'<svg class="figure" role="img" aria-label="{html.escape(alt)}" viewBox="0 0 150 100">'
    return Markup(f"{head}{lines}</svg>")  # noqa: S704 - numbers and an escaped text


def png(array: np.ndarray, *, cmap: str = "gray", vmin: float | None = None, vmax: float | None = None) -> str:
    """An image (H, W) or (H, W, 3 in 0..1) as a data address at its own resolution."""
    out = io.BytesIO()
    imsave(out, array, cmap=cmap, vmin=vmin, vmax=vmax, format="png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def bare(ax: Axes) -> None:
    """No ticks and no frame, for images."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def safe(text: str, most: int = 28) -> str:
    """Text for a figure: cut where long, and never read as a formula."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return cut.replace("$", r"\$")
