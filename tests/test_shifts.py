"""Shift sets: what is changed, what is not, and that a task measures them."""

from __future__ import annotations

import numpy as np

from orca.tasks import shifts
from orca.tasks.assemble import Raw

DRAW = np.random.default_rng(0).standard_normal
LABELS = np.arange(400) % 3


def changed(x: np.ndarray, shift: shifts.Shift, y: np.ndarray = LABELS) -> Raw:
    before = x.copy()
    found, again = shift(Raw(x, y)), shift(Raw(x, y))
    assert x.tobytes() == before.tobytes()
    assert found.x.tobytes() == again.x.tobytes()
    assert found.x.dtype == x.dtype
    return found


def test_fields_are_thinned_with_their_inputs() -> None:
    x, y = np.arange(48.0).reshape(2, 4, 6), np.arange(96.0).reshape(2, 2, 4, 6)
    found = changed(x, shifts.thinned(2), y)
    np.testing.assert_array_equal(found.x, x[:, ::2, ::2])
    np.testing.assert_array_equal(found.y, y[:, :, ::2, ::2])
    assert changed(x, shifts.thinned(1), y).x.shape == (2, 4, 3)


def test_noise_has_its_share_of_the_deviation_and_integers_stay_in_range() -> None:
    x = 5 + 2 * DRAW((400, 60)).astype(np.float32)
    noise = changed(x, shifts.noisy(0.3)).x - x
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.6], atol=0.02)
    images = np.full((40, 8, 8, 3), 250, np.uint8)
    images[:, ::2] = 3
    found = changed(images, shifts.noisy(0.1), LABELS[:40]).x.astype(int)
    assert found.max() == 255
    assert found.min() == 0
    assert np.abs(found - images).max() < 100  # nothing has wrapped round


def test_values_are_held_from_the_date_before() -> None:
    x = np.arange(400 * 30.0).reshape(400, 30)
    found = changed(x, shifts.held(0.25)).x
    same = found == x
    assert same[:, 0].all()
    assert 0.23 < 1 - same[:, 1:].mean() < 0.27
    assert (found <= x).all()
    np.testing.assert_array_equal(found[:, 1:][~same[:, 1:]], found[:, :-1][~same[:, 1:]])


def test_bases_become_other_bases() -> None:
    x = np.eye(4, dtype=np.uint8)[np.random.default_rng(1).integers(0, 4, (400, 50))]
    found = changed(x, shifts.mutated(0.1)).x
    assert (found.sum(2) == 1).all()
    other = (found != x).any(2)
    assert 0.09 < other.mean() < 0.11
    steps = (found.argmax(2) - x.argmax(2))[other] % 4
    np.testing.assert_allclose(np.bincount(steps, minlength=4) / len(steps), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.05)


def test_cells_become_missing_in_every_column_by_itself() -> None:
    x = np.zeros(400, [("number", "f8"), ("word", "U3")])
    x["word"] = "abc"
    found = changed(x, shifts.emptied(0.2)).x
    gone = np.stack([np.isnan(found["number"]), found["word"] == ""])
    assert ((gone.mean(1) > 0.15) & (gone.mean(1) < 0.25)).all()
    assert abs(np.corrcoef(gone)[0, 1]) < 0.15


def test_a_large_test_set_is_shifted_in_part_and_answers_stay() -> None:
    x, y = DRAW((3000, 4)), np.arange(3000)
    found = shifts.shifted(Raw(x, y), shifts.scaled(0.5))
    np.testing.assert_array_equal(found.x, x[: shifts.MOST] / 2)
    np.testing.assert_array_equal(found.y, y[: shifts.MOST])
