"""Alignment: it lowers the distance, keeps what validation prefers, stops, resumes, and labels what has no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orca import align as align_module
from orca.align import Align, AlignConfig
from orca.discrepancies import DISCREPANCIES
from orca.errors import TrainingError
from orca.pseudo_labels import pseudo_labels
from orca.sources import SourceConfig
from orca.types import LabeledSet
from tests.tiny import LAYOUTS, tiny_adapted, tiny_examples


def quiet(facts: dict[str, Any]) -> None:
    pass


def source(width: int = 16, classes: int = 4, each: int = 20) -> LabeledSet:
    draw = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(classes, width, generator=draw)
    y = torch.arange(classes).repeat_interleave(each)
    return LabeledSet(centres[y] + 0.3 * torch.randn(len(y), width, generator=draw), y)


def aligned(work: Path, target: str = "classes", *, progress=quiet, **settings):  # noqa: ANN202
    model = tiny_adapted(target)
    config = AlignConfig(**{"epochs": 12, "samples_per_class": 8, "probe_every": 4, "probe_samples": 24, **settings})
    loop = Align(model, source(), config, seed=1, dtype=None, work=work)
    state = loop.run(tiny_examples(target, 60), tiny_examples(target, 30, seed=1), progress=progress)
    return model, state


@pytest.mark.parametrize("features", ["token", "mean"])
@pytest.mark.parametrize("objective", DISCREPANCIES.names())
def test_every_discrepancy_is_lowered(objective: str, features: str, tmp_path) -> None:
    steps = {"epochs": 25, "lr": 3e-2, "min_improvement": 0.0, "keep": "last"}
    _, state = aligned(tmp_path, objective=objective, features=features, **steps)
    values = [record["objective"] for record in state.history]
    assert len(values) == 25
    assert np.mean(values[-5:]) < 0.9 * np.mean(values[:5])


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_it_runs_on_every_kind_of_target_and_leaves_encoder_and_predictor_alone(target: str, tmp_path) -> None:
    fresh = tiny_adapted(target)
    model, state = aligned(tmp_path, target, epochs=3)
    assert np.isfinite([record["objective"] for record in state.history]).all()
    for name in ("encoder", "predictor"):
        before, after = getattr(fresh, name).state_dict(), getattr(model, name).state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("target", "probes", "kept"),
    [
        ("classes", [50, 40, 30, 45], 12),
        ("classes", [50, 90], 0),
        ("classes", [50, 51, 55], 4),
        ("classes", [50, 40, 51, 90], 8),
        ("scalar", [50, 40, 30, 45], 12),
        ("scalar", [50, 40, 30, 49], 0),
        ("scalar", [50, 40, 60], 0),
        ("scalar", [50, 51, 50, 49], 0),
    ],
)
def test_the_last_embedder_that_the_probe_lets_pass_is_kept(
    target: str, probes: list[int], kept: int, tmp_path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """Of 100 samples so many are wrong; one that turns is within the standard error, five are not.

    What is surely worse ends the alignment. Where the classes are no true ones, the end has to be surely better.
    """
    seen: list[dict[str, torch.Tensor]] = []
    answers = iter(probes)

    def scripted(model, *args: Any, **kwargs: Any) -> np.ndarray:  # noqa: ANN001
        seen.append({k: v.clone() for k, v in model.embedder.state_dict().items()})
        return (np.arange(100) < next(answers)).astype(float)

    monkeypatch.setattr(align_module, "probe", scripted)
    with caplog.at_level("INFO", "orca.align"):
        model, state = aligned(tmp_path, target, lr=1e-2)
    assert ("surely worse than 0.5, unaligned" in caplog.text) == (max(probes) > 51)
    assert (state.kept_epoch, state.first_probe) == (kept, probes[0] / 100)
    assert state.kept_probe == probes[kept // 4] / 100
    assert (state.epoch, len(seen)) == (4 * (len(probes) - 1), len(probes))
    wanted = seen[kept // 4]
    assert all(torch.equal(value, wanted[key]) for key, value in model.embedder.state_dict().items())


@pytest.mark.parametrize("epochs", [12, 6])
def test_without_the_guard_the_last_embedder_goes_on_whatever_the_probe_says(
    epochs: int, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that differs from the guarded alignment is which embedder is kept."""
    answers = [0.5, 0.6, 0.7, 0.8]

    def worse(*args: Any, **kwargs: Any) -> np.ndarray:
        return np.full(100, answers.pop(0))

    monkeypatch.setattr(align_module, "probe", worse)
    model, state = aligned(tmp_path / "last", epochs=epochs, lr=1e-2, keep="last")
    assert (state.kept_epoch, state.first_probe, state.kept_probe) == (epochs, 0.5, state.history[-1]["probe"])
    answers[:] = [0.8, 0.7, 0.6, 0.5]
    guarded, other = aligned(tmp_path / "guarded", epochs=epochs, lr=1e-2)
    assert [record["objective"] for record in state.history] == [record["objective"] for record in other.history]
    assert other.kept_epoch == epochs
    assert all(torch.equal(v, guarded.embedder.state_dict()[k]) for k, v in model.embedder.state_dict().items())


def test_it_stops_when_the_distance_no_longer_falls(tmp_path) -> None:
    _, state = aligned(tmp_path, epochs=80, lr=1e-9, min_improvement=0.05)
    assert state.stopped
    assert 20 <= state.epoch < 80


@pytest.mark.parametrize("objective", DISCREPANCIES.names())
def test_an_alignment_that_diverges_ends_with_the_unaligned_embedder_and_says_what_to_change(
    objective: str, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    unaligned = tiny_adapted().embedder.state_dict()
    model, state = aligned(tmp_path, objective=objective, lr=1e38)
    assert (state.diverged, state.kept_epoch) == (True, 0)
    assert state.epoch < 12
    assert all(torch.equal(value, unaligned[key]) for key, value in model.embedder.state_dict().items())
    assert "alignment diverged in step 2: the embedded data is not finite; lower align.lr (now 1e+38)" in caplog.text


@pytest.mark.parametrize("epochs", [1, 6])
def test_a_last_step_that_ruins_the_embedder_is_a_divergence_too(epochs: int, tmp_path) -> None:
    """The objective of a step tells of the embedder before it, the probe after the last one of what came of it."""
    model, state = aligned(tmp_path / "guarded", epochs=epochs, probe_every=epochs, lr=1e38)
    assert (state.diverged, state.kept_epoch) == (True, 0)
    assert all(value.isfinite().all() for value in model.embedder.state_dict().values())
    with pytest.raises(TrainingError, match="alignment diverged"):
        aligned(tmp_path / "last", epochs=epochs, lr=1e38, keep="last")


def test_features_too_large_to_be_squared_are_a_divergence_and_no_fault_of_the_data(tmp_path) -> None:
    _, state = aligned(tmp_path, lr=1e19)
    assert state.diverged


def test_moments_that_overflow_after_a_step_are_a_divergence_and_no_fault_of_the_data(tmp_path) -> None:
    """The features can be squared, their third moments cannot be taken."""
    _, state = aligned(tmp_path, objective="otdd-sliced", lr=1e15)
    assert (state.diverged, state.kept_epoch) == (True, 0)


def test_the_embedder_of_a_diverged_step_is_not_kept_though_it_can_be_probed(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(align_module, "probe", lambda *_, **__: np.full(8, 0.5))
    _, state = aligned(tmp_path, lr=1e38)
    assert (state.epoch, state.diverged, state.kept_epoch) == (2, True, 0)


def test_a_diverged_alignment_that_is_always_to_be_kept_is_a_fault(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"alignment diverged in step 2.*lower align\.lr"):
        aligned(tmp_path, lr=1e38, keep="last")


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("keep", ["probe", "last"])
def test_a_stopped_alignment_goes_on_and_ends_bit_for_bit_the_same(keep: str, tmp_path) -> None:
    def die(facts: dict[str, Any]) -> None:
        if facts["epoch"] == 5:
            raise Stopped

    whole, one = aligned(tmp_path / "whole", lr=1e-2, keep=keep)
    with pytest.raises(Stopped):
        aligned(tmp_path / "again", lr=1e-2, keep=keep, progress=die)
    torch.manual_seed(99)
    resumed, two = aligned(tmp_path / "again", lr=1e-2, keep=keep)
    assert one.kept_epoch == two.kept_epoch
    assert [r["objective"] for r in one.history] == [r["objective"] for r in two.history]
    assert all(torch.equal(v, resumed.embedder.state_dict()[k]) for k, v in whole.embedder.state_dict().items())


def test_a_step_shows_each_class_equally_often(tmp_path) -> None:
    loop = Align(
        tiny_adapted(), source(), AlignConfig(samples_per_class=10, max_samples=24), seed=0,
        dtype=None, work=tmp_path,
    )  # fmt: skip
    labels = np.array([0] * 500 + [1] * 20 + [2] * 3)
    assert np.bincount(labels[loop._sample(labels)]).tolist() == [8, 8, 3]


def test_token_features_are_valid_tokens_and_mean_features_their_mean(tmp_path) -> None:
    tokens = torch.arange(24.0).reshape(2, 6, 2)
    mask = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    for kind in ("token", "mean"):
        loop = Align(
            tiny_adapted(), source(), AlignConfig(features=kind), seed=0, dtype=None,
            work=tmp_path,
        )  # fmt: skip
        got = [loop._features(tokens, mask) for _ in range(40)]
        if kind == "mean":
            torch.testing.assert_close(got[0], torch.tensor([[5.0, 6.0], [13.0, 14.0]]))
        else:
            assert {tuple(g[1].tolist()) for g in got} == {(12.0, 13.0), (14.0, 15.0)}


def test_like_is_compared_with_like_unless_said_otherwise() -> None:
    def features(given: str | None, **source_settings: Any) -> str | None:
        return AlignConfig(features=given).resolved(SourceConfig(**source_settings)).features

    assert features(None) == "token"
    assert features(None, features="sentence") == features(None, name="cifar10") == "mean"
    assert features("mean") == "mean"
    assert features("token", features="sentence") == "token"


def test_a_probe_that_is_not_finite_is_no_reason_to_keep_an_embedder(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    answers = iter([0.5, np.inf])
    monkeypatch.setattr(align_module, "probe", lambda *_, **__: np.full(8, next(answers)))
    _, state = aligned(tmp_path)
    assert (state.kept_epoch, state.diverged) == (0, True)


def test_true_classes_are_their_own_labels() -> None:
    y = np.array([2, 0, 1, 1])
    assert pseudo_labels(y, "classes", classes=10, seed=0).tolist() == y.tolist()


@pytest.mark.parametrize("shape", [(3,), (1, 12, 12)])
def test_pseudo_labels_find_clusters_and_follow_the_seed(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    centres = 10 * draw.normal(size=(4, *shape))
    truth = np.arange(2100) % 4  # more rows than a block
    y = (centres[truth] + 0.1 * draw.normal(size=(2100, *shape))).astype(np.float32)
    labels = pseudo_labels(y, "field" if len(shape) > 1 else "scalar", classes=4, seed=3)
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == 4
    assert sorted(set(labels)) == [0, 1, 2, 3]
    assert np.array_equal(labels, pseudo_labels(y, "field", classes=4, seed=3))


@pytest.mark.parametrize("shape", [(2,), (2, 5)])
def test_pseudo_labels_heed_every_column_or_channel_whatever_its_unit(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    unit = np.array([1e4, 1]).reshape(2, *[1] * (len(shape) - 1))
    truth = np.arange(400) % 4
    sides = np.stack([truth // 2, truth % 2], 1).reshape(400, 2, *[1] * (len(shape) - 1))
    y = (unit * (2 * sides - 1 + 0.1 * draw.normal(size=(400, *shape)))).astype(np.float32)
    labels = pseudo_labels(y, "field" if len(shape) > 1 else "scalar", classes=4, seed=0)
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == 4


def test_pseudo_labels_of_few_distinct_targets_have_no_empty_class() -> None:
    y = np.array([[0, 1], [1, 0], [1, 1], [0, 1]] * 20)
    labels = pseudo_labels(y, "multilabel", classes=10, seed=0)
    assert sorted(set(labels)) == [0, 1, 2]
