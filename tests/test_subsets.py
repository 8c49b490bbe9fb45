"""Learning from a part of the training set."""

from __future__ import annotations

import numpy as np
import pytest

from orca.config import check_config
from orca.errors import InputError
from orca.subsets import fewer
from orca.types import Examples, Layout, Splits, TargetKind

CLASSES = np.repeat([0, 1, 2], [60, 30, 10])


def splits(y: np.ndarray, *, target: TargetKind = "classes", group: np.ndarray | None = None) -> Splits:
    x = np.arange(len(y), dtype=np.float32)[:, None]
    part = Examples(x, y, group=group)
    layout = Layout("table", target, (1,), (3,))
    return Splits(part, part, part, layout, {"far": part}, ("as it came",))


@pytest.mark.parametrize(("size", "counts"), [(0.1, [5, 3, 2]), (0.5, [30, 15, 5]), (50, [30, 15, 5])])
def test_classes_keep_their_shares_and_all_else_stays(size: float, counts: list[int]) -> None:
    whole = splits(CLASSES)
    part = fewer(whole, size)
    assert np.bincount(part.train.y).tolist() == counts
    assert (part.val, part.test, part.shift, part.layout) == (whole.val, whole.test, whole.shift, whole.layout)
    assert part.notes == ("as it came", f"train_size: learnt from {sum(counts)} of the 100 answers of the training set")
    rows = part.train.x[:, 0].astype(int)
    assert np.array_equal(part.train.y, CLASSES[rows])
    assert np.array_equal(rows, fewer(whole, size).train.x[:, 0])


def test_pieces_of_one_recording_stay_together() -> None:
    group = np.repeat(np.arange(10), 4)
    part = fewer(splits(np.repeat([0, 1] * 5, 4), group=group), 0.5).train
    assert part.group is not None
    assert sorted(np.bincount(part.group, minlength=10).tolist()) == [0] * 5 + [4] * 5


def test_answers_that_are_no_classes_are_drawn_evenly() -> None:
    part = fewer(splits(np.random.default_rng(0).normal(size=(200, 3)), target="scalar"), 0.25).train
    assert len(part) == 50
    assert 60 < part.x.mean() < 140


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (101, "train_size is 101, but the training set has 100 answers"),
        (2, "train_size asks for 2 of 100 answers; 3 classes need at least one each"),
    ],
)
def test_sizes_that_cannot_be_are_refused(size: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fewer(splits(CLASSES), size)


def test_all_of_the_answers_are_the_set_itself() -> None:
    whole = splits(CLASSES)
    assert fewer(whole, 100) is fewer(whole, None) is whole


@pytest.mark.parametrize("size", [1.0, 1.5, float("inf"), 0, -3])
def test_what_is_neither_a_share_nor_a_number_is_refused(size: float) -> None:
    with pytest.raises(InputError, match="train_size: "):
        check_config({"task": "digits", "train_size": size})


def test_a_number_is_a_whole_one_however_it_is_written() -> None:
    config = check_config({"task": "digits", "train_size": 500.0})
    assert repr(config.train_size) == "500"
