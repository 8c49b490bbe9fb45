"""Bodies from their files, and encoders from a configuration alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from orca.bodies.body import Body, Encoder
from orca.bodies.specs import FAMILIES, VISION, BodyConfig
from orca.bodies.vision import PixelLaw, VisionBody, VisionEncoder, pixel_law
from orca.bodies.weights import BodyFiles, locate_body
from orca.errors import InputError

_BOOKKEEPING = ("_name_or_path", "architectures", "dtype", "transformers_version")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps the loading report and bars of transformers off the user's screen."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def make_body(
    model: nn.Module, tokenizer: Any = None, *, causal: bool | None = None, law: PixelLaw | None = None
) -> Body | VisionBody:
    """The two modules of a Hugging Face model, of whichever family."""
    if model.config.model_type in VISION:  # type: ignore[union-attr]
        return VisionBody(model, law)
    return Body(model, tokenizer, causal=causal)


def build_encoder(hf_config: dict[str, Any], *, causal: bool | None = None) -> Encoder | VisionEncoder:
    """An encoder of random weights from a Hugging Face configuration, for loading a saved model into."""
    from transformers import AutoConfig

    values = dict(hf_config)
    return make_body(_random_model(AutoConfig.for_model(values.pop("model_type"), **values)), causal=causal).encoder


def architecture(hf_config: dict[str, Any]) -> dict[str, Any]:
    """What an encoder of this Hugging Face configuration does with its weights in evaluation, defaults written out."""
    from transformers import AutoConfig

    values = {k: v for k, v in _with_dropout(hf_config, 0.0).items() if k not in _BOOKKEEPING}
    return AutoConfig.for_model(values.pop("model_type"), **values).to_dict()


def _random_model(hf_config: Any) -> nn.Module:
    from transformers import AutoModel

    return AutoModel.from_config(hf_config, attn_implementation="sdpa", **_no_pooler(hf_config.model_type))


def _no_pooler(model_type: str) -> dict[str, bool]:
    """What keeps a family from having a pooler, which nothing here uses."""
    return {"add_pooling_layer": False} if model_type in VISION or FAMILIES[model_type].pooler else {}


def _with_dropout(hf_config: dict[str, Any], dropout: float | None) -> dict[str, Any]:
    """Sets every dropout rate of a configuration, whatever a family calls it."""
    rates = {k for k in hf_config if k.endswith(("dropout", "dropout_prob", "_pdrop")) and k != "classifier_dropout"}
    return hf_config if dropout is None else {**hf_config, **dict.fromkeys(rates, dropout)}


def load_body(
    config: BodyConfig | None = None,
    *,
    files: BodyFiles | None = None,
    random_seed: int | None = None,
    online: bool = False,
) -> Body | VisionBody:
    """Loads a body, in evaluation mode.

    Args:
        config: which body; the offline default if None.
        files: the located files, found by :func:`locate_body` if None.
        random_seed: if given, random weights of the same architecture, drawn from this seed.
        online: whether the hub may be asked.

    Raises:
        InputError: the weights cannot be had, or do not belong to the architecture.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = config or BodyConfig()
    files = files or locate_body(config, online=online)
    raw = json.loads((files.path / "config.json").read_text())
    hf_config = AutoConfig.for_model(raw.pop("model_type"), **_with_dropout(raw, config.dropout))
    hf_config.dtype = torch.float32
    with _quiet_transformers():
        if random_seed is not None:
            with torch.random.fork_rng():
                torch.manual_seed(random_seed)
                model = _random_model(hf_config)
        else:
            model, report = AutoModel.from_pretrained(
                files.path, config=hf_config, attn_implementation="sdpa", local_files_only=True, use_safetensors=True,
                output_loading_info=True, ignore_mismatched_sizes=True, **_no_pooler(hf_config.model_type),
            )  # fmt: skip
            faults = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
            if faults:
                raise InputError(
                    f"the weights in {files.path} belong to another model than its config.json says: "
                    f"{len(faults)} tensors are missing or of another shape, first {faults[0]}"
                )
        has_tokenizer = any((files.path / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json"))
        tokenizer = AutoTokenizer.from_pretrained(files.path, local_files_only=True) if has_tokenizer else None
    return make_body(model, tokenizer, causal=config.causal, law=pixel_law(files.path)).eval()
