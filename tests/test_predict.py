"""Predictions for a file: raw inputs in, an .npz without pickles out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orca.errors import InputError
from orca.predict import predict_file
from tests.tiny import tiny_adapted, tiny_examples


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def inputs(target: str, count: int = 7) -> np.ndarray:
    return tiny_examples(target, count).x


@pytest.mark.parametrize(
    ("target", "shape"),
    [("classes", (7,)), ("multilabel", (7, 3)), ("scalar", (7, 2)), ("field", (7, 1, 6, 6)), ("mask", (7, 1, 6, 6))],
)
def test_the_file_holds_what_the_model_predicts(target: str, shape: tuple[int, ...], tmp_path) -> None:
    model, x = tiny_adapted(target).eval(), inputs(target)
    made = predict_file(model, write(tmp_path / "in.npz", x=x), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        assert set(out.files) == set(made)
        assert out["prediction"].shape == shape
        assert np.array_equal(out["prediction"], model.predict(x))
        if target in ("classes", "multilabel", "mask"):
            assert np.array_equal(out["probability"], model.predict_proba(x))
        else:
            assert "probability" not in out.files


def test_probabilities_of_classes_sum_to_one_and_agree_with_the_prediction(tmp_path) -> None:
    made = predict_file(tiny_adapted().eval(), write(tmp_path / "in.npz", x=inputs("classes")), tmp_path / "out.npz")
    assert made["probability"].sum(1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(made["probability"].argmax(1), made["prediction"])


def test_what_lies_behind_the_length_of_a_sequence_changes_nothing(tmp_path) -> None:
    model, x, length = tiny_adapted().eval(), inputs("classes"), np.array([12, 6, 8, 12, 3, 12, 9])
    noisy = x.copy()
    for row, end in zip(noisy, length, strict=True):
        row[:, end:] = 99
    made = [
        predict_file(model, write(tmp_path / "in.npz", x=part, length=length), tmp_path / "out.npz")["probability"]
        for part in (x, noisy)
    ]
    assert np.array_equal(*made)
    whole = predict_file(model, write(tmp_path / "in.npz", x=x), tmp_path / "out.npz")["probability"]
    assert not np.array_equal(made[0], whole)


@pytest.mark.parametrize(
    ("arrays", "output", "message"),
    [
        ({"x": np.zeros((3, 2, 12))}, "out.csv", "written as .npz; got .*out.csv"),
        ({"inputs": np.zeros((3, 2, 12))}, "out.npz", "lacks x; it has inputs"),
        ({"x": np.zeros((3, 5, 12))}, "out.npz", r"takes inputs of shape \(n, 2, 12\)"),
        ({"x": np.full((3, 2, 12), np.nan)}, "out.npz", "not finite, first in sample 0"),
        ({"x": np.array([{"a": 1}])}, "out.npz", "pickled"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_nothing_is_written(
    arrays: dict[str, Any], output: str, message: str, tmp_path
) -> None:
    with pytest.raises(InputError, match=message):
        predict_file(tiny_adapted().eval(), write(tmp_path / "in.npz", **arrays), tmp_path / output)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npz"]


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_an_input_that_is_no_npz_file_is_refused(content: bytes | None, tmp_path) -> None:
    (tmp_path / "out.npz").write_bytes(b"of before")
    path = tmp_path / "in.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"in\.npz"):
        predict_file(tiny_adapted().eval(), path, tmp_path / "out.npz")


def test_predictions_do_not_take_the_place_of_their_input(tmp_path) -> None:
    path = write(tmp_path / "in.npz", x=inputs("classes"))
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        predict_file(tiny_adapted().eval(), path, tmp_path / "." / "in.npz")
    assert path.read_bytes() == before


def test_an_older_output_stays_whole_when_the_input_is_bad(tmp_path) -> None:
    model = tiny_adapted().eval()
    predict_file(model, write(tmp_path / "in.npz", x=inputs("classes")), tmp_path / "out.npz")
    before = (tmp_path / "out.npz").read_bytes()
    with pytest.raises(InputError):
        predict_file(model, write(tmp_path / "bad.npz", x=np.zeros((3, 5, 12))), tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == before
