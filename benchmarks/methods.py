"""What each method trains: the table of docs/methods.md, made from the code.

``python -m benchmarks.methods --write docs/methods.md`` counts on the offline body and one task as it is
configured, at default options.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.table import fill

TASK = "digits"
BYTES = 4  # of a float32


def rows(task: str = TASK) -> Iterator[dict[str, Any]]:
    """Each method with the parameters that train in any of its phases, and the bytes of its trained part alone."""
    from orca.bodies import load_body
    from orca.build import training_statistics
    from orca.config import load_config
    from orca.methods import METHODS, MethodChoice
    from orca.model import AdaptedModel
    from orca.tasks import TASKS

    spec = TASKS.get(task)
    data, settings = spec.load(), load_config(task).embed
    plain = AdaptedModel.build(
        load_body(), training_statistics(data.train, data.layout, settings), task=task, layout=data.layout,
        encoding=spec.encoding, config=settings,
    )  # fmt: skip
    for method in METHODS:
        model, choice = copy.deepcopy(plain), MethodChoice(name=method.name)
        model.equip(choice, rows=len(data.train))
        groups = model.layer_groups()
        phases = [choice.parameters(groups, phase) for phase in range(len(choice.phases))]
        trained = {id(p): p.numel() for chosen in phases for part in chosen.values() for p in part}
        left_out = model.untrained() if method.pretrained else set()
        stored = BYTES * sum(v.numel() for name, v in model.state_dict().items() if name not in left_out)
        yield {
            "method": f"`{method.name}`", "trains": method.summary, "options": method.options.defaults() or "-",
            "trained": f"{sum(trained.values()):,}", "stored": f"{stored / 1e6:.2f} MB", "source": method.source,
        }  # fmt: skip


def table(task: str = TASK) -> str:
    """The rows as Markdown."""
    listed = list(rows(task))
    lines = [list(listed[0]), ["---"] * len(listed[0]), *(list(row.values()) for row in listed)]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=TASK, help=f"whose embedder and predictor are counted [{TASK}]")
    parser.add_argument("--write", type=Path, help="a page to write the table into, between its markers")
    given = parser.parse_args()
    made = table(given.task)
    fill(given.write, made) if given.write else print(made)


if __name__ == "__main__":
    main()
