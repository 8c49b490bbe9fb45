"""What an adapted model is rebuilt from, but for its weights: stored as JSON beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from orca.bodies import BodyConfig, load_body, locate_body
from orca.build import EmbedConfig
from orca.errors import InputError
from orca.methods import MethodChoice
from orca.runtime import read_json
from orca.tasks.encodings import Encoding
from orca.types import Layout

CONFIG, WEIGHTS, TRAINED = "config.json", "model.safetensors", "trained.safetensors"


class Base(BaseModel):
    """The body that a model was made from, by name or folder, and what identifies its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    revision: str | None = None
    sha256: str


class ModelSpec(BaseModel):
    """All that a model is rebuilt from, but for its weights.

    Attributes:
        task: name of the task.
        layout: the task's layout.
        encoding: how raw data becomes the model's input.
        embed: how that becomes tokens.
        body: the body's Hugging Face configuration.
        causal: whether its attention is causal.
        law: shapes of what the embedder copied from the body.
        average: names of augmentations whose view of an input is answered too.
        method: what trained, and what was inserted for it; None in a model that no method is known of.
        rows: training examples, for a predictor that remembers them.
        base: where the weights are that did not train; None where all were random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    task: str
    layout: Layout
    encoding: Encoding
    embed: EmbedConfig
    body: dict[str, Any]
    causal: bool
    law: dict[str, Any]
    average: tuple[str, ...] = ()
    method: MethodChoice | None = None
    rows: int = 0
    base: Base | None = None


def find_model(folder: Path) -> tuple[ModelSpec, Path]:
    """What the model in a folder, or in the folder of a run, is rebuilt from, and the file of its weights.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; a run's is STORE/runs/NAME, the path of its result")
    folder = folder / "model" if (folder / "model").is_dir() else folder
    file = folder / (TRAINED if (folder / TRAINED).is_file() else WEIGHTS)
    missing = [path.name for path in (folder / CONFIG, file) if not path.is_file()]
    if missing:
        raise InputError(f"{folder} holds no adapted model: it lacks {' and '.join(missing)}")
    try:
        return ModelSpec.model_validate(read_json(folder / CONFIG)), file
    except (ValidationError, ValueError) as fault:
        raise InputError(
            f"{folder / CONFIG} does not describe an adapted model; expected the folder model/ of a run, or one "
            "that save_pretrained wrote"
        ) from fault


def body_weights(base: Base, *, online: bool) -> dict[str, Tensor]:
    """The weights of a body's encoder.

    Raises:
        InputError: they are not here, or have changed.
    """
    config = BodyConfig(name=base.name, revision=base.revision)
    files = locate_body(config, online=online)
    if files.sha256 != base.sha256:
        raise InputError(
            f"the weights of body '{base.name}' in {files.path} are not those that the model was made from"
        )
    return load_body(config, files=files).encoder.state_dict()
