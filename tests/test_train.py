"""The training loop: it learns, accumulates, resumes and selects as it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orca.checkpoint import load_into, load_tensors
from orca.errors import InputError, TrainingError
from orca.metrics import DEFAULT_METRIC, METRICS
from orca.train import FinetuneConfig, Fit, epoch_order, loss_of, rate_factor
from tests.tiny import LAYOUTS, tiny_adapted, tiny_examples


def quiet(facts: dict[str, Any]) -> None:
    pass


def fit(work: Path, target: str = "classes", *, count: int = 48, progress=quiet, dropout: bool = True, **settings):  # noqa: ANN202
    model = tiny_adapted(target)
    if not dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    config = FinetuneConfig(**{"epochs": 3, "batch_size": 16, "lr": 1e-3, **settings})
    model.equip(config.choice, rows=count)
    loop = Fit(
        model,
        config,
        metric=METRICS.get(DEFAULT_METRIC[target]),
        seed=5,
        dtype=None,
        work=work,
    )
    report = loop.run(tiny_examples(target, count), tiny_examples(target, 24, seed=1), progress=progress)
    return model, report


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_it_learns_each_kind_of_target(target: str, tmp_path) -> None:
    settings = {"epochs": 30, "head_lr": 1e-2, "embedder_lr": 3e-3, "patience": 30}
    _, report = fit(tmp_path, target, count=96, dropout=False, **settings)
    first, last = report.history[0]["train_loss"], min(r["train_loss"] for r in report.history)
    assert last < 0.5 * first


def test_the_same_seed_gives_the_same_curve_and_weights(tmp_path) -> None:
    (a, one), (b, two) = fit(tmp_path / "a"), fit(tmp_path / "b")
    assert [r["train_loss"] for r in one.history] == [r["train_loss"] for r in two.history]
    assert all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())


def test_four_micro_batches_equal_one_batch(tmp_path) -> None:
    (a, _), (b, _) = (fit(tmp_path / str(k), dropout=False, epochs=1, accumulate=k) for k in (1, 4))
    for name, value in weights(a).items():
        torch.testing.assert_close(weights(b)[name], value, atol=1e-5, rtol=1e-4)


def test_uneven_micro_batches_are_weighted_by_their_samples(tmp_path) -> None:
    (a, _), (b, _) = (fit(tmp_path / str(k), dropout=False, epochs=1, batch_size=7, accumulate=k) for k in (1, 3))
    for name, value in weights(a).items():
        torch.testing.assert_close(weights(b)[name], value, atol=1e-5, rtol=1e-4)


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_goes_on_and_ends_bit_for_bit_the_same(stop: int, tmp_path) -> None:
    def die(facts: dict[str, Any]) -> None:
        if facts.get("epoch") == stop and "val_metric" in facts:
            raise Stopped

    whole, report = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "again", progress=die)
    torch.manual_seed(999)  # the global state of another process
    resumed, again = fit(tmp_path / "again")
    assert [r["train_loss"] for r in report.history] == [r["train_loss"] for r in again.history]
    assert (report.best_epoch, report.best_value) == (again.best_epoch, again.best_value)
    assert all(torch.equal(v, weights(resumed)[k]) for k, v in weights(whole).items())


def test_the_best_epoch_by_validation_is_kept(tmp_path) -> None:
    model, report = fit(tmp_path, epochs=6, patience=6)
    values = [r["val_metric"] for r in report.history]
    assert report.best_value == min(values)
    assert report.best_epoch == values.index(min(values)) + 1
    best, _ = load_tensors(tmp_path / "checkpoint" / "best.safetensors")
    assert all(torch.equal(v, best[k]) for k, v in weights(model).items())


def test_training_stops_when_validation_no_longer_improves(tmp_path) -> None:
    _, report = fit(tmp_path, epochs=50, patience=2, lr=1e-12, head_lr=1e-12, embedder_lr=1e-12)
    assert len(report.history) == 3


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_rates(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 1; lower finetune.lr \(now 1e\+30\)"):
        fit(tmp_path, lr=1e30, head_lr=1e30, embedder_lr=1e30, epochs=9, warmup=0.0)


def test_counts_of_parameters_follow_the_method(tmp_path) -> None:
    model, report = fit(tmp_path, method="head", epochs=1)
    assert report.trained == sum(p.numel() for p in model.predictor.parameters())
    assert report.total == sum(p.numel() for p in model.parameters())


def test_balanced_draws_show_classes_equally_often() -> None:
    data = tiny_examples("classes", 300)
    rare = data.subset(np.flatnonzero((data.y == 0) | (np.arange(300) % 50 < 3)))
    config = FinetuneConfig(balanced=True, epoch_samples=6000)
    order = epoch_order(rare, config, torch.Generator().manual_seed(0))
    share = np.bincount(rare.y[order], minlength=3) / len(order)
    assert np.abs(share - 1 / 3).max() < 0.03
    assert np.bincount(rare.y).max() > 3 * np.bincount(rare.y).min()


def test_an_epoch_is_a_permutation_or_a_part_of_one() -> None:
    data, draw = tiny_examples("classes", 30), torch.Generator().manual_seed(0)
    assert sorted(epoch_order(data, FinetuneConfig(), draw)) == list(range(30))
    part = epoch_order(data, FinetuneConfig(epoch_samples=7), draw)
    assert len(set(part.tolist())) == 7


def test_the_rate_rises_and_falls_to_zero() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert all(a >= b for a, b in zip(factors[9:], factors[10:], strict=False))
    assert rate_factor(100, 100, 0.1) == pytest.approx(0.0)
    assert rate_factor(0, 100, 0.0) == 1.0


def test_losses_meet_known_answers() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    wanted = -(math.log(math.e**2 / (math.e**2 + 1)) + math.log(1 / (1 + math.e))) / 2
    assert loss_of(logits, torch.tensor([0, 0]), "classes").item() == pytest.approx(wanted)
    assert loss_of(torch.zeros(2, 3), torch.ones(2, 3), "multilabel").item() == pytest.approx(math.log(2))
    scalar = loss_of(torch.tensor([[3.0]]), torch.tensor([[1.0]]), "scalar", torch.tensor([4.0]))
    assert scalar.item() == pytest.approx(0.25)
    truth = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    guess = torch.tensor([[[0.0, 0.0]], [[1.0, 0.5]]])
    assert loss_of(guess, truth, "field").item() == pytest.approx((1.0 + 0.5) / 2)
    two = torch.tensor([[[3.0, 4.0], [300.0, 400.0]]])  # channels of other units count alike
    assert loss_of(two - torch.tensor([[0.5], [10.0]]), two, "field").item() == pytest.approx((0.1 + 0.02) / 2**0.5)


def test_a_channel_that_is_zero_in_a_sample_does_not_drown_the_others() -> None:
    truth = torch.stack([torch.ones(2, 16), torch.zeros(2, 16)], dim=1)  # (2, 2, 16)
    std = torch.tensor([1.0, 20.0]).view(2, 1)
    loss = loss_of(truth + torch.tensor([0.1, 0.02]).view(2, 1), truth, "field", std)
    assert loss.item() == pytest.approx((0.1 + 0.02 / 0.2) / 2)
    above = torch.tensor([[[3.0, 4.0]], [[0.3, 0.4]]])
    assert loss_of(above + 1, above, "field", torch.ones(1, 1)) == loss_of(above + 1, above, "field")


def test_fields_are_trained_in_the_scale_of_the_training_set(tmp_path) -> None:
    model = tiny_adapted("field")
    fit = Fit(model, FinetuneConfig(), metric=METRICS.get("nrmse"), seed=0, dtype=None, work=tmp_path)
    assert fit.scale is model.predictor.std


def test_losses_of_dense_targets_leave_out_cells_that_do_not_count() -> None:
    output = torch.tensor([[[0.0, 9.0]], [[0.0, -5.0]]], requires_grad=True)
    field = loss_of(output, torch.tensor([[[2.0, math.nan]], [[math.nan, -5.0]]]), "field")
    assert field.item() == pytest.approx((1.0 + 0.0) / 2)
    mask = loss_of(output, torch.tensor([[[1.0, -1.0]], [[0.0, 0.0]]]), "mask")
    assert mask.item() == pytest.approx((math.log(2) + (math.log(2) + math.log1p(math.exp(-5))) / 2) / 2)
    gradient = torch.autograd.grad(field + mask, output)[0]
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0, 1] == 0


def test_a_checkpoint_of_another_model_is_refused(tmp_path) -> None:
    fit(tmp_path, epochs=1)
    tensors, _ = load_tensors(tmp_path / "checkpoint" / "best.safetensors")
    with pytest.raises(InputError, match=r"holds another model: \d+ tensors do not fit, first"):
        load_into(tiny_adapted("field"), tensors, "best.safetensors")
