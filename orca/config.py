"""The configuration of a run: composed of the modules' parts, read from YAML, checked as a whole before any work."""

from __future__ import annotations

import contextlib
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orca.align import AlignConfig
from orca.augment import AUGMENTATIONS
from orca.bodies import BODIES, BodyConfig
from orca.discrepancies import DISCREPANCIES
from orca.errors import InputError
from orca.methods import METHODS, Method
from orca.metrics import METRICS
from orca.model import EmbedConfig
from orca.registry import Choices
from orca.sources import SourceConfig
from orca.tasks import TASKS, OwnData
from orca.tasks.readers.hub import HUB, is_hub
from orca.train import FinetuneConfig


class Limits(BaseModel):
    """How long each stage may take. A stage that was stopped goes on from its checkpoint when the run is resumed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embed: float | None = Field(default=None, gt=0, description="Most minutes of the first stage; unset is no limit.")
    align: float | None = Field(
        default=None, gt=0, description="Most minutes of the second stage, with all that it trains."
    )
    finetune: float | None = Field(default=None, gt=0, description="Most minutes of the third stage.")
    evaluate: float | None = Field(default=None, gt=0, description="Most minutes of the evaluation.")


class RunConfig(BaseModel):
    """One run: a task, a body, and the settings of the three stages."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Run")

    task: Annotated[str | OwnData, Choices(TASKS.names)] = Field(
        description="A name from `orca tasks`, or your own data."
    )
    metric: Annotated[str | None, Choices(METRICS.names)] = Field(
        default=None, description="What validation selects by and test reports; unset takes the task's."
    )
    train_size: int | float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Share of the training set to learn from, or a number of its samples; unset takes all.",
    )
    body: BodyConfig = Field(default=BodyConfig(), description="The pretrained language transformer.")
    source: SourceConfig = Field(default=SourceConfig(), description="Labelled language data that alignment aims at.")
    embed: EmbedConfig = Field(default=EmbedConfig(), description="How data becomes tokens.")
    align: AlignConfig = Field(
        default=AlignConfig(), description="The second stage: the embedder learns to imitate the source."
    )
    finetune: FinetuneConfig = Field(default=FinetuneConfig(), description="The third stage: training on the task.")
    seed: int = Field(
        default=0, ge=0, description="Seed of everything random in the run; the data's split has its own."
    )
    device: Annotated[str, Choices(lambda: ["auto", "cpu", "cuda", "mps"], other="Name")] = Field(
        default="auto", description="Where to compute: auto, cpu, cuda, cuda:N or mps."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Precision of training; auto is bfloat16 where the hardware has it."
    )
    share_device: bool = Field(
        default=False, description="Run beside other runs on the same GPU; else they take turns, stage by stage."
    )
    limits: Limits = Field(default=Limits(), description="Most minutes of each stage; kept by the flow.")

    @field_validator("train_size")
    @classmethod
    def _share_or_number(cls, size: float | None) -> float | None:
        if not isinstance(size, float) or size < 1:
            return size
        if size == 1 or size != int(size):
            raise ValueError("must be a share below 1 or a whole number of samples; leave it out to learn from all")
        return int(size)

    @field_validator("body", mode="before")
    @classmethod
    def _body_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def method(self) -> Method:
        """The method of the third stage."""
        return METHODS.get(self.finetune.method)

    @property
    def random_seed(self) -> int | None:
        """What the body's weights are drawn from where they are random; None where they are the pretrained ones."""
        return None if self.body.pretrained and self.method.pretrained else self.seed

    @property
    def aligned(self) -> bool:
        """Whether the align stage has work to do."""
        return self.align.objective != "none" and self.method.aligned

    @property
    def task_name(self) -> str:
        """The task's name, of your own data too."""
        return self.task if isinstance(self.task, str) else self.task.name


def configs_folder() -> Path:
    """Where the configurations that ship with Orca lie: in the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """A configuration file by path, or by the name of a file in configs/.

    Raises:
        InputError: there is none; the message lists the near names.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise InputError(f"there is no configuration file {path.absolute()}")
    shipped = {p.relative_to(configs_folder()).with_suffix("").as_posix(): p for p in configs_folder().rglob("*.yaml")}
    if name in shipped:
        return shipped[name]
    near = difflib.get_close_matches(name, shipped, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(shipped))}."
    raise InputError(f"there is no configuration '{name}'; {hint} Or give the path of a .yaml file")


def load_config(name: str, *, overrides: Iterable[str] = (), seed: int | None = None) -> RunConfig:
    """Reads a configuration, with ``key=value`` overrides (``finetune.lr=1e-4``) and a seed on top.

    Paths in the file start at its folder, paths in overrides at the current one.

    Raises:
        InputError: no such file, no YAML, or faults in it, all of them at once.
    """
    path = find_config(name)
    raw = read_settings(path)
    for override in overrides:
        set_key(raw, *parse_override(override))
    anchor(raw, Path.cwd())
    if seed is not None:
        raw["seed"] = seed
    return check_config(raw, origin=str(path))


def read_settings(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, not yet checked; paths in it start at its folder.

    Raises:
        InputError: the file is no YAML, or holds something else.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise InputError(f"{path} is not YAML: {fault}") from fault
    if not isinstance(raw, dict):
        raise InputError(f"{path} must hold keys and values like `task: digits`; it holds a {type(raw).__name__}")
    anchor(raw, path.parent)
    return raw


def anchor(raw: dict[str, Any], folder: Path) -> None:
    """Makes the paths in a nested dict absolute; what is relative starts at ``folder``."""
    if isinstance(raw.get("body"), str):
        raw["body"] = {"name": raw["body"]}
    for part, key in (("task", "data"), ("task", "test"), ("source", "path"), ("body", "name")):
        if isinstance(raw.get(part), dict) and isinstance(raw[part].get(key), str):
            given = raw[part][key]
            mark = HUB if part == "task" and is_hub(given) else ""
            path = (folder / Path(given.removeprefix(mark)).expanduser()).resolve()
            may_be_name = part == "body" or mark
            if not may_be_name or (path.is_dir() and given not in BODIES.names()):
                raw[part] = {**raw[part], key: f"{mark}{path}"}


def parse_override(override: str) -> tuple[str, Any]:
    """Key and value of ``a.b=value``; the value is read as YAML.

    Raises:
        InputError: there is no key, or no value.
    """
    key, found, text = override.partition("=")
    if not found or not key:
        raise InputError(f"an override is key=value, like -s finetune.lr=1e-4; got '{override}'")
    return key, yaml.safe_load(text)


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets ``a.b`` in a nested dict; text that is a number, like 1e-3, which YAML takes for text, becomes one."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    *parents, last = key.split(".")
    place = raw
    for part in parents:
        inner = place.get(part)
        if not isinstance(inner, dict):  # absent, or `body: minilm` overridden by body.dropout=0
            place[part] = {} if inner is None else {"name": inner}
        place = place[part]
    place[last] = value


def check_config(raw: Mapping[str, Any], *, origin: str = "the configuration") -> RunConfig:
    """Checks a nested mapping as a whole: keys, types, ranges and the names of everything registered.

    Raises:
        InputError: lists all faults, each with its path and, for a wrong name, the nearest right one.
    """
    config, faults = find_faults(raw)
    if config is None:
        raise InputError(listed(faults, origin))
    return config


def find_faults(raw: Mapping[str, Any]) -> tuple[RunConfig | None, list[str]]:
    """The configuration that a nested mapping holds, and no faults; or None, and all that is wrong with it."""
    faults: list[str] = []
    config: RunConfig | None = None
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        other = "OwnData" if isinstance(raw.get("task"), str) else "str"  # the branch of `task` that was not meant
        faults += [fault_text(fault) for fault in error.errors() if other not in str(fault["loc"][1:2])]
    faults += wrong_names(config.model_dump() if config else raw)
    return (None, list(dict.fromkeys(faults))) if faults or config is None else (config, [])


def listed(faults: Iterable[str], origin: str) -> str:
    """The message that lists all faults of one place."""
    lines = list(dict.fromkeys(faults))
    return "\n".join([f"{origin} has {len(lines)} fault{'s' if len(lines) > 1 else ''}:", *(f"  - {f}" for f in lines)])


def fault_text(fault: Any, model: type[BaseModel] = RunConfig) -> str:
    """One pydantic fault of a model in words, with its path."""
    where = [str(part) for part in fault["loc"] if part != "str" and "OwnData" not in str(part)]
    path = ".".join(where)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(where[:-1], model)
        near = difflib.get_close_matches(where[-1], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}" if known else "leave it out"
        return f"{path}: there is no such key; {hint}"
    if fault["type"] == "missing":
        return f"{path}: this key is needed"
    if fault["type"] == "value_error":  # a validator of ours, which says it all
        return f"{path}: {fault['ctx']['error']}"
    return f"{path}: {fault['msg'][0].lower()}{fault['msg'][1:]}; got {fault['input']!r}"


def _known_keys(path: list[str], model: type[BaseModel]) -> list[str]:
    """The keys of the model at ``path``; none where no one model is there."""
    for part in path:
        annotation = model.model_fields[part].annotation
        options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def wrong_names(raw: Mapping[str, Any]) -> list[str]:
    """Faults of the values that must be names of registered things; other faults are pydantic's."""
    faults = []

    def check(path: str, value: Any, known: Iterable[str]) -> None:
        names = list(known)
        if isinstance(value, str) and value not in names:
            near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
            faults.append(f"{path}: there is no '{value}'; {hint}")

    def part(name: str) -> Mapping[str, Any]:
        value = raw.get(name)
        return value if isinstance(value, Mapping) else {}

    check("task", raw.get("task"), TASKS.names())
    body = raw.get("body") if isinstance(raw.get("body"), str) else part("body").get("name")
    if isinstance(body, str) and not Path(body).is_dir():
        check("body", body, BODIES.names())
    check("align.objective", part("align").get("objective"), ["none", *DISCREPANCIES.names()])
    check("finetune.method", part("finetune").get("method"), METHODS.names())
    for name in given if isinstance(given := part("finetune").get("augment"), list | tuple) else ():
        check("finetune.augment", name, AUGMENTATIONS.names())
    check("metric", raw.get("metric"), METRICS.names())
    return faults
