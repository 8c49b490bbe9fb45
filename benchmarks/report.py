"""The timings of the dataset distance as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.growth import exponent
from benchmarks.table import number

Made = Mapping[str, Any]


def _rows(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _epochs(made: Made) -> str:
    header = ["epoch", "source terms, once", "median s", "least", "most", "value", "converged", "share of the limit"]
    rows = []
    for kind, r in made["results"].items():
        seconds = [f"{r[key]:.4f}" for key in ("source_seconds", "median_seconds", "min_seconds", "max_seconds")]
        share = f"{made['limit'][kind]['share']:.0%}" if kind in made["limit"] else "-"
        rows.append([kind, *seconds, f"{r['value']:.4g}", str(r["converged"]), share])
    return _rows(header, rows)


def _rivals(made: Made) -> str:
    header = ["rival, class by class", "median s", "value off by", "gradient off by", "marginal error"]
    rows = []
    for name, r in made["rivals"].items():
        title = f"{name}, scaling {r['scaling']}" if "scaling" in r else name
        off = [f"{r[key]:.1e}" for key in ("off_classes", "off_gradient", "marginal_error")]
        rows.append([title, f"{r['median_seconds']:.3f}", *off])
    return _rows(header, rows)


def _beside(made: Made) -> str:
    """Our seconds beside those of the reference and those asked for, where both are known."""
    parts = []
    for kind in [kind for kind in ("joint", "classwise") if kind in made["results"]]:
        seconds = made["results"][kind]["median_seconds"]
        kept = "kept" if seconds <= made["most_seconds"] else "missed"
        parts.append(f"{kind} {number(seconds)} s, {made['reference_seconds'] / seconds:.0f} times less, {kept}")
    asked = f"Reference {made['reference_seconds']} s, at most {made['most_seconds']} s asked for"
    return f"{asked}: {'; '.join(parts)}."


def _facts(made: Made) -> str:
    on, limit = made["machine"], made["limit"]
    speed = limit["products_per_second"] / 1e9, limit["exponentials_per_second"] / 1e9
    return (
        f"Source {made['source']} in {made['source_classes']} classes, target {made['classes']} classes of "
        f"{made['per_class']}, dimension {made['dim']}; {made['repeats']} repeats after a first; seed {made['seed']}; "
        f"limit: {speed[0]:.0f} G operations/s of products, {speed[1]:.2f} G exponentials/s; "
        f"{made['device']}, {made['threads']} threads; {on['cpu']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; "
        f"torch {made['versions']['torch']}; commit {made['commit'] or 'unknown'}; peak memory "
        f"{made['peak_memory_mb']:.0f} MiB, {made['memory_before_mb']:.0f} of them before."
    )


def table(made: Made) -> str:
    """The results at one size, with a line on what they were measured on."""
    parts = [_epochs(made)]
    if made["rivals"]:
        parts.append(_rivals(made))
    if "reference_seconds" in made:
        parts.append(_beside(made))
    return "\n\n".join([*parts, _facts(made)])


def grown(made: Made) -> str:
    """The seconds at growing sizes, with the power of the growth."""
    parts = []
    for name, points in made["growth"].items():
        kinds = list(points[0]["seconds"])
        rows = [[str(point["at"]), *(number(point["seconds"][kind]) for kind in kinds)] for point in points]
        rows.append(["power", *(number(exponent(points, kind)) for kind in kinds)])
        parts.append(_rows([name, *kinds], rows))
    return "\n\n".join(parts)
