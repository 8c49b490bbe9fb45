"""The schema that Prefect checks a flow's parameters against and makes its form of: what it lists, admits, refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from prefect.utilities.schema_tools import ValidationError, validate

from flows.adapt import adapt_flow
from orca.augment import AUGMENTATIONS
from orca.bodies import BODIES, BodyFiles
from orca.config import check_config, configs_folder
from orca.discrepancies import DISCREPANCIES
from orca.keys import keys
from orca.methods import METHODS
from orca.metrics import METRICS
from orca.plan import Plan
from orca.registry import Choices
from orca.sources import SOURCES
from orca.tasks import TASKS, resolve_task

SCHEMA = adapt_flow.parameters.model_dump()
MODELS = SCHEMA["definitions"]
FIELDS = {f"{name}.{key}": field for name, model in MODELS.items() for key, field in model["properties"].items()}
OWN = {"name": "mine", "data": "x.npz", "input": "waveform", "target": "classes", "sample_rate": 8000}


def check(config: Any) -> None:
    """As the server does before it makes a run."""
    validate({"config": config}, SCHEMA, raise_on_error=True)


def listed(field: str) -> list[str]:
    """The names that a form offers for a field."""
    found = FIELDS[field]
    found = found.get("items", found)
    (names,) = [branch["enum"] for branch in found.get("anyOf", [found]) if "enum" in branch]
    return names


@pytest.mark.parametrize("path", sorted(configs_folder().rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_may_be_sent_to_the_server(path: Path) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    check(raw)
    check(check_config(raw).model_dump(mode="json"))


@pytest.mark.parametrize(
    "config",
    [
        {"task": OWN},
        {"task": "digits", "body": {"name": "/weights/mine"}},
        {"task": "digits", "body": {"name": "gpt2"}, "device": "cuda:3", "metric": "accuracy"},
        {"task": OWN | {"metric": "macro_f1"}, "align": {"objective": "none"}, "metric": None},
    ],
)
def test_own_data_folders_and_numbered_devices_are_admitted(config: dict[str, Any]) -> None:
    check(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"task": "digits", "finetune": {"method": "ful"}}, "'ful' is not one of ['full', 'layernorm'"),
        ({"task": "digits", "align": {"objective": "odtt"}}, "'odtt' is not one of ['none', 'otdd'"),
        ({"task": "digits", "finetune": {"lr": 0}}, "config.finetune.lr"),
        ({"task": "fsdd", "finetune": {"augment": ["spec"]}}, "'spec' is not one of ['spec_augment', 'background'"),
        ({"task": "digts"}, "'config.task'. Failure reason: 'digts' is not one of ['fsdd'"),
        ({}, "'task' is a required property"),
    ],
)
def test_a_wrong_name_is_refused_before_there_is_a_run(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check(config)
    assert message in str(caught.value)


def test_the_form_offers_everything_that_is_registered() -> None:
    offered = {
        "RunConfig.task": TASKS.names(),
        "RunConfig.metric": METRICS.names(),
        "RunConfig.device": ["auto", "cpu", "cuda", "mps"],
        "OwnData.metric": METRICS.names(),
        "BodyConfig.name": BODIES.names(),
        "SourceConfig.name": SOURCES.names(),
        "AlignConfig.objective": ["none", *DISCREPANCIES.names()],
        "AlignConfig.label_distance": ["gaussian", "exact", "means", "none"],
        "FinetuneConfig.method": METHODS.names(),
        "FinetuneConfig.augment": AUGMENTATIONS.names(),
    }
    assert {field: listed(field) for field in offered} == offered


def test_what_is_registered_later_is_in_the_next_schema() -> None:
    names = ["a"]
    choices = Choices(lambda: names)
    names.append("b")
    assert choices.__get_pydantic_json_schema__(None, lambda core: {"type": "string"})["enum"] == ["a", "b"]


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_has_a_title_a_description_and_its_default(field: str) -> None:
    model, _, key = field.partition(".")
    found = FIELDS[field]
    part = MODELS[found["$ref"].rpartition("/")[2]] if "$ref" in found else {}
    assert found.get("title") or part["title"]
    assert (found.get("description") or part["description"]).endswith(".")
    assert ("default" in found) != (key in MODELS[model].get("required", []))


def test_the_objective_of_the_alignment_is_asked_for_before_the_settings_of_the_distance() -> None:
    assert next(iter(MODELS["AlignConfig"]["properties"])) == "objective"


CHANGED = {
    "task": "digits", "metric": "accuracy", "body": {"name": "gpt2", "causal": True}, "seed": 3,
    "align": {"objective": "mmd"}, "finetune": {"method": "layernorm", "lr": 3e-4},
}  # fmt: skip
KEYS = {
    "embed": ("e23e8fc5501bb3b8c6c2e5ea", "e41f04bbe15f21eed7506cd3"),
    "align": ("21b3ada797f6a2a59b7c606c", "ba209362e84dcea29c4c1c2e"),
    "finetune": ("51acf621aaca6ec6e3eda57d", "a2e41390b4e764324c020a04"),
    "evaluate": ("73586cec70d25d932aa734c5", "bfeb7732a8f6da6dd45f2a8e"),
    "source": ("1de8bf0957718fec7ad577c3", "1de8bf0957718fec7ad577c3"),
    "baselines": ("259e349158952a6deaadc292", "373b59584eae22481502ca10"),
}


@pytest.mark.parametrize(("which", "raw"), [(0, {"task": "digits"}), (1, CHANGED)], ids=["defaults", "changed"])
def test_what_is_said_of_a_setting_does_not_reach_the_keys_of_stored_work(which: int, raw: dict[str, Any]) -> None:
    """Other keys mean that all stored work is done anew: a raised version in orca/keys.py, or a changed default."""
    config = check_config(raw)
    made = Plan(
        config=config, task=resolve_task(config.task), files=BodyFiles(Path("body"), "revision", "sha256"),
        data_key="data", body_key="body", device=torch.device("cpu"), dtype=None,
    )  # fmt: skip
    assert keys(made) == {stage: both[which] for stage, both in KEYS.items()}
