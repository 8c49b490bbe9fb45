"""The command ``orca otdd``: how far labelled sets are from one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import JsonOption, OnlineOption
from flows.terminal import exit_codes, print_json, table, tell_for_now
from orca.runtime import number

FEW = 12  # labels up to which their distances are printed
PAIRS = 5  # nearest pairs of labels that are printed

First = Annotated[str, typer.Argument(metavar="A", help="A task, a configuration, a source, or an .npz file.")]
Others = Annotated[list[str], typer.Argument(metavar="B...", help="Others of these; several are ranked.")]
Body = Annotated[str | None, typer.Option(metavar="NAME", help="The body whose space the sets are put into. [minilm]")]
Features = Annotated[
    str, typer.Option(metavar="KIND", help="embedder: mean over the embedded tokens; body: over the encoder's output.")
]
Raw = Annotated[bool, typer.Option("--raw", help="No body: the encoded inputs, flattened.")]
Samples = Annotated[int, typer.Option(metavar="N", help="Samples of each set, its classes in their shares.")]
Method = Annotated[str, typer.Option(metavar="NAME", help="sinkhorn, sliced, or gromov (different spaces).")]
LabelDistance = Annotated[str, typer.Option(metavar="NAME", help="gaussian, exact, means or none.")]
Reg = Annotated[float, typer.Option(metavar="EPS", help="Entropic regularisation, in the unit of --reg-unit.")]
RegUnit = Annotated[
    str, typer.Option(metavar="UNIT", help="source: times A's mean squared distance of two samples; absolute.")
]
Power = Annotated[int, typer.Option("--p", metavar="P", help="Power of the distances, 2 or 1.")]
Debias = Annotated[bool, typer.Option("--debias/--no-debias", help="Subtract the self terms.")]
Weight = Annotated[float, typer.Option(metavar="WEIGHT", help="Weight of the distances of features, or of labels.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the fresh embedder, the samples, the corpus of ner.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Write a report: a file .html, or a folder for figures and data too."),
]


def otdd(  # noqa: PLR0913 - each argument is an option of the command
    first: First, others: Others, body: Body = None, features: Features = "embedder", raw: Raw = False,
    samples: Samples = 1000, method: Method = "sinkhorn", label_distance: LabelDistance = "gaussian",
    reg: Reg = 0.05, reg_unit: RegUnit = "source", p: Power = 2, debias: Debias = True, lambda_x: Weight = 1.0,
    lambda_y: Weight = 1.0, seed: Seed = 0, device: Device = "auto", online: OnlineOption = False,
    as_json: JsonOption = False, output: Output = None,
) -> None:  # fmt: skip
    """Show how far labelled sets are: the optimal transport dataset distance.

    A and B are tasks or configurations (their training split), language data (ner, or conll:PATH) or .npz files with x
    (n, d) and y (n,). With several B the nearest comes first.
    """
    with exit_codes():
        from orca.labelled import CompareOptions, SetOptions, rank
        from orca.report import distances

        place = None if output is None else distances.report_paths(output)[0]
        sets = SetOptions(body, features, raw, samples, seed, online, device)
        options = CompareOptions(method, label_distance, reg, reg_unit, p, debias, lambda_x, lambda_y)
        records = rank([first, *others], sets, options, progress=lambda name: tell_for_now(name and f"reading {name}"))
        if output is not None:
            distances.write_distances(output, records)
    if as_json:
        print_json(as_document(records))
    else:
        typer.echo(text(records))
    if place is not None:
        typer.echo(f"report: {place.absolute()}", err=True)


def as_document(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One record as it is; several with the first set, the nearest other, and all of them."""
    if len(records) == 1:
        return records[0]
    return {"a": records[0]["a"], "nearest": records[0]["b"], "results": records}


def text(records: Sequence[Mapping[str, Any]]) -> str:
    """What the command prints."""
    return _pair(records[0]) if len(records) == 1 else _ranking(records)


def _ranking(records: Sequence[Mapping[str, Any]]) -> str:
    done = {True: "yes", False: "no", None: "-"}
    rows = [
        [r["b"], number(r["value"]), number(r["relative"]), number(r["between_means"]), str(r["samples"]["b"]),
         done[r["converged"]]]
        for r in records
    ]  # fmt: skip
    header = ["set", "value", "in spreads", "between means", "samples", "converged"]
    return "\n".join([f"{_title(records[0], 'nearest first')}\n", table(rows, header), *_notes(records)])


def _title(record: Mapping[str, Any], what: str) -> str:
    sets, side = record["settings"], record["sets"]["a"]
    return (
        f"from {record['a']} ({_count(side)}, {side['classes']} classes, {side['space']}), {what}; "
        f"{sets['method']}, label distance {sets['label_distance']}"
    )


def _count(facts: Mapping[str, Any]) -> str:
    """Samples, and of how many."""
    of = f" of {facts['available']}" if facts["available"] else ""
    return f"{facts['samples']}{of} samples"


def _pair(record: Mapping[str, Any]) -> str:
    unit = "squared features" if record["settings"]["p"] == 2 else "features"
    rows = [("value", f"{number(record['value'])} {unit}"), ("in spreads", f"{number(record['relative'])} of A")]
    known = {"between_means": "between means", "lower_bound": "at least", "standard_error": "standard error"}
    rows += [(word, number(record[key])) for key, word in known.items() if record.get(key) is not None]
    if record["converged"] is not None:
        state = "yes" if record["converged"] else "no"
        error = number(record["marginal_error"])
        rows.append(("converged", f"{state}, {record['iterations']} iterations, marginal error {error}"))
    for side, facts in record["sets"].items():
        about = f"{_count(facts)}, {facts['classes']} classes ({facts['labels']}), {facts['dimension']} features"
        rows.append((side.upper(), f"{record[side]}: {about}, spread {number(facts['spread'])}; {facts['space']}"))
    lines = [f"{record['a']} to {record['b']}", *_indented(table([list(row) for row in rows], ["", ""]))[1:]]
    return "\n".join([*lines, *_labels(record), *_notes([record])])


def _labels(record: Mapping[str, Any]) -> list[str]:
    """Nearest pairs of labels, and all distances where there are few."""
    from orca.report.distances import nearest_labels

    near = nearest_labels(record, PAIRS)
    if not near:
        return []
    rows = [[r["source"], r["target"], number(r["distance"]), f"{100 * r['mass']:.3g} %"] for r in near]
    lines = ["", "nearest labels", *_indented(table(rows, [record["a"], record["b"], "distance", "mass"]))]
    values = record["label_distances"]
    if max(len(values), len(values[0])) > FEW:
        return lines
    rows = [[name, *map(number, row)] for name, row in zip(record["source_labels"], values, strict=True)]
    return [*lines, "", "label distances", *_indented(table(rows, ["", *record["target_labels"]]))]


def _indented(lines: str) -> list[str]:
    return [f"  {line}" for line in lines.splitlines()]


def _notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """All notes, each once."""
    found = dict.fromkeys(note for record in records for note in record["notes"])
    return ["", *(f"note: {note}" for note in found)] if found else []
