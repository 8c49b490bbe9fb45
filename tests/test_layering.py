"""The rooms and the budget, read from the syntax trees: imports run embedders <- orca <- flows, and level by level
inside orca. An import counts wherever it stands: at the top, in a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("embedders", "orca", "flows")
MAX_LINES = 300

# A room of orca imports from its own level and from those above it in this list. A new room needs a place here.
LEVELS = (
    ("errors", "types", "registry", "runtime", "memory", "turns", "manifest", "mirror", "store", "subsets"),
    (
        "bodies",
        "sources",
        "transport",
        "discrepancies",
        "tasks",
        "dense",
        "confusions",
        "metrics",
        "augment",
        "baselines",
        "batches",
        "build",
        "checkpoint",
    ),
    (
        "model",
        "modelspec",
        "methods",
        "finetuning",
        "frozen",
        "train",
        "probe",
        "pseudo_labels",
        "align",
        "bench",
        "shared_body",
    ),
    ("evaluate", "pretrained", "predict", "report"),
    ("config", "plan", "keys", "runs", "finishing", "stages", "rivals", "run", "labelled", "sweeps", "multitask"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
PUBLIC = len(LEVELS)  # orca/__init__.py gathers the public names, so nothing inside orca imports from it

OUTSIDE_ORCA = {"flows", "prefect", "typer", "click", "cyclopts", "benchmarks", "tests"}
OUTSIDE_FLOWS = {"benchmarks", "tests"}
INSIDE_EMBEDDERS = {"embedders", "torch", *sys.stdlib_module_names}

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
# Published data comes as pickles: this one file reads them, with a reader that builds arrays and plain containers by
# functions of its own and calls nothing else. tests/test_pickles.py tries to make it.
READS_PICKLES = {Path("orca/tasks/readers/pickles.py"): "pickle"}
UNSAFE_CALLS = {"torch.load", "torch.save", "pandas.read_pickle", "pd.read_pickle"}
UNSAFE_ARGUMENTS = {"trust_remote_code", "allow_pickle"}


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """The (line, dotted name) of all that is imported; `from a import b` gives `a.b`, as b may be a module."""
    package = path.parts[:-1]  # of a module as of an __init__.py
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, node.module) if node.module else base)
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def orca_room(dotted: str) -> str:
    """The room of orca in a dotted name; empty for the package itself, which is where its public names are."""
    room = dotted.split(".")[1] if "." in dotted else ""
    is_public_name = room not in LEVEL and not any((ROOT / "orca" / name).exists() for name in (room, f"{room}.py"))
    return "" if is_public_name else room


def own_room(path: Path) -> str:
    return "" if path.parts[1] == "__init__.py" else path.parts[1].removesuffix(".py")


def against_arrow(path: Path, target: str) -> str | None:
    """Why the module at `path` may not import `target`, or None where it may."""
    package, top = path.parts[0], target.partition(".")[0]
    if package == "embedders":
        return None if top in INSIDE_EMBEDDERS else "embedders know torch and the standard library alone"
    if top in (OUTSIDE_ORCA if package == "orca" else OUTSIDE_FLOWS):
        return f"{package} does not know {top}"
    if package != "orca" or top != "orca":
        return None
    here, there = LEVEL.get(own_room(path), PUBLIC), LEVEL.get(orca_room(target), PUBLIC)
    return "it stands on a higher level, see LEVELS" if there > here else None


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Prints, and whatever runs code that stands in a file: pickles and code from a hub."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "print":
                yield node.lineno, "print() outside flows; use the module's logger"
            for argument in node.keywords:
                if argument.arg in UNSAFE_ARGUMENTS and ast.unparse(argument.value) != "False":
                    yield argument.value.lineno, f"{argument.arg} may only be False"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_CALLS:
            yield node.lineno, f"{ast.unparse(node)}: no pickles; use safetensors, npz or JSON"


def faults(path: Path, source: str) -> list[str]:
    """All faults of one file, each as `file:line: what`. `path` is relative to the project, `orca/train.py`."""
    tree = ast.parse(source)
    found: list[tuple[int, str]] = []
    for line, target in imports(tree, path):
        if reason := against_arrow(path, target):
            found.append((line, f"imports {target}: {reason}"))
        if target == READS_PICKLES.get(path):
            continue
        if target.partition(".")[0] in PICKLES or target in UNSAFE_CALLS:
            found.append((line, f"imports {target}: no pickles; use safetensors, npz or JSON"))
    found += [fault for fault in unsafe(tree) if path.parts[0] != "flows" or "print" not in fault[1]]
    if path.parts[0] == "orca" and own_room(path) and own_room(path) not in LEVEL:
        found.append((1, f"the room '{own_room(path)}' has no place in LEVELS of tests/test_layering.py"))
    if (lines := len(source.splitlines())) > MAX_LINES:
        found.append((MAX_LINES, f"{lines} lines, at most {MAX_LINES}; split it by idea"))
    return [f"{path.as_posix()}:{line}: {what}" for line, what in sorted(found)]


def cycle(sources: dict[Path, str]) -> list[str]:
    """The rooms of orca that import each other in a circle, first and last the same; empty where there is none."""
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        targets = (target for _, target in imports(ast.parse(source), path) if target.partition(".")[0] == "orca")
        graph.setdefault(own_room(path), set()).update({orca_room(t) for t in targets} - {own_room(path)})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [room or "orca" for room in error.args[1]]
    return []


def read(room: str) -> dict[Path, str]:
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in sorted((ROOT / room).rglob("*.py"))}


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_imports_against_the_arrows_or_breaks_the_budget(room: str) -> None:
    sources = read(room)
    assert sources, f"no Python files in {ROOT / room}"
    found = [fault for path, source in sources.items() for fault in faults(path, source)]
    assert not found, "\n" + "\n".join(found)


def test_the_rooms_of_orca_do_not_import_each_other_in_a_circle() -> None:
    circle = cycle(read("orca"))
    assert not circle, " -> ".join(circle)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("embedders/inputs.py", "import math\nimport numpy as np", "embedders/inputs.py:2: imports numpy"),
        ("embedders/inputs.py", "from orca.types import Layout", "imports orca.types.Layout: embedders know torch"),
        ("embedders/inputs.py", "def f():\n    from transformers import BertModel", ":2: imports transformers"),
        ("orca/train.py", "def fit():\n    import prefect.tasks", ":2: imports prefect.tasks: orca does not"),
        ("orca/train.py", "if TYPE_CHECKING:\n    from flows import adapt", "orca/train.py:2: imports flows.adapt"),
        ("orca/train.py", "importlib.import_module('typer')", "orca/train.py:1: imports typer"),
        ("orca/types.py", "from orca.bodies import load_body", "imports orca.bodies.load_body: it stands on a higher"),
        ("orca/types.py", "from orca import bodies", "imports orca.bodies: it stands on a higher level"),
        ("orca/metrics.py", "from .train import fit", "imports orca.train.fit: it stands on a higher level"),
        ("orca/tasks/digits.py", "from ..model import AdaptedModel", "imports orca.model.AdaptedModel: it stands"),
        ("orca/report/page.py", "from orca.run import RunConfig", "imports orca.run.RunConfig: it stands"),
        ("orca/align.py", "from orca import adapt", "imports orca.adapt: it stands on a higher level"),
        ("orca/align.py", "import orca", "imports orca: it stands on a higher level"),
        ("orca/novelty.py", "", "orca/novelty.py:1: the room 'novelty' has no place in LEVELS"),
        ("orca/store.py", "import json\nimport pickle", "orca/store.py:2: imports pickle: no pickles"),
        (
            "orca/tasks/readers/pickles.py",
            "import pickle\nimport dill",
            "orca/tasks/readers/pickles.py:2: imports dill",
        ),
        ("orca/tasks/readers/hdf5.py", "import pickle", "orca/tasks/readers/hdf5.py:1: imports pickle: no pickles"),
        ("orca/tasks/readers/pickles.py", "from pickle import loads", "imports pickle.loads: no pickles"),
        ("orca/store.py", "\nprint('done')", "orca/store.py:2: print() outside flows"),
        ("orca/store.py", "state = torch.load(path, weights_only=True)", "orca/store.py:1: torch.load: no pickles"),
        ("orca/store.py", "from torch import load", "orca/store.py:1: imports torch.load: no pickles"),
        ("orca/store.py", "np.load(path, allow_pickle=True)", "allow_pickle may only be False"),
        ("orca/bodies.py", "load(\n    name,\n    trust_remote_code=flag)", ":3: trust_remote_code may only be"),
        ("orca/store.py", "x = 1\n" * 301, "orca/store.py:300: 301 lines, at most 300"),
        ("flows/cli.py", "from tests import conftest", "flows/cli.py:1: imports tests.conftest: flows does not know"),
    ],
)
def test_the_checker_finds_a_made_up_fault_and_names_its_place(path: str, source: str, fault: str) -> None:
    found = faults(Path(path), source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("embedders/inputs.py", "import torch.nn.functional as F\nfrom embedders.calibrate import law\nimport math"),
        ("orca/types.py", "import numpy as np\nfrom orca.registry import Registry"),
        ("orca/bodies/__init__.py", "from orca.bodies.specs import BODIES\nfrom . import body"),
        ("orca/run.py", "from orca import align, model\nimport embedders\nnp.load(path, allow_pickle=False)"),
        ("orca/__init__.py", "from orca.run import adapt\nfrom .pretrained import load"),
        ("flows/cli.py", "import typer\nimport orca\nfrom orca.run import RunConfig\nprint('result')"),
    ],
)
def test_the_checker_passes_what_is_allowed(path: str, source: str) -> None:
    assert faults(Path(path), source) == []


def test_the_checker_finds_a_made_up_circle() -> None:
    one_way = {Path("orca/sources.py"): "from orca.bodies import Body", Path("orca/bodies/body.py"): "import torch"}
    assert cycle(one_way) == []
    circle = cycle({**one_way, Path("orca/bodies/body.py"): "def f():\n    from orca import sources"})
    assert sorted(circle[1:]) == ["bodies", "sources"]
