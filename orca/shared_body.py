"""One set of a body's weights under the models of several runs, which keep the little that is their own.

The model of each run has an encoder that is a copy of the shared one in modules, hooks and configuration, but whose
parameters are the very same objects wherever the run left them alone. Inserted modules and changed parameters are the
copy's own. Nothing is swapped between requests, so each model answers as it would by itself.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from orca.bodies import AnyEncoder, architecture, build_encoder
from orca.checkpoint import check_fit, load_tensors
from orca.errors import InputError
from orca.model import AdaptedModel
from orca.modelspec import TRAINED, Base, ModelSpec, body_weights, find_model

OWN = 0.1  # of the body's weights may be a run's own
_APART = "one body serves runs of one body: give the others a MultiTask of their own"


class SharedBody:
    """A body's encoder, whose weights several models have in common.

    Args:
        online: whether the hub may be asked for the weights of a body.

    Attributes:
        encoder: of the first run's architecture; None before it. What no run has left as it was is random and unused.
    """

    def __init__(self, *, online: bool = False) -> None:
        self.online, self.encoder = online, None
        self._first: tuple[str, ModelSpec] | None = None
        self._from: dict[str, str] = {}  # which run has brought a tensor
        self._bases: dict[str, dict[str, Tensor]] = {}

    def join(self, name: str, folder: Path) -> AdaptedModel:
        """The model of a run around this body, in evaluation mode.

        Args:
            name: what messages call the run.
            folder: of the run, or of a saved model.

        Raises:
            InputError: it has another body, changed too much of it, or its files are at fault.
        """
        spec, file = find_model(folder)
        encoder = self._encoder(name, spec)
        shared = {id(p): key for key, p in encoder.named_parameters()}
        same = {id(t): t for t in (*encoder.parameters(), *encoder.buffers())}
        model = AdaptedModel.around(copy.deepcopy(encoder, same), spec)
        left = {key: shared[id(model.get_parameter(key))] for key in sorted(model.untrained())}
        _own_parameters(name, model, shared, left)
        tensors, part = load_tensors(file)[0], file.name == TRAINED
        check_fit(model, tensors, str(file), left_out=left if part else ())
        base = self._base(spec.base) if part and spec.base is not None else {}
        for key, known in left.items():
            self._take(name, known, base[known] if part else tensors[key])
        model.load_state_dict({key: value for key, value in tensors.items() if key not in left}, strict=False)
        return model.eval()

    def _encoder(self, name: str, spec: ModelSpec) -> AnyEncoder:
        if self.encoder is None or self._first is None:
            self.encoder, self._first = build_encoder(spec.body, causal=spec.causal), (name, spec)
        first, other = self._first
        if (architecture(spec.body), spec.causal) != (architecture(other.body), other.causal):
            raise InputError(f"the body of '{name}' has another architecture than that of '{first}'; {_APART}")
        return self.encoder

    def _base(self, base: Base) -> dict[str, Tensor]:
        if base.sha256 not in self._bases:
            self._bases = {base.sha256: body_weights(base, online=self.online)}  # of one body at a time
        return self._bases[base.sha256]

    @torch.no_grad()
    def _take(self, name: str, key: str, value: Tensor) -> None:
        """Fills in a tensor of the body where it is the first of its name, and compares it where it is not."""
        assert self.encoder is not None
        held = self.encoder.get_parameter(key)
        if self._from.setdefault(key, name) == name:
            held.copy_(value)
        elif not torch.equal(held, value):
            raise InputError(
                f"the body of '{name}' has other weights than that of '{self._from[key]}', first in {key}; {_APART}"
            )


def _own_parameters(name: str, model: AdaptedModel, shared: dict[int, str], left: dict[str, str]) -> None:
    """Puts parameters of the model's own where the method trains some of the body.

    Raises:
        InputError: they are too many.
    """
    inside = {f"encoder.{key}": p for key, p in model.encoder.named_parameters() if id(p) in shared}
    own = {key: p for key, p in inside.items() if key not in left}
    share = sum(p.numel() for p in own.values()) / sum(p.numel() for p in inside.values())
    if share > OWN:
        method = f" by the method '{model.spec.method.name}'" if model.spec.method else ""
        raise InputError(
            f"the run '{name}' changed {share:.0%} of the body's weights{method}, so one body cannot serve it too; "
            "load it alone with orca.load, or train it by a method that leaves the body as it is, such as lora or head"
        )
    for key, parameter in own.items():
        above, _, last = key.rpartition(".")
        setattr(model.get_submodule(above), last, nn.Parameter(torch.empty_like(parameter)))
