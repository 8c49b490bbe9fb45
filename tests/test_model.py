"""The adapted model: shapes of every kind of answer, calibration on a real body, saving and loading."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import orca
from embedders import calibrate
from orca.batches import answers, batches
from orca.bodies import FAMILIES, load_body
from orca.build import EmbedConfig, bin_edges, embedding_law, training_statistics
from orca.errors import InputError
from orca.model import AdaptedModel
from orca.tasks import resolve_task
from orca.types import Examples
from tests.tiny import LAYOUTS, tiny_adapted, tiny_examples

CPU = torch.device("cpu")
every_target = pytest.mark.parametrize("target", list(LAYOUTS))


@every_target
@pytest.mark.parametrize("family", list(FAMILIES))
def test_answers_have_the_targets_shape(target: str, family: str) -> None:
    model, data = tiny_adapted(target, family), tiny_examples(target, 5)
    assert answers(model, data, device=CPU, batch_size=2).shape == (5, *LAYOUTS[target].target_shape)


@pytest.mark.parametrize("size", [(6, 6), (12, 12), (5, 9)])
def test_a_field_of_another_size_is_answered_at_that_size(size: tuple[int, int]) -> None:
    model = tiny_adapted("field", tokens=9)
    assert model(torch.randn(2, 1, *size)).shape == (2, 1, *size)


def test_answers_come_in_the_order_of_the_data_whatever_the_lengths() -> None:
    model = tiny_adapted("classes")
    data = tiny_examples("classes", 7)
    lengths = np.array([12, 3, 9, 1, 12, 5, 7])
    data = Examples(data.x * (np.arange(12) < lengths[:, None])[:, None].astype(np.float32), data.y, lengths)
    together = answers(model, data, device=CPU, batch_size=3)
    for row in range(7):
        alone = answers(model, data.subset(np.array([row])), device=CPU)
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)


def test_answers_leave_the_mode_of_the_model() -> None:
    model = tiny_adapted().train()
    answers(model, tiny_examples("classes", 3), device=CPU)
    assert model.training


@every_target
def test_a_saved_model_predicts_the_same_bit_for_bit(target: str, tmp_path) -> None:
    model, data = tiny_adapted(target).eval(), tiny_examples(target, 6)
    model.save_pretrained(tmp_path / "run" / "model")
    loaded = orca.load(tmp_path / "run")
    assert np.array_equal(loaded.scores(data.x), model.scores(data.x))
    assert loaded.spec == AdaptedModel.from_pretrained(tmp_path / "run" / "model").spec
    assert not loaded.training


def test_predictions_are_classes_labels_and_values() -> None:
    for target, shape in (("classes", (4,)), ("multilabel", (4, 3)), ("scalar", (4, 2)), ("field", (4, 1, 6, 6)),
                          ("mask", (4, 1, 6, 6))):  # fmt: skip
        model, x = tiny_adapted(target), tiny_examples(target, 4).x
        assert model.predict(x).shape == shape
    probability = tiny_adapted("classes").predict_proba(tiny_examples("classes", 4).x)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-6)
    assert np.array_equal(probability.argmax(1), tiny_adapted("classes").predict(tiny_examples("classes", 4).x))
    for target in ("multilabel", "mask"):
        labels, x = tiny_adapted(target), tiny_examples(target, 4).x
        assert np.array_equal(labels.predict_proba(x) > 0.5, labels.predict(x) == 1)
    with pytest.raises(InputError, match="a model of a scalar has no probabilities"):
        tiny_adapted("scalar").predict_proba(tiny_examples("scalar", 4).x)


def test_raw_data_that_does_not_fit_is_refused() -> None:
    model = tiny_adapted("classes")
    with pytest.raises(InputError, match=r"takes inputs of shape \(n, 2, 12\); got \(4, 5, 12\)"):
        model.predict(np.zeros((4, 5, 12)))
    x = np.zeros((4, 2, 12))
    x[2, 1, 3] = np.nan
    with pytest.raises(InputError, match="not finite, first in sample 2"):
        model.predict(x)


def test_a_folder_without_a_model_says_what_it_lacks(tmp_path) -> None:
    with pytest.raises(InputError, match="there is no folder .*nowhere; a run's is STORE/runs/NAME"):
        orca.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="lacks config.json and model.safetensors"):
        orca.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="does not describe an adapted model"):
        orca.load(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    tiny_adapted("classes").save_pretrained(tmp_path / "a")
    tiny_adapted("field").save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").rename(tmp_path / "a" / "model.safetensors")
    with pytest.raises(InputError, match="holds another model"):
        orca.load(tmp_path / "a")


def test_what_is_saved_is_json_and_safetensors_alone(tmp_path) -> None:
    tiny_adapted().save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text())["layout"]["target"] == "classes"


def test_statistics_are_those_of_the_valid_training_data() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(3, 2, size=(700, 2, 9)).astype(np.float32)
    length = draw.integers(1, 10, 700)
    x *= (np.arange(9) < length[:, None])[:, None]
    found = training_statistics(Examples(x, np.zeros(700), length), LAYOUTS["classes"])
    valid = np.concatenate([row[:, :k] for row, k in zip(x, length, strict=True)], 1)
    np.testing.assert_allclose(found.x_mean, valid.mean(1), rtol=1e-4)
    np.testing.assert_allclose(found.x_std, valid.std(1), rtol=1e-4)


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_a_tree_cuts_a_column_where_its_target_changes(target: str) -> None:
    """Counts that are mostly zero, whose tail decides: bins of equal counts have one cut there, a tree has all."""
    draw = np.random.default_rng(0)
    tail = draw.uniform(1, 100, 400)
    x = np.stack([np.concatenate([np.zeros(9600), tail]), draw.normal(size=10000)], 1)
    y = (x[:, 0] > 20) ^ (x[:, 0] > 60)
    counts, tree = (
        bin_edges(x, y.astype(np.int64), bins=8, binning=binning, classes=target == "classes")
        for binning in ("quantile", "tree")
    )
    assert counts.shape == tree.shape == (2, 9)
    for edges in (counts, tree):
        assert (np.diff(edges) >= 0).all()
        assert (edges[:, 0] == x.min(0)).all()
        assert (edges[:, -1] == x.max(0)).all()
    assert len(np.unique(counts[0])) == 2
    for threshold in (20, 60):
        below, above = tail[tail <= threshold].max(), tail[tail > threshold].min()
        assert ((below <= tree[0]) & (tree[0] <= above)).any()


def test_a_column_of_one_value_is_one_bin_for_a_tree() -> None:
    edges = bin_edges(np.full((10, 1), 3.0), np.arange(10) % 2, bins=4, binning="tree", classes=True)
    assert (edges == 3).all()


def test_embedded_real_data_starts_inside_the_law_of_minilms_word_embeddings() -> None:
    task, body = resolve_task("digits"), load_body()
    data, law = task.load(), embedding_law(body)
    torch.manual_seed(0)
    model = AdaptedModel.build(
        body, training_statistics(data.train, data.layout), task="digits", layout=data.layout, encoding=task.encoding,
        config=EmbedConfig(tokens=16, overlap=2),
    )  # fmt: skip
    half = np.arange(0, len(data.train), 2)
    calibrate(model.embedder, ((x, n) for _, x, n in batches(data.train.subset(half), 128, CPU)), law)
    with torch.no_grad():  # on the other half, which calibration has not seen
        x = torch.from_numpy(data.train.x[1::2])
        projected = model.embedder.project(x, None).x.flatten(0, 1)
        words = body.embeddings.words.weight
        assert (projected.mean(0) - words.mean(0)).abs().max() < 0.1 * words.std()
        assert (projected.std(0) / words.std(0) - 1).abs().max() < 0.15
        ids = torch.randint(1000, 30000, (200, 16), generator=torch.Generator().manual_seed(0))
        language = body.embed(ids, torch.ones_like(ids, dtype=torch.bool)).flatten(0, 1)
        embedded = model.embedder(x).x.flatten(0, 1)
        assert embedded.norm(dim=1).mean() == pytest.approx(language.norm(dim=1).mean().item(), rel=0.05)
        assert (embedded.mean(0) - language.mean(0)).norm() < 0.25 * language.mean(0).norm()
