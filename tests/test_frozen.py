"""Features that stay as they are: computed once, equal to the plain loop; and nearest neighbours on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import orca.train
from orca.errors import InputError
from orca.methods import MethodChoice, Neighbours
from orca.methods.neighbours import NeighboursOptions
from orca.metrics import METRICS
from orca.model import AdaptedModel
from orca.types import Examples
from tests.test_train import Stopped, fit, quiet, weights
from tests.tiny import LAYOUTS, tiny_adapted, tiny_examples

CPU = torch.device("cpu")


class Counted:
    """Counts what goes through the body of every model while it stands."""

    def __init__(self, monkeypatch) -> None:
        self.rows, plain = 0, AdaptedModel.encode

        def encode(model: AdaptedModel, x: torch.Tensor, length: torch.Tensor | None = None) -> Any:
            self.rows += len(x)
            return plain(model, x, length)

        monkeypatch.setattr(AdaptedModel, "encode", encode)


@pytest.mark.parametrize("target", list(LAYOUTS))
def test_epochs_on_features_computed_once_equal_the_plain_loop(target: str, tmp_path, monkeypatch) -> None:
    settings = {"method": "head", "epochs": 4, "head_lr": 1e-2}
    counted = Counted(monkeypatch)
    once, quick = fit(tmp_path / "once", target, **settings)
    assert counted.rows == 48 + 24  # training and validation, once
    monkeypatch.setattr(orca.train, "pays", lambda *given, **more: False)
    plain, slow = fit(tmp_path / "plain", target, **settings)
    assert counted.rows == 72 + 4 * 72
    for key in ("train_loss", "val_metric"):
        np.testing.assert_allclose([r[key] for r in quick.history], [r[key] for r in slow.history], rtol=1e-4)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(once)[name], value, atol=1e-5, rtol=1e-4)


def test_sequences_of_several_lengths_and_pieces_of_one_recording_are_read_the_same(tmp_path, monkeypatch) -> None:
    def train(work: Path) -> list[dict[str, float]]:
        model, data = tiny_adapted(), tiny_examples("classes", 40)
        length = np.arange(40) % 12 + 1
        x = data.x * (np.arange(12) < length[:, None])[:, None]
        data = Examples(x, np.repeat(data.y[::2], 2), length, np.arange(40) // 2)
        config = orca.train.FinetuneConfig(method="head", epochs=3, batch_size=7)
        model.equip(config.choice)
        loop = orca.train.Fit(model, config, metric=METRICS.get("error"), seed=1, dtype=None, work=work)
        return loop.run(data, data, progress=quiet).history

    quick = train(tmp_path / "once")
    monkeypatch.setattr(orca.train, "pays", lambda *given, **more: False)
    slow = train(tmp_path / "plain")
    np.testing.assert_allclose([r["train_loss"] for r in quick], [r["train_loss"] for r in slow], rtol=1e-5)
    assert [r["val_metric"] for r in quick] == [r["val_metric"] for r in slow]


def test_the_first_phase_reads_kept_features_and_the_second_the_body(tmp_path, monkeypatch) -> None:
    counted = Counted(monkeypatch)
    fit(tmp_path, method="lp-ft", epochs=4)
    assert counted.rows == 72 + 2 * 72
    assert [path.name for path in tmp_path.rglob("*.npy")] == []


def test_few_rows_of_a_large_set_are_not_worth_all_its_features(tmp_path, monkeypatch) -> None:
    counted = Counted(monkeypatch)
    fit(tmp_path, method="head", epochs=2, epoch_samples=16)
    assert counted.rows == 2 * (16 + 24)


def test_features_go_with_their_folder_also_when_training_stops(tmp_path) -> None:
    def die(facts: dict[str, Any]) -> None:
        assert sorted(path.name for path in tmp_path.rglob("*.npy")) == ["train.npy", "val.npy"]
        raise Stopped

    with pytest.raises(Stopped):
        fit(tmp_path, method="head", progress=die)
    assert [path.name for path in tmp_path.rglob("features")] == []


def test_an_embedder_that_trains_has_no_features_to_keep(tmp_path, monkeypatch) -> None:
    counted = Counted(monkeypatch)
    before = weights(tiny_adapted())
    model, _ = fit(tmp_path, method="head", epochs=2, train_embedder=True)
    assert counted.rows == 2 * 72
    assert not torch.equal(weights(model)["embedder.conv.weight"], before["embedder.conv.weight"])


def neighbours(target: str, rows: int, **options: Any) -> Neighbours:
    return Neighbours(NeighboursOptions(**options), LAYOUTS[target], 2, rows)


def tokens(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows)[:, None]


def test_the_nearest_by_angle_around_the_mean_vote() -> None:
    known = neighbours("classes", 4, neighbours=2, temperature=1e6)
    at = torch.tensor([[11.0, 5.0], [11.0, 5.1], [9.0, 5.0], [9.0, 4.9]])  # the mean is (10, 5)
    known.remember(at, torch.tensor([0, 1, 2, 2]))
    shares = known(tokens((30.0, 5.0), (10.0 - 1e-3, 5.0)), None).exp()
    torch.testing.assert_close(shares, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), atol=1e-5, rtol=0)
    sharp = neighbours("classes", 4, neighbours=4, temperature=1e-4)
    sharp.remember(at, torch.tensor([0, 1, 2, 2]))
    assert sharp(tokens((30.0, 5.0)), None).argmax(1).tolist() == [0]


def test_labels_are_shares_of_the_neighbours_and_numbers_their_means() -> None:
    at = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-2.0, -0.1]])
    labels = neighbours("multilabel", 3, neighbours=2, temperature=1e6)
    labels.remember(at, torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]]))
    torch.testing.assert_close(
        labels(tokens((9.0, 0.0)), None).sigmoid(), torch.tensor([[1.0, 0.5, 0.0]]), atol=1e-5, rtol=0
    )
    numbers = neighbours("scalar", 3, neighbours=2, temperature=1e6)
    numbers.remember(at, torch.tensor([[1.0, 10.0], [3.0, 30.0], [0.0, 0.0]]))
    torch.testing.assert_close(numbers(tokens((9.0, 0.0)), None), torch.tensor([[2.0, 20.0]]), atol=1e-3, rtol=0)


def test_neighbours_answer_large_numbers_exactly_in_mixed_precision_too() -> None:
    numbers = neighbours("scalar", 3, neighbours=2, temperature=1e6)
    numbers.remember(
        torch.tensor([[1.0, 0.0], [1.0, 0.1], [-2.0, -0.1]]), torch.tensor([[2001.0, 0], [2003, 0], [9, 9]])
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert numbers(tokens((9.0, 0.0)), None)[0, 0].item() == pytest.approx(2002, abs=0.01)


@pytest.mark.parametrize("target", ["classes", "multilabel", "scalar"])
def test_neighbours_answer_what_was_seen_and_are_stored_with_the_model(target: str, tmp_path) -> None:
    model, report = fit(tmp_path / "work", target, method="knn", options={"neighbours": 1})
    data = tiny_examples(target, 48)
    seen = model.eval().predict(data.x)
    assert np.allclose(seen, data.y)
    assert (report.trained, report.best_epoch, report.history) == (0, 0, [])
    model.save_pretrained(tmp_path / "model")
    loaded = AdaptedModel.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.predict(data.x), seen)
    assert loaded.spec.rows == 48


def test_neighbours_have_no_say_on_fields_and_no_embedder_to_train() -> None:
    with pytest.raises(InputError, match="'knn' answers classes, multilabel, scalar; the target is field; choose"):
        MethodChoice(name="knn").check_task(LAYOUTS["field"])
    MethodChoice(name="full").check_task(LAYOUTS["field"])
    with pytest.raises(ValueError, match="nothing trains in 'knn'; leave finetune.train_embedder and "):
        orca.train.FinetuneConfig(method="knn", train_embedder=True)


def test_neighbours_on_a_field_are_refused_before_any_work(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6, 6))
    np.savez(tmp_path / "fields.npz", x_train=x, y_train=2 * x, x_test=x[:9], y_test=2 * x[:9])
    own = {"name": "fields", "data": str(tmp_path / "fields.npz"), "input": "grid", "target": "field"}
    with pytest.raises(InputError, match="the target is field; choose another method"):
        orca.adapt({"task": own, "finetune": {"method": "knn"}}, store=tmp_path / "store")
    assert not (tmp_path / "store" / "stages").exists()
