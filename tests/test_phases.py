"""Methods in the training loop: phases begin when they should, and a stopped run of any method goes on the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orca.checkpoint import load_tensors
from orca.methods import METHODS, MethodChoice
from tests.test_methods import OPTIONS
from tests.test_train import Stopped, fit, weights

every_method = pytest.mark.parametrize("name", [m.name for m in METHODS if MethodChoice(name=m.name).phases])


class Watch:
    """Keeps the weights as they are after each epoch, from the checkpoint."""

    def __init__(self, work: Path) -> None:
        self.file, self.after = work / "checkpoint" / "state.safetensors", []

    def __call__(self, facts: dict[str, Any]) -> None:
        if "val_metric" in facts:
            tensors, told = load_tensors(self.file)
            self.after.append(({k: v for k, v in tensors.items() if k.startswith("module/")}, told))


def test_the_head_trains_alone_first_and_then_everything(tmp_path) -> None:
    watch = Watch(tmp_path)
    _, report = fit(tmp_path, method="lp-ft", epochs=5, options={"share": 0.4}, progress=watch)
    assert [told["phase"] for _, told in watch.after] == [0, 0, 1, 1, 1]
    parts = [{name.split("/")[1].split(".")[0] for name in tensors if "norm" not in name} for tensors, _ in watch.after]
    assert "encoder" not in parts[0]
    assert parts[2] == {"embedder", "encoder", "predictor"}
    rates = [record["lr"] for record in report.history]
    assert rates[1] < rates[0]  # each phase has a warm-up and a decay of its own
    assert rates[4] < rates[2]


def test_the_second_phase_starts_from_the_best_of_the_first(tmp_path) -> None:
    still = {"lr": 1e-30, "embedder_lr": 1e-30, "head_lr": 1e-30}
    model, report = fit(tmp_path, method="lp-ft", epochs=4, patience=1, weight_decay=0, dropout=False, **still)
    assert len(report.history) == 4  # patience ends a phase, not the training: two epochs of each
    assert len({record["val_metric"] for record in report.history}) == 1
    assert report.trained == report.total
    assert set(load_tensors(tmp_path / "checkpoint" / "best.safetensors")[0]) == set(model.state_dict())


def test_the_best_weights_of_an_earlier_phase_come_back_whole(tmp_path) -> None:
    settings = {"method": "lp-ft", "epochs": 4, "patience": 4, "head_lr": 1e-2, "dropout": False}
    first, _ = fit(tmp_path / "head", **{**settings, "method": "head", "epochs": 2, "patience": 2})
    model, report = fit(tmp_path / "both", **settings, lr=10.0, embedder_lr=10.0)  # the second phase ruins everything
    assert report.best_epoch <= 2
    assert all(torch.equal(value, weights(first)[name]) for name, value in weights(model).items())


@pytest.mark.parametrize("stop", [1, 2, 3])
@every_method
def test_a_stopped_run_of_any_method_goes_on_and_ends_bit_for_bit_the_same(name: str, stop: int, tmp_path) -> None:
    def die(facts: dict[str, Any]) -> None:
        if facts.get("epoch") == stop and "val_metric" in facts:
            raise Stopped

    settings = {"method": name, "options": OPTIONS.get(name, {}), "epochs": 4}
    whole, report = fit(tmp_path / "whole", **settings)
    with pytest.raises(Stopped):
        fit(tmp_path / "again", progress=die, **settings)
    torch.manual_seed(999)  # the global state of another process
    resumed, again = fit(tmp_path / "again", **settings)
    assert [r["train_loss"] for r in report.history] == [r["train_loss"] for r in again.history]
    assert all(torch.equal(value, weights(resumed)[key]) for key, value in weights(whole).items())


@every_method
def test_a_checkpoint_holds_what_trains_and_not_what_stays_as_it_is(name: str, tmp_path) -> None:
    model, _ = fit(tmp_path, method=name, options=OPTIONS.get(name, {}), epochs=2)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    kept = set(load_tensors(tmp_path / "checkpoint" / "best.safetensors")[0]) & {n for n, _ in model.named_parameters()}
    assert kept == trained
