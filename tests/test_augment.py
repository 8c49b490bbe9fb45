"""Varied training inputs: laws of each variation, the same on resumption and for micro-batches; grouped answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from orca.augment import (
    BANDS,
    FRAMES,
    any_symmetry,
    background,
    drawn,
    either_strand,
    prepare,
    reverse_complement,
    spec_augment,
    symmetry,
)
from orca.baselines import fit_baselines
from orca.batches import answers
from orca.build import EmbedConfig, training_statistics
from orca.config import check_config
from orca.errors import InputError
from orca.evaluate import score
from orca.metrics import METRICS
from orca.model import AdaptedModel
from orca.tasks.encodings import DnaEncoding, GridEncoding
from orca.train import FinetuneConfig, Fit, epoch_order, loss_of
from orca.types import Examples, Layout, Splits
from tests.tiny import tiny_adapted, tiny_body, tiny_examples

TURNS = any_symmetry(nodes=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def runs(mask: torch.Tensor) -> int:
    """How many runs of True a mask (n,) has."""
    padded = F.pad(mask.int(), (1, 1))
    return int((padded.diff() == 1).sum())


def test_spec_augment_masks_one_or_two_times_up_to_its_shares_with_the_minimum() -> None:
    x = noise(400, 1, 40, 50)
    y = spec_augment(x, None, seeded())
    changed = (y != x)[:, 0]
    least = x.amin((1, 2, 3))
    counts: list[tuple[int, ...]] = []
    assert 0.4 < float(changed.flatten(1).any(1).float().mean()) < 0.6
    for i in torch.nonzero(changed.flatten(1).any(1)).flatten():
        assert (y[i, 0][changed[i]] == least[i]).all()
        hidden = y[i, 0] == least[i]
        bands, frames = hidden.all(1), hidden.all(0)
        assert runs(bands) <= 2
        assert runs(frames) <= 2
        assert bands.sum() <= 2 * BANDS * 40
        assert frames.sum() <= 2 * FRAMES * 50
        assert not (hidden & ~bands[:, None] & ~frames).sum() > 1  # but for the minimum itself
        counts.append((runs(bands), runs(frames), int(bands.sum()), int(frames.sum())))
    bands_twice, frames_twice, widest, longest = (max(found) for found in zip(*counts, strict=True))
    assert (bands_twice, frames_twice) == (2, 2)
    assert widest > BANDS * 40  # more than one mask covers
    assert longest > FRAMES * 50
    assert any(b and not f for b, f, *_ in counts)
    assert any(f and not b for b, f, *_ in counts)


def test_spec_augment_leaves_what_lies_behind_the_end() -> None:
    length = torch.arange(10, 50)
    x = -1 - noise(40, 8, 50).abs()
    x[torch.arange(50) >= length[:, None, None].expand(-1, 8, 1)] = 0
    y = spec_augment(x, length, seeded())
    assert (y != x).any()
    behind = (torch.arange(50) >= length[:, None])[:, None].expand_as(x)
    assert (y[behind] == 0).all()
    assert (y[~behind] < 0).all()


def test_the_background_is_mixed_into_three_of_four_up_to_a_half() -> None:
    x, other = noise(400, 1, 4, 6), noise(7, 1, 4, 6, seed=2)
    y = background(other.numpy())(x, None, seeded())
    shares = []
    for before, after in zip(x, y, strict=True):
        ratio = ((after - before)[None] / (other - before[None])).flatten(1)  # (7, 24): constant for the one mixed in
        best = ratio[ratio.std(1).argmin()]
        assert best.std() < 1e-4
        shares.append(float(best.mean()))
    found = np.array(shares)
    assert -1e-6 < found.min() < found.max() <= 0.5
    assert 0.2 < (found < 1e-6).mean() < 0.3
    assert 0.22 < found[found > 1e-6].mean() < 0.28


def test_the_reverse_complement_is_that_of_the_letters_and_its_own_inverse() -> None:
    encode = DnaEncoding().encode
    (x, length), (other, _) = (encode(np.array(s)) for s in (["AACGT", "GATTACA"], ["ACGTT", "TGTAATC"]))
    lengths = torch.from_numpy(length)
    flipped = reverse_complement(torch.from_numpy(x), lengths)
    np.testing.assert_array_equal(flipped.numpy(), other)
    np.testing.assert_array_equal(reverse_complement(flipped, lengths).numpy(), x)
    either = either_strand(torch.from_numpy(x[1:]).repeat(400, 1, 1), None, seeded())
    assert 0.4 < float((either == torch.from_numpy(x[1:])).all(2).all(1).float().mean()) < 0.6


def test_the_symmetries_are_the_group_of_the_square_about_its_centre_or_about_the_first_node() -> None:
    """Each a rearrangement of the points by a rotation or reflection, about the centre of a disc and of a torus."""
    i = torch.arange(6.0)
    for nodes, place in ((False, i - 2.5), (True, torch.minimum(i, 6 - i) * torch.where(i > 3, -1, 1))):
        points = torch.stack(torch.meshgrid(place, place, indexing="ij"))[None]  # (1, 2, 6, 6)
        seen = [symmetry(points, number, nodes=nodes) for number in range(8)]
        torch.testing.assert_close(seen[0], points)
        inner = points.abs().amax((0, 1)) < 3  # a node half-way around is its own reflection
        for turned in seen:
            matrix = torch.linalg.lstsq(points[0][:, inner].T, turned[0][:, inner].T).solution
            torch.testing.assert_close(points[0][:, inner].T @ matrix, turned[0][:, inner].T)
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(2))
        assert len({tuple(turned.flatten().tolist()) for turned in seen}) == 8
    x = noise(1, 2, 5, 5)
    torch.testing.assert_close(symmetry(x, 1, nodes=True)[..., 0, :], x[..., 0, :])
    torch.testing.assert_close(symmetry(x, 1, nodes=True)[..., 1, :], x[..., 4, :])
    counted = [symmetry(x, number)[0].flatten().tolist() for number in range(8)]
    found = [
        counted.index(one.flatten().tolist())
        for one in any_symmetry(nodes=False)(x.repeat(800, 1, 1, 1), None, seeded())
    ]
    assert min(np.bincount(found, minlength=8)) > 60


@pytest.mark.parametrize("name", ["symmetries", "node_symmetries"])
@pytest.mark.parametrize("target", ["field", "mask", "classes"])
def test_answers_of_all_symmetries_turn_with_their_inputs(name: str, target: str, tmp_path: Path) -> None:
    model = tiny_adapted("field" if target == "classes" else target).eval()
    if target == "classes":
        layout = Layout("grid", "classes", (1, 6, 6), (3,))
        model = AdaptedModel.build(
            tiny_body(), training_statistics(Examples(noise(8, 1, 6, 6).numpy(), np.arange(8) % 3), layout),
            task="tiny", layout=layout, encoding=GridEncoding(channels="first"), config=EmbedConfig(tokens=36),
        ).eval()  # fmt: skip
    model.average([name])
    model.save_pretrained(tmp_path)
    model, x, nodes = AdaptedModel.from_pretrained(tmp_path), noise(3, 1, 6, 6), name == "node_symmetries"
    with torch.no_grad():
        answer = model.answer(x)
        assert not torch.allclose(answer, model(x), atol=1e-3)
        for number in range(8):
            turned = answer if target == "classes" else symmetry(answer, number, nodes=nodes)
            torch.testing.assert_close(model.answer(symmetry(x, number, nodes=nodes)), turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_fields_are_varied_as_their_inputs_are(accumulate: int, tmp_path: Path) -> None:
    """A forward pass that knows the law of the data has no loss, whichever way the grids are turned."""
    data, model = tiny_examples("field", 20), tiny_adapted("field")
    transform = prepare(
        ["symmetries"], task="mine", encoding="grid", data=Splits(data, data, data, model.layout)
    )  # fmt: skip
    config = FinetuneConfig(augment=("symmetries",), epochs=1, accumulate=accumulate)
    loop = Fit(model, config, metric=METRICS.get("relative_l2"), seed=0, dtype=None, work=tmp_path, augment=transform)
    loop._enter(0)
    inputs = []

    def exact(x: torch.Tensor, length: torch.Tensor | None) -> torch.Tensor:
        inputs.append(x)
        return 2 * x + 1 + 0 * sum(p.sum() for p in model.parameters())

    loop.forward = exact
    assert loop._step(data, np.arange(20), 0) == pytest.approx(0, abs=1e-5)
    assert not np.array_equal(torch.cat(inputs).numpy(), data.x)


@pytest.mark.parametrize("transform", [spec_augment, either_strand, background(noise(5, 4, 30).numpy()), TURNS])
def test_micro_batches_see_what_the_whole_batch_sees(transform) -> None:
    x = noise(37, 4, 30)[:, :, :4, None].expand(-1, -1, -1, 4) if transform is TURNS else noise(37, 4, 30)
    vary, again = (drawn({"one": transform}, 3, 8) for _ in range(2))
    parts = torch.cat([again(part, None) for part in x.split(9)])
    torch.testing.assert_close(parts, vary(x, None), rtol=0, atol=0)
    assert not torch.equal(parts, drawn({"one": transform}, 3, 9)(x, None))


def fit(work: Path, progress=lambda facts: None, **settings) -> tuple[AdaptedModel, list[dict[str, Any]]]:  # noqa: ANN001
    config = FinetuneConfig(epochs=3, batch_size=16, lr=1e-3, **settings)
    model = tiny_adapted("classes")
    loop = Fit(
        model, config, metric=METRICS.get("error"), seed=5, dtype=None, work=work,
        augment=dict.fromkeys(config.augment, spec_augment),
    )  # fmt: skip
    report = loop.run(tiny_examples("classes", 48), tiny_examples("classes", 24, seed=1), progress=progress)
    return model, report.history


def test_a_resumed_run_draws_what_the_whole_one_drew(tmp_path: Path) -> None:
    def die(facts: dict[str, Any]) -> None:
        if facts.get("epoch") == 1 and "val_metric" in facts:
            raise KeyboardInterrupt

    whole, history = fit(tmp_path / "whole", augment=("spec_augment",))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "again", die, augment=("spec_augment",))
    resumed, again = fit(tmp_path / "again", augment=("spec_augment",))
    assert [r["train_loss"] for r in history] == [r["train_loss"] for r in again]
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())
    _, plain = fit(tmp_path / "plain")
    assert plain[0]["train_loss"] != history[0]["train_loss"]


def splits(target: str = "multilabel", **more: Any) -> Splits:
    data = tiny_examples("classes", 4)
    return Splits(data, data, data, Layout("sequence", target, (2, 12), (3,)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "encoding", "target", "message"),
    [
        ("spec_augment", "dna", "classes", r"spec_augment is for waveform or spectrogram inputs \(masks bands and "
         r"frames\); those of mine are dna; leave it out"),
        ("reverse_complement", "grid", "classes", "reverse_complement is for dna inputs"),
        ("reverse_complement", "dna", "field", "those of mine are dna with a field as target"),
        ("reverse_complement", "dna", "mask", "those of mine are dna with a mask as target"),
        ("background", "spectrogram", "classes", "the task's data has none; put some where its page says"),
        ("symmetries", "grid", "field", r"symmetries turns square grids; those here are \(2, 12\) and \(3,\); leave"),
        ("specaugment", "waveform", "classes", "no augmentation 'specaugment'; did you mean spec_augment"),
    ],
)  # fmt: skip
def test_what_a_task_does_not_allow_is_refused(name: str, encoding: str, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare([name], task="mine", encoding=encoding, data=splits(target))


def test_the_configuration_names_the_nearest_augmentation() -> None:
    with pytest.raises(InputError, match=r"finetune.augment: there is no 'spec_augmnt'; did you mean 'spec_augment'\?"):
        check_config({"task": "fsdd", "finetune": {"augment": ["spec_augmnt"]}})


def test_only_what_is_set_of_the_later_settings_is_in_the_document_of_the_stage() -> None:
    assert not {"augment", "positive_weight"} & set(FinetuneConfig().document())
    found = FinetuneConfig(augment=("background",), positive_weight=4).document()
    assert (found["augment"], found["positive_weight"]) == (("background",), 4)


def test_answers_are_the_mean_over_both_strands_and_so_do_not_depend_on_the_strand(tmp_path: Path) -> None:
    model = tiny_adapted("classes").eval()
    x = noise(5, 2, 12)
    model.average(["spec_augment", "reverse_complement"])
    assert model.spec.average == ("reverse_complement",)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        answer = AdaptedModel.from_pretrained(tmp_path).answer(x)
        torch.testing.assert_close(answer, (model(x) + model(x.flip(1, 2))) / 2)
        torch.testing.assert_close(answer, model.answer(x.flip(1, 2)))
    np.testing.assert_allclose(model.predict_proba(x.numpy()), answer.softmax(1).numpy(), rtol=1e-5)


def grouped() -> Examples:
    x = np.arange(12, dtype=np.float32).reshape(6, 1, 2)
    return Examples(x, np.array([7, 5, 7, 5, 5, 9]), group=np.array([30, 10, 30, 10, 10, 40]))


def test_rows_of_a_group_have_one_answer_the_mean_of_theirs() -> None:
    data = grouped()
    np.testing.assert_array_equal(data.truth(), [5, 7, 9])
    found = answers(torch.nn.Identity(), data, device=torch.device("cpu"), batch_size=4, call=lambda x, n: x[:, 0])
    np.testing.assert_allclose(found, [[(2 + 6 + 8) / 3, (3 + 7 + 9) / 3], [2, 3], [10, 11]])
    assert data.subset(np.array([5, 1])).truth().tolist() == [5, 9]


def test_an_epoch_has_one_row_of_each_group_another_each_time() -> None:
    data, draw = grouped(), seeded()
    orders = [epoch_order(data, FinetuneConfig(), draw) for _ in range(60)]
    assert all(sorted(data.group[order]) == [10, 30, 40] for order in orders)  # type: ignore[index]
    assert set(np.concatenate(orders)) == set(range(6))
    assert len({tuple(order) for order in orders}) > 20


def test_the_cap_on_validation_keeps_clips_whole() -> None:
    from orca.train import _some

    kept = _some(grouped(), 2)
    whole = grouped().group
    assert len(np.unique(kept.group)) == 2  # type: ignore[arg-type]
    assert all((kept.group == g).sum() == (whole == g).sum() for g in np.unique(kept.group))  # type: ignore[arg-type]


def test_labels_that_are_there_weigh_more() -> None:
    logits, y = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    there, absent = np.log1p(np.exp(-0.5)), np.log1p(np.exp(-1.0))
    assert float(loss_of(logits, y, "multilabel", positive=4)) == pytest.approx((4 * there + absent) / 2)
    assert float(loss_of(logits, y, "multilabel")) == pytest.approx((there + absent) / 2)


def test_grouped_sets_are_scored_by_answers_beside_baselines_that_are_too(tmp_path: Path) -> None:
    data = tiny_examples("multilabel", 24)
    clips = data.subset(np.repeat(np.arange(24), 2))
    clips = Examples(clips.x, clips.y, group=np.repeat(np.arange(24), 2))
    whole = Splits(data, clips, clips, Layout("sequence", "multilabel", (2, 12), (3,)), {"other": clips})
    found = score(tiny_adapted("multilabel"), whole, METRICS.get("map"), dtype=None, out=tmp_path)
    assert (found["test"]["n"], found["shift"]["other"]["n"]) == (24, 24)
    arrays = np.load(tmp_path / "predictions.npz", allow_pickle=False)
    assert [len(arrays[key]) for key in ("test_scores", "test_y", "examples_x")] == [24, 24, 16]
    np.testing.assert_array_equal(arrays["examples_x"], data.x[:16])
    rivals = fit_baselines(whole, METRICS.get("map"), seed=0)
    alone = Splits(data, data, data, whole.layout)
    assert rivals["ridge"]["test"] == pytest.approx(fit_baselines(alone, METRICS.get("map"), seed=0)["ridge"]["test"])
