"""Many tasks on one body: the small parts of several runs around a single copy of the body's weights.

**Which runs.** All must have the same body: the same architecture, and the same weights wherever a run left them alone.
That is found by the weights themselves, tensor by tensor, whether a run was saved whole or as its trained part. What a
run changed of the body must be small, at most a tenth of its weights. So ``head``, ``knn``, ``prompt``, ``prefix``,
``adapter``, ``lora``, ``ia3``, ``bitfit`` and ``layernorm`` qualify; ``full``, ``scratch``, ``lp-ft``, ``peft-ft`` and,
as a rule, ``partial`` do not. This is measured and not looked up, so a new method needs nothing here.

**One pass.** Tasks whose blocks are all the shared ones (``head``, ``knn``, and ``prompt``, which works at the ends of
the encoder) go through the body together, whatever their modality: the token rows of a mixed batch are padded, masked
and cut again. Others go task by task. Padding costs too, so rows are joined only while it stays below what another pass
costs. Bodies of vision take no padding: there rows of one grid are joined.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from embedders import Tokens
from orca.batches import to_batch
from orca.bodies import AnyEncoder, Encoder
from orca.errors import InputError
from orca.methods import INSERTED
from orca.model import AdaptedModel
from orca.modelspec import find_model
from orca.runs import finished_path
from orca.shared_body import SharedBody
from orca.store import Store, default_root
from orca.types import DENSE, Examples

SPARE = {"cpu": 32}  # tokens of padding that cost about as much as another pass, which reads all weights again
SPARE_ELSEWHERE = 4096

Request = tuple[str, Any] | tuple[str, Any, Any]


@dataclass(eq=False)
class _Piece:
    """Samples of one task on their way through the body: one view of them."""

    task: _Task
    tokens: Tokens
    size: tuple[int, ...]
    x: Tensor
    mask: Tensor | None
    features: list[Tensor | None] = field(default_factory=list)

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The tokens (T, D) of each sample and their mask (T,); what is padding is left out where nobody reads it."""
        mask = torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device) if self.mask is None else self.mask
        whole = self.mask is None or self.task.dense
        counts = [self.x.shape[1]] * len(self.x) if whole else mask.sum(1).tolist()
        return ((x[:count], valid[:count]) for x, valid, count in zip(self.x, mask, counts, strict=True))


class _Task:
    """A run's model, and the encoder that its tokens go through."""

    def __init__(self, model: AdaptedModel, shared: AnyEncoder) -> None:
        known = {id(p) for p in shared.parameters()}
        own = [key for key, p in model.encoder.named_parameters() if id(p) not in known]
        self.model, self.dense = model, model.layout.target in DENSE
        self.together = all(key.startswith(f"{INSERTED}.") for key in own)  # its blocks are those of the shared body
        self.encoder = shared if self.together else model.encoder

    def enter(self, x: Tensor, length: Tensor | None) -> Iterator[_Piece]:
        """Inputs, in each of their views, as what goes through the encoder."""
        for view in self.model.views(x, length):
            tokens = self.model.embedder(view, length)
            given: tuple[Any, ...] = (tokens.x, tokens.mask)
            for hook in self._hooks("_forward_pre_hooks"):
                given = hook(self.model.encoder, given)
            yield _Piece(self, tokens, tuple(view.shape[2:]), *given[:2])

    def leave(self, piece: _Piece) -> Tensor:
        """The answers to a piece whose features are there."""
        features = pad_sequence([row for row in piece.features if row is not None], batch_first=True)
        for hook in self._hooks("_forward_hooks"):
            features = hook(self.model.encoder, (), features)
        grid = self.model.encoder.grid(piece.tokens.grid)
        return self.model.read(Tokens(features, piece.tokens.mask, grid), piece.size)

    def _hooks(self, kind: str) -> list[Callable[..., Any]]:
        """What a method does at the ends of the encoder, where the shared one, which does it not, stands for it."""
        return list(getattr(self.model.encoder, kind).values()) if self.together else []


class _Sample(NamedTuple):
    """One row of a request's data."""

    request: int
    row: int
    task: _Task
    data: Examples


class MultiTask(nn.Module):
    """One body that answers requests of several tasks, each as the run of that task alone would.

    It is a module, so ``to(device)`` moves it; the weights stay shared.

    Args:
        runs: names of runs, folders of runs, or folders that :meth:`AdaptedModel.save_pretrained` wrote.
        names: what requests call them; the names of their tasks if None.
        store: folder of stages and runs, for names; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for the body, which runs stored as their trained part alone need.

    Attributes:
        names: of the tasks.
        body: the shared encoder.

    Raises:
        InputError: a run is not there, has another body, or changed too much of it; names are missing or double.
    """

    def __init__(
        self, runs: Sequence[str | Path], names: Sequence[str] | None = None, *, store: str | Path | None = None,
        online: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(runs, (str, Path)) or not runs:
            raise InputError("MultiTask needs a list of runs, such as [path, path]")
        place = Store(Path(store) if store else default_root())
        folders = [Path(run) if Path(run).is_dir() else finished_path(place, str(run)) for run in runs]
        self.names = list(names) if names is not None else [find_model(folder)[0].task for folder in folders]
        double = [name for name, count in Counter(self.names).items() if count > 1]
        if double or len(self.names) != len(folders):
            fault = f"{len(folders)} runs and {len(self.names)} names" if not double else f"two runs of '{double[0]}'"
            raise InputError(f"each run needs a name of its own; there are {fault}: give names=")
        body = SharedBody(online=online)
        self.models = nn.ModuleList([body.join(*pair) for pair in zip(self.names, folders, strict=True)])
        assert body.encoder is not None
        self.body = body.encoder
        self.eval().requires_grad_(False)  # noqa: FBT003
        self._tasks = {n: _Task(m, self.body) for n, m in zip(self.names, self.models, strict=True)}  # type: ignore[arg-type]

    def predict(self, requests: Sequence[Request], *, batch_size: int = 128) -> list[np.ndarray]:
        """Answers requests of any tasks, mixed.

        Args:
            requests: each (name, x) or (name, x, length), as ``predict`` of the run's model takes them: x (n, ...)
                holds one raw sample or several.
            batch_size: samples at once, of whatever task.

        Returns:
            What ``predict`` of the run's model gives, for each request, in their order.

        Raises:
            InputError: there is no such task, or the data does not fit it; the message says which request.
        """
        made = zip(requests, self.scores(requests, batch_size=batch_size), strict=True)
        return [self._tasks[request[0]].model.decided(scores) for request, scores in made]

    def predict_proba(self, requests: Sequence[Request], *, batch_size: int = 128) -> list[np.ndarray]:
        """Probabilities for requests of tasks that have them, as :meth:`predict` takes them.

        Raises:
            InputError: as :meth:`predict`, or a task has no probabilities.
        """
        for number, request in enumerate(requests):
            if not (layout := self._task(number, request).model.layout).probable:
                raise InputError(f"request {number}, of '{request[0]}': a {layout.target} has no probabilities")
        made = zip(requests, self.scores(requests, batch_size=batch_size), strict=True)
        return [self._tasks[request[0]].model.probabilities(scores) for request, scores in made]

    @torch.no_grad()
    def scores(self, requests: Sequence[Request], *, batch_size: int = 128) -> list[np.ndarray]:
        """The networks' plain outputs for raw data, float32, for each request."""
        data = [self._inputs(number, request) for number, request in enumerate(requests)]
        samples = [_Sample(number, i, *of) for number, of in enumerate(data) for i in range(len(of[1]))]
        made: list[list[np.ndarray]] = [[] for _ in data]
        for start in range(0, len(samples), batch_size):
            window = samples[start : start + batch_size]
            for sample, answer in zip(window, self._answers(window), strict=True):
                made[sample.request].append(answer)
        return [np.stack(answers) for answers in made]

    def _task(self, number: int, request: Request) -> _Task:
        if not isinstance(request, (tuple, list)) or len(request) not in (2, 3) or not isinstance(request[0], str):
            raise InputError(f"request {number} must be (name, x) or (name, x, length); got {type(request).__name__}")
        if request[0] not in self._tasks:
            known = ", ".join(self.names)
            raise InputError(f"request {number} asks for the task '{request[0]}'; there are: {known}")
        return self._tasks[request[0]]

    def _inputs(self, number: int, request: Request) -> tuple[_Task, Examples]:
        task = self._task(number, request)
        try:
            return task, task.model.inputs(*request[1:])
        except ValueError as fault:
            raise InputError(f"request {number}, of '{request[0]}': {fault}") from fault

    def _answers(self, samples: list[_Sample]) -> list[np.ndarray]:
        """The answer to each sample of a mixed batch."""
        device = next(self.body.parameters()).device
        groups: dict[Any, list[int]] = defaultdict(list)  # what is one array for embedder and predictor
        for place, (number, _, task, data) in enumerate(samples):
            apart = number if task.dense else None  # the end of a short field depends on its company
            groups[task, data.x.shape[1:], data.length is None, apart].append(place)
        entered = []
        for (task, *_), places in groups.items():
            x, _, length = to_batch(_joined([samples[place] for place in places]), np.arange(len(places)), device)
            entered.append((task, places, list(task.enter(x, length))))
        _run([piece for *_, pieces in entered for piece in pieces], SPARE.get(device.type, SPARE_ELSEWHERE))
        made: dict[int, np.ndarray] = {}
        for task, places, pieces in entered:
            outputs = task.model.averaged([task.leave(piece) for piece in pieces])
            made |= dict(zip(places, outputs.float().cpu().numpy(), strict=True))
        return [made[place] for place in range(len(samples))]


def _joined(samples: list[_Sample]) -> Examples:
    parts = [sample.data.subset(np.array([sample.row])) for sample in samples]
    lengths = [part.length for part in parts if part.length is not None]
    return Examples(
        np.concatenate([part.x for part in parts]), np.zeros(len(parts)), np.concatenate(lengths) if lengths else None
    )


def _run(pieces: list[_Piece], spare: int) -> None:
    """Runs the tokens of all pieces through their encoders, in as few passes as pay, and puts the features there."""
    lines: dict[Any, list[tuple[Tensor, Tensor, _Piece, int]]] = defaultdict(list)
    for piece in pieces:
        piece.features = [None] * len(piece.x)
        grid = None if isinstance(piece.task.encoder, Encoder) else piece.tokens.grid
        for row, (x, mask) in enumerate(piece.rows()):
            lines[piece.task.encoder, grid].append((x, mask, piece, row))
    for (encoder, grid), rows in lines.items():
        for chosen in passes([len(x) for x, *_ in rows], spare):
            picked = [rows[i] for i in chosen]
            x = pad_sequence([tokens for tokens, *_ in picked], batch_first=True)
            mask = pad_sequence([valid for _, valid, *_ in picked], batch_first=True)
            found = encoder(x, None if mask.all() else mask, grid)
            for (own, _, piece, row), features in zip(picked, found, strict=True):
                piece.features[row] = features[: len(own)]


def passes(counts: Sequence[int], spare: int) -> Iterator[list[int]]:
    """Rows of so many tokens in passes, longest first; none holds more than ``spare`` tokens of padding."""
    taken: list[int] = []
    padding = 0
    for row in sorted(range(len(counts)), key=counts.__getitem__, reverse=True):
        padding += counts[taken[0]] - counts[row] if taken else 0
        if padding > spare:
            yield taken
            taken, padding = [], 0
        taken.append(row)
    yield taken
