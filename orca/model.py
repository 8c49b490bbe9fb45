"""The adapted model: embedder, the body's encoder, predictor; one forward for every task.

The body's own embedding layer is no part of it, so every parameter can have a gradient. A model is rebuilt from a
:class:`ModelSpec`, which is stored as JSON, and a state dict in safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embedders import FieldDecoder, InputEmbedder, Tokens, pool
from orca.augment import AUGMENTATIONS, View
from orca.batches import answers
from orca.bodies import Body, Encoder, LayerGroup, VisionBody, VisionEncoder, build_encoder
from orca.build import (
    EmbedConfig,
    Statistics,
    blank_law,
    blank_statistics,
    build_embedder,
    build_predictor,
    copy_patches,
    embedding_law,
    law_shape,
)
from orca.checkpoint import load_into, load_part, load_tensors, save_tensors
from orca.errors import InputError
from orca.methods import MethodChoice, Origin, body_groups
from orca.modelspec import CONFIG, TRAINED, WEIGHTS, Base, ModelSpec, body_weights, find_model
from orca.runtime import write_json
from orca.tasks.encodings import Encoding
from orca.types import BINARY, DENSE, Examples, Layout


class AdaptedModel(nn.Module):
    """Embedder, encoder and predictor as one network.

    Args:
        embedder: inputs to tokens.
        encoder: tokens to features.
        predictor: features to the answer.
        spec: what the model can be rebuilt from.
    """

    def __init__(
        self, embedder: InputEmbedder, encoder: Encoder | VisionEncoder, predictor: nn.Module, spec: ModelSpec
    ) -> None:
        super().__init__()
        self.embedder, self.encoder, self.predictor, self.spec = embedder, encoder, predictor, spec

    @classmethod
    def build(
        cls,
        body: Body | VisionBody,
        statistics: Statistics,
        *,
        task: str,
        layout: Layout,
        encoding: Encoding,
        config: EmbedConfig,
    ) -> AdaptedModel:
        """A new model around a body's encoder; random numbers come from torch's global generator.

        Raises:
            InputError: layout and configuration do not go together.
        """
        law = embedding_law(body)
        embedder = build_embedder(layout, law, statistics, config)
        spec = ModelSpec(
            task=task, layout=layout, encoding=encoding, embed=config, body=body.encoder.config.to_dict(),
            causal=body.encoder.causal, law=law_shape(law),
        )  # fmt: skip
        if config.pretrained:
            copy_patches(embedder, body)
        return cls(embedder, body.encoder, build_predictor(layout, embedder, body.encoder, statistics), spec)

    @property
    def layout(self) -> Layout:
        """The task's layout."""
        return self.spec.layout

    @property
    def grid(self) -> tuple[int, ...]:
        """The grid of the features of an input of the layout's shape."""
        return self.encoder.grid(self.embedder.tail.grid)

    def encode(self, x: Tensor, length: Tensor | None = None) -> Tokens:
        """Inputs to the encoder's features: (B, T, D) with their mask and grid."""
        tokens = self.embedder(x, length)
        features = self.encoder(tokens.x, tokens.mask, tokens.grid)
        return Tokens(features, tokens.mask, self.encoder.grid(tokens.grid))

    def pooled(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Inputs to the mean of their features over tokens: (B, D)."""
        tokens = self.encode(x, length)
        return pool(tokens.x, tokens.mask)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Inputs (B, C, *S) or (B, F) to logits or values (B, K), or to a field or mask (B, C, *S)."""
        return self.read(self.encode(x, length), tuple(x.shape[2:]))

    def read(self, tokens: Tokens, size: tuple[int, ...]) -> Tensor:
        """The encoder's features of inputs of a size to the answer."""
        if not isinstance(self.predictor, FieldDecoder):
            return self.predictor(tokens.x, tokens.mask)
        trained = self.layout.input_shape[1:]
        target = tuple(
            math.ceil(t * s / i) for t, s, i in zip(self.layout.target_shape[1:], size, trained, strict=True)
        )
        return self.predictor(tokens.x, tokens.grid, self.embedder.covered(size), target)

    def average(self, names: Sequence[str]) -> None:
        """From now on answers are means over the views of these augmentations, of those that have one."""
        self.spec = self.spec.model_copy(update={"average": tuple(n for n in names if AUGMENTATIONS.get(n).views)})

    def _averaged_views(self) -> list[View]:
        return [view for name in self.spec.average for view in AUGMENTATIONS.get(name).views]

    def views(self, x: Tensor, length: Tensor | None = None) -> list[Tensor]:
        """The input, and those of its views whose answers count too."""
        return [x, *(view.of(x, length) for view in self._averaged_views())]

    def averaged(self, outputs: list[Tensor]) -> Tensor:
        """The mean of what is answered to the views of an input."""
        if self.layout.target in DENSE:
            outputs = [outputs[0], *(v.back(o) for v, o in zip(self._averaged_views(), outputs[1:], strict=True))]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)

    def answer(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """What metrics and predictions use: the forward pass, averaged over the input's views where there are some."""
        return self.averaged([self(view, length) for view in self.views(x, length)])

    def layer_groups(self) -> list[LayerGroup]:
        """Ordered, complete partition: embedder, what a method inserted before block.0 .. block.n, norm, head."""
        ends = LayerGroup("embedder", (self.embedder,)), LayerGroup("head", (self.predictor,))
        return [ends[0], *body_groups(self.encoder), ends[1]]

    def equip(
        self, method: MethodChoice, origin: Origin | None = None, *, base: Base | None = None, rows: int = 0
    ) -> None:
        """Puts in what a method inserts, and keeps what it is; random numbers come from torch's global generator.

        Args:
            method: what is to train.
            origin: what inserted modules may start from; None where their weights are loaded afterwards.
            base: where the body's weights are from.
            rows: training examples, for a predictor that remembers them.
        """
        method.insert(self.encoder, origin)
        if (own := method.predictor(self.layout, self.encoder.width, rows)) is not None:
            self.predictor = own.to(next(self.parameters()).device)
        self.spec = self.spec.model_copy(update={"method": method, "base": base, "rows": rows})

    def merge(self) -> None:
        """Folds what the method inserted into the body's weights: the same function but for rounding, of plain layers.

        Where the method inserts nothing, nothing changes.

        Raises:
            InputError: it cannot be folded.
        """
        method = self.spec.method
        if method is not None and method.method.insertion is not None:
            method.merge(self.encoder)
            self.spec = self.spec.model_copy(update={"method": None, "base": None})

    def untrained(self) -> set[str]:
        """Names of the parameters that are as the body has them, because the method leaves them alone."""
        method, groups = self.spec.method, self.layer_groups()
        if method is None:
            return set()
        phases = [method.parameters(groups, phase) for phase in range(len(method.phases))]
        trained = {id(p) for chosen in phases for part in chosen.values() for p in part}
        return {f"encoder.{name}" for name, p in self.encoder.named_parameters() if id(p) not in trained}

    def predict(self, x: np.ndarray, length: np.ndarray | None = None, *, batch_size: int = 128) -> np.ndarray:
        """Answers for raw data, as the task's files hold it.

        Args:
            x: raw inputs, (n, ...).
            length: valid lengths of sequences, (n,).
            batch_size: samples at once.

        Returns:
            Class indices (n,) int64, labels (n, K) in {0, 1}, values (n, K), fields (n, C, *S), or masks
            (n, C, *S) in {0, 1}.

        Raises:
            InputError: the data does not fit what the model was trained on.
        """
        return self.decided(self.scores(x, length, batch_size=batch_size))

    def decided(self, scores: np.ndarray) -> np.ndarray:
        """What :meth:`predict` makes of scores."""
        if self.layout.target == "classes":
            return scores.argmax(1)
        return (scores > 0).astype(np.int64) if self.layout.target in BINARY else scores

    def predict_proba(self, x: np.ndarray, length: np.ndarray | None = None, *, batch_size: int = 128) -> np.ndarray:
        """Probabilities of classes or labels, (n, K), or of the cells of masks, (n, C, *S), for raw data.

        Raises:
            InputError: the task has no classes, or the data does not fit.
        """
        return self.probabilities(self.scores(x, length, batch_size=batch_size))

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """What :meth:`predict_proba` makes of scores."""
        if not self.layout.probable:
            raise InputError(f"a model of a {self.layout.target} has no probabilities; use predict")
        values = torch.from_numpy(scores)
        return (values.softmax(1) if self.layout.target == "classes" else values.sigmoid()).numpy()

    def scores(self, x: np.ndarray, length: np.ndarray | None = None, *, batch_size: int = 128) -> np.ndarray:
        """The network's plain output for raw data, float32: logits or values, (n, K) or (n, C, *S)."""
        data, device = self.inputs(x, length), next(self.parameters()).device
        return answers(self, data, device=device, batch_size=batch_size, call=self.answer)

    def inputs(self, x: np.ndarray, length: np.ndarray | None = None) -> Examples:
        """Raw data as the network takes it, without targets.

        Raises:
            InputError: the data does not fit what the model was trained on.
        """
        values, valid = self.spec.encoding.encode(np.asarray(x), length)
        if not len(values):
            raise InputError("there are no samples; give at least one")
        expected = self.layout.input_shape
        fits = values.shape[1:] == expected if self.layout.input == "table" else values.shape[1] == expected[0]
        if not fits or values.ndim != len(expected) + 1:
            raise InputError(
                f"the model takes inputs of shape (n, {', '.join(map(str, expected))}); got {values.shape}"
            )
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise InputError(f"the input has values that are not finite, first in sample {row}; remove or fill them")
        return Examples(values, np.zeros(len(values)), valid)

    def save_pretrained(self, folder: str | Path, *, trained_only: bool = False) -> None:
        """Writes ``config.json`` and ``model.safetensors``.

        Args:
            folder: where to.
            trained_only: write ``trained.safetensors`` instead, without the weights that are as the body has them.

        Raises:
            InputError: it is not known where these are from.
        """
        folder, left_out = Path(folder), self.untrained() if trained_only else set()
        if left_out and self.spec.base is None:
            raise InputError("this model does not know where the weights that did not train are from; save it whole")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, self.spec.model_dump(mode="json"))
        file, other = (TRAINED, WEIGHTS) if trained_only else (WEIGHTS, TRAINED)
        save_tensors(folder / file, {name: v for name, v in self.state_dict().items() if name not in left_out})
        (folder / other).unlink(missing_ok=True)  # of a model that was saved here before

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, online: bool = False) -> AdaptedModel:
        """Reads what :meth:`save_pretrained` wrote, in evaluation mode.

        Args:
            folder: where it is. The body's own weights are not needed, unless the trained part alone lies there.
            online: whether the hub may be asked for these.

        Raises:
            InputError: the folder holds no adapted model, its weights are another model's, or the body is not here.
        """
        spec, file = find_model(Path(folder))
        encoder, part = build_encoder(spec.body, causal=spec.causal), file.name == TRAINED
        if part and spec.base is not None:
            load_part(encoder, body_weights(spec.base, online=online))
        model = cls.around(encoder, spec)
        load_into(model, load_tensors(file)[0], str(file), left_out=model.untrained() if part else ())
        return model.eval()

    @classmethod
    def around(cls, encoder: Encoder | VisionEncoder, spec: ModelSpec) -> AdaptedModel:
        """A model of a spec around its body's encoder, with what the method inserts; its weights are loaded later."""
        statistics = blank_statistics(spec.layout, spec.embed)
        embedder = build_embedder(spec.layout, blank_law(spec.law), statistics, spec.embed)
        model = cls(embedder, encoder, build_predictor(spec.layout, embedder, encoder, statistics), spec)
        if spec.method is not None:
            model.equip(spec.method, base=spec.base, rows=spec.rows)
        return model


def load(path: str | Path) -> AdaptedModel:
    """The adapted model of a run's folder, or of one that :meth:`AdaptedModel.save_pretrained` wrote.

    Raises:
        InputError: there is none.
    """
    return AdaptedModel.from_pretrained(path)
