"""Shift sets: what is changed, what is not, and that a task measures them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orca.bodies import BodyFiles
from orca.config import check_config
from orca.errors import InputError
from orca.keys import keys
from orca.plan import Plan
from orca.runtime import digest
from orca.tasks import TASKS, shifts
from orca.tasks.assemble import assemble
from orca.tasks.corruptions import corruptions
from orca.tasks.encodings import GridEncoding, TableEncoding
from orca.tasks.raw import Raw

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


def test_noise_of_each_row_is_relative_to_its_own_level_and_ends_with_it() -> None:
    x, length = DRAW((6, 4000)) * 10.0 ** np.arange(6)[:, None], np.array([4000, 3000, 2000, 4000, 4000, 1000])
    x[np.arange(4000) >= length[:, None]] = 0
    shift = shifts.noisy(0.1, each=True)
    noise = shift(Raw(x, LABELS[:6], length)).x - x
    share = [noise[i, :size].std() / x[i, :size].std() for i, size in enumerate(length)]
    np.testing.assert_allclose(share, 0.1, rtol=0.1)
    assert not noise[np.arange(4000) >= length[:, None]].any()
    two = shift(Raw(np.stack([x, x], 1), LABELS[:6], length)).x  # two channels
    np.testing.assert_array_equal(two[:, :, 1000:][length == 1000], 0)


def test_what_lies_after_the_ends_does_not_count_for_the_level_of_all() -> None:
    x = np.pad(DRAW((50, 100)), ((0, 0), (0, 900)))
    noise = shifts.noisy(0.5)(Raw(x, LABELS[:50], np.full(50, 100))).x - x
    np.testing.assert_allclose(noise[:, :100].std(), 0.5, rtol=0.05)


def test_whole_numbers_are_scaled_too_and_stay_in_range() -> None:
    x = np.array([[-30000, -3, 0, 7, 30000]], np.int16)
    assert changed(x, shifts.scaled(0.5), LABELS[:1]).x.tolist() == [[-15000, -2, 0, 4, 15000]]
    assert changed(x, shifts.scaled(2), LABELS[:1]).x.tolist() == [[-32768, -6, 0, 14, 32767]]


@pytest.mark.parametrize("form", ["text", "bytes", "ACGT", "AGCT"])
def test_sequences_are_chosen_by_their_gc_content(form: str) -> None:
    letters = np.random.default_rng(2).choice(list("ACGT"), (90, 40), p=(0.3, 0.2, 0.2, 0.3))
    text = np.array(["".join(row) for row in letters])
    hot = {order: (letters[..., None] == list(order)).astype(np.uint8) for order in ("ACGT", "AGCT")}
    x = {"text": text, "bytes": text.astype("S"), **hot}[form]
    share = np.isin(letters, ["G", "C"]).mean(1)
    low, high = (changed(x, shifts.gc_third(end), np.arange(90)).y for end in ("low", "high"))
    for rows in (low, high):
        assert len(rows) == 30
        assert (np.diff(rows) > 0).all()
    assert share[low].max() <= np.sort(share)[29]
    assert share[high].min() >= np.sort(share)[60]
    assert not set(low) & set(high)


@pytest.mark.parametrize("named", [True, False])
def test_rows_are_chosen_by_a_column_and_empty_cells_leave(*, named: bool) -> None:
    values = np.random.default_rng(3).permutation(60).astype(float)
    values[::10] = np.nan
    table = np.stack([np.zeros(60), values], 1)
    if named:
        table = table.view([("other", "f8"), ("age", "f8")])[:, 0]
    column = "age" if named else 1
    known = np.sort(values[np.isfinite(values)])
    low, high = (changed(table, shifts.column_third(column, end), np.arange(60)).y for end in ("low", "high"))
    np.testing.assert_array_equal(np.sort(values[low]), known[:18])
    np.testing.assert_array_equal(np.sort(values[high]), known[-18:])


def test_of_a_large_test_set_drawn_rows_are_changed_and_answers_stay_with_them() -> None:
    x = np.arange(30_000.0)[:, None]
    found = shifts.scaled(0.5).of(Raw(x, np.arange(30_000)))
    assert len(found.y) == shifts.MOST
    np.testing.assert_array_equal(found.x[:, 0], found.y / 2)
    counts = np.histogram(found.y, 10, (0, 30_000))[0]  # files may be in some order: the first rows would be one record
    assert (np.abs(counts - 200) < 60).all()
    np.testing.assert_array_equal(found.y, shifts.noisy(1.0).of(Raw(x, np.arange(30_000))).y)
    few = shifts.scaled(0.5).of(Raw(x[:7], np.arange(7)))
    np.testing.assert_array_equal(few.y, np.arange(7))


def test_rows_with_one_answer_are_drawn_together() -> None:
    group = np.repeat(np.arange(100), np.arange(100) % 7 + 1)
    raw = Raw(np.zeros((len(group), 2)), np.zeros(len(group)), None, group)
    kept = shifts.drawn(raw, 60)
    assert 50 < kept.sum() <= 60
    assert not set(group[kept]) & set(group[~kept])
    assert shifts.drawn(raw, len(group)).all()


def test_a_shift_says_all_that_its_numbers_depend_on() -> None:
    assert shifts.noisy(0.2).facts == shifts.noisy(share=0.2, each=False).facts
    kinds = [
        shifts.noisy(0.2), shifts.noisy(0.3), shifts.noisy(0.2, each=True), shifts.scaled(0.2), shifts.gc_third("low"),
        shifts.gc_third("high"), *corruptions(GridEncoding(channels="none")).values(),
        *corruptions(GridEncoding(channels="none", scale=0.5)).values(),
    ]  # fmt: skip
    assert len({digest(shift.facts) for shift in kinds}) == len(kinds)


def keys_with(**changes: shifts.Shift) -> dict[str, str]:
    """The keys of a run on digits, had its task these shifts."""
    made = Plan(
        config=check_config({"task": "digits"}), task=replace(TASKS.get("digits"), shifts=changes),
        files=BodyFiles(Path("body"), "revision", "sha256"), data_key=TASKS.get("digits").fingerprint(),
        body_key="body", device=torch.device("cpu"), dtype=None,
    )  # fmt: skip
    return keys(made)


def test_a_changed_shift_is_scored_anew_and_nothing_is_trained_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys_with(noise=shifts.noisy(0.2))
    assert before == keys_with(noise=shifts.noisy(0.2))
    others = [
        keys_with(noise=shifts.noisy(0.3)),
        keys_with(noise=shifts.noisy(0.2), weak=shifts.scaled(0.5)),
        keys_with(),
    ]
    monkeypatch.setattr(shifts, "VERSION", shifts.VERSION + 1)
    for after in (*others, keys_with(noise=shifts.noisy(0.2))):
        assert {stage for stage in before if before[stage] != after[stage]} == {"evaluate", "baselines"}


def test_noise_and_gain_may_leave_later_channels_alone() -> None:
    raw = Raw(DRAW((50, 3, 8)), np.arange(50))
    alone = Raw(raw.x[:, :1], raw.y)
    for whole, part in (
        (shifts.noisy(0.5, channels=1), shifts.noisy(0.5)),
        (shifts.scaled(2, channels=1), shifts.scaled(2)),
    ):
        assert np.array_equal(whole(raw).x[:, 1:], raw.x[:, 1:])
        assert np.array_equal(whole(raw).x[:, :1], part(alone).x)


def test_a_third_of_unsigned_numbers_is_by_their_size() -> None:
    table = Raw(np.arange(6, dtype=np.uint8)[:, None], np.arange(6))
    assert shifts.column_third(0, "high")(table).x[:, 0].tolist() == [4, 5]


def test_faults_of_the_data_are_told_before_a_shift_stumbles_over_them() -> None:
    draw = np.random.default_rng(0)
    part = Raw(draw.normal(size=(30, 2)), np.arange(30) % 2)
    whole = {"train": part, "val": part, "test": part}
    encoding, sets = TableEncoding(cardinalities=(0, 0)), {"low": shifts.column_third(0, "low")}

    def given(**changed: Raw) -> None:
        assemble({**whole, **changed}, encoding=encoding, target="classes", shifts=sets)

    given()
    with pytest.raises(InputError, match="they need one target per input"):
        given(test=Raw(part.x, part.y[:-3]))
    with pytest.raises(InputError, match="split test is empty"):
        given(test=Raw(part.x[:0], part.y[:0]))
    with pytest.raises(InputError, match="shift set 'test' has the name of the test set; call it otherwise"):
        given(shift_test=part)
