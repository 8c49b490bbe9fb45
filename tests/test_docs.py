"""What the documents name is there: files, sections, commands, options, settings, code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.main import get_command

import orca
from flows.cli import app
from orca.config import check_config, configs_folder
from orca.methods import METHODS
from orca.sweeps.cells import cells
from orca.sweeps.grid import check_grid
from orca.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
INNER = {
    name: [*getattr(command, "commands", {"": command}).values()] for name, command in COMMANDS.items()
}  # of groups
SETTING = r"(?:`|-s )((?:embed|align|finetune|source)\.\w+)(?:(?:=|: )([\w.-]+))?"
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_to_files_and_sections_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, section = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        assert not section or section in anchors(file), target


@pages
def test_paths_in_code_marks_are_there(page: Path) -> None:
    named = re.findall(r"`((?:orca|flows|embedders|configs|docs|tests|benchmarks)/[\w./-]*)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pages
def test_every_command_and_option_exists(page: Path) -> None:
    text = page.read_text()
    used = re.findall(r"^orca (\w+)|`orca ([a-z]\w*)", text, re.MULTILINE)
    missing = re.search(r"^- Not there yet:(.*?)^- ", text, re.DOTALL | re.MULTILINE)
    planned = set(re.findall(r"`orca (\w+)`", missing[1])) if missing else set()
    assert {first or second for first, second in used} - planned <= set(COMMANDS)
    assert planned.isdisjoint(COMMANDS)


def test_the_readme_lists_every_command_and_its_options_exist() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.partition("## Commands")[2].partition("\n## ")[0]
    assert {name for name in COMMANDS if f"`orca {name}" not in section} == set()
    options = {option for inner in INNER.values() for c in inner for p in c.params for option in p.opts} | {"--help"}
    assert set(re.findall(r"(?<=[` ])--?[a-z]+", section)) <= options
    json_less = {name for name, i in INNER.items() if "--json" not in {o for c in i for p in c.params for o in p.opts}}
    assert json_less == {"cancel", "report", "predict", "export", "serve", "ui"}


@pages
def test_settings_are_those_of_the_configuration(page: Path) -> None:
    for block in blocks(page, "yaml"):
        raw = yaml.safe_load(block)
        if "tasks" in raw:
            assert cells(check_grid(raw))
            continue
        check_config(raw if "task" in raw else {"task": "digits", **raw})
    for key, value in re.findall(SETTING, page.read_text()):
        section, name = key.split(".")
        assert name in check_config({"task": "digits"}).model_dump()[section], key
        if value:
            check_config({"task": "digits", section: {name: yaml.safe_load(value)}})


@pages
def test_python_code_compiles_and_uses_public_names(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "orca":
                assert node.attr in orca.__all__


def test_all_tasks_and_methods_are_described_and_all_configurations_are_of_tasks() -> None:
    described = "".join(page.read_text() for page in PAGES if page.is_relative_to(ROOT / "docs"))
    assert [name for name in TASKS.names() if f"| `{name}` |" not in described] == []
    assert [task.name for task in TASKS if task.provenance.licence.split(" (")[0] not in described] == []
    method = (ROOT / "docs" / "method.md").read_text()
    assert [name for name in METHODS.names() if f"| `{name}` |" not in method] == []
    assert configs_folder() == ROOT / "configs"


def test_the_picture_is_well_formed_and_describes_itself() -> None:
    root = ElementTree.parse(ROOT / "docs" / "flow.svg").getroot()
    shown = " ".join(text for text in root.itertext())
    assert all(
        word in shown for word in ("data", "body", "source set", "embed", "align", "finetune", "evaluate", "store")
    )
    assert "prefers-color-scheme: dark" in shown
    assert {"title", "desc"} <= {element.tag.rpartition("}")[2] for element in root}
