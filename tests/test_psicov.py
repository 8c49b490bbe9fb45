"""PSICOV: folds have the geometry of proteins, channels their order, maps their true length; broken files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import METRICS
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.nb360 import chain, pairs, psicov
from orca.tasks.nb360.protein import LETTERS, preferences
from orca.tasks.published import Size

SMALL = Size(12, 0, 6, 64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "psicov"
    checks = make(psicov.PSICOV, folder, SMALL)
    assert [check for check in checks if not check.passed] == []
    return folder


def dihedral(x: np.ndarray) -> float:
    a, b, c = np.diff(x[:4], axis=0)
    normal = np.cross(b, c)
    return float(np.degrees(np.arctan2(np.linalg.norm(b) * a @ normal, np.cross(a, b) @ normal)))


@pytest.mark.parametrize(("kind", "rise", "turn"), [(chain.HELIX, 1.5, 50.0), (chain.STRAND, 3.3, -170.0)])
def test_helices_and_strands_have_their_rise_and_hand(kind: int, rise: float, turn: float) -> None:
    x = chain._extended(np.full((1, 37), kind), np.random.default_rng(0))[0]
    assert np.linalg.norm(x[36] - x[0]) / 36 == pytest.approx(rise, abs=0.05)
    assert dihedral(x) == pytest.approx(turn, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), chain.BOND)


def test_a_fold_keeps_bonds_and_segments_and_is_compact() -> None:
    draw = np.random.default_rng(0)
    kinds = np.stack([chain.segments(48, draw) for _ in range(3)])
    x = chain.fold(kinds, np.array([48, 40, 48]), draw)
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=1), axis=2), chain.BOND, rtol=1e-9)
    before = chain._extended(kinds, np.random.default_rng(0))
    stretch = [np.linalg.norm(a - a.mean(0)) for a in (x[0], before[0])]
    assert stretch[0] < 0.6 * stretch[1]
    helix = np.flatnonzero((kinds[0, :-3] == chain.HELIX) & (kinds[0, 3:] == chain.HELIX))
    away = np.linalg.norm(x[0, helix + 3] - x[0, helix], axis=1)
    assert np.median(away) == pytest.approx(5.0, abs=0.3)  # residues i and i + 3 of a helix


def test_c_beta_atoms_point_away_from_the_neighbours() -> None:
    x = np.array([[0.0, 0, 0], [2.7, 2.7, 0], [5.4, 0, 0]]) / np.sqrt(2 * 2.7**2) * chain.BOND
    beta = chain.c_beta(x)
    np.testing.assert_allclose(beta[1] - x[1], [0, chain.SIDE_CHAIN, 0], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(beta - x, axis=1), chain.SIDE_CHAIN)


def test_contact_preferences_are_symmetric() -> None:
    table = preferences()
    np.testing.assert_allclose(table, table.T)
    index = {letter: i for i, letter in enumerate(LETTERS)}
    assert table[index["I"], index["L"]] > table[index["K"], index["R"]]


def test_the_channels_have_the_order_of_the_published_loader() -> None:
    draw = np.random.default_rng(0)
    features = {name: draw.normal(size=(count, 4)) for name, count in pairs.ROWS.items()}
    features |= {name: draw.normal(size=(4, 4)) for name in pairs.MAPS}
    maps = pairs.channels(features)
    assert maps.shape == (57, 4, 4)
    assert maps[0, 1, 3] == features["ss"][0, 3]
    assert maps[1, 1, 3] == features["ss"][0, 1]
    assert maps[6, 0, 2] == features["pssm"][0, 2]
    assert maps[50, 0, 2] == features["sa"][0, 2]
    assert maps[53, 0, 2] == features["entropy"][0, 0]
    np.testing.assert_array_equal(maps[54:], [features[name] for name in pairs.MAPS])


def test_the_diagonal_is_the_mean_of_its_neighbours() -> None:
    distance = np.array([[0.0, 3, 9], [3, 0, 5], [9, 5, 0]])
    np.testing.assert_array_equal(np.diag(pairs.with_diagonal(distance)), [3, 4, 5])


def test_maps_lie_in_the_corner_and_end_with_the_protein(made: Path) -> None:
    parts = psicov.read(made)
    assert parts["train"].x.shape == (12, 57, 64, 64)
    found = np.load(made / "protein" / "psicov" / "distance" / "test0000-cb.npz")["dist"]
    length = len(found)
    y = parts["test"].y[0]
    np.testing.assert_array_equal(~np.isnan(y).all(0), (np.arange(64) >= 5) & (np.arange(64) < 5 + length))
    np.testing.assert_array_equal(y[5, 6 : 5 + length], np.maximum(found[0, 1:], 1))
    assert np.nanmax(parts["test"].y) > psicov.CLIP >= np.nanmax(parts["train"].y)
    assert not parts["test"].x[0][:, :5].any()


def test_a_longer_protein_is_cut_to_one_stretch() -> None:
    assert pairs.window(54, 64, None) == slice(0, 54)
    assert pairs.window(60, 64, None) == slice(3, 57)
    starts = {pairs.window(60, 64, np.random.default_rng(seed)).start for seed in range(40)}
    assert starts == set(range(7))


def test_the_predictors_beat_the_mean(made: Path, monkeypatch) -> None:
    monkeypatch.setenv("ORCA_DATA", str(made.parent))
    task, metric = TASKS.get("psicov"), METRICS.get("mae8")
    splits = task.load()
    assert splits.layout.missing
    found = {name: metric.fn(fit(splits.train)(splits.test), splits.test.y) for name, fit in task.predictors.items()}
    mean = np.full(splits.test.y.shape, np.nanmean(splits.train.y))
    assert found["pairwise"] < 0.8 * metric.fn(mean, splits.test.y)
    assert np.isfinite(found["separation"])


def by_hand(folder: Path, **changes: np.ndarray) -> Path:
    """Two proteins of 30 residues, in one folder of features for both lists."""
    draw, length = np.random.default_rng(0), 30
    for kind in ("features", "distance"):
        (folder / kind).mkdir(parents=True)
    arrays = {"seq": np.array("A" * length), "ss": draw.normal(size=(3, length)),
              "pssm": draw.normal(size=(length, 22)), "sa": draw.normal(size=length),
              "entropy": draw.normal(size=length)}  # fmt: skip
    arrays |= {name: draw.normal(size=(length, length)) for name in pairs.MAPS}
    arrays = {key: changes.get(key, value) for key, value in arrays.items() if key not in changes.get("-", ())}
    for name in ("1abc", "2xyz"):
        np.savez(folder / "features" / f"{name}.npz", **arrays)  # pyright: ignore[reportArgumentType]
        distance = changes.get("dist", draw.uniform(0, 40, (length, length)))
        np.savez(folder / "distance" / f"{name}-cb.npz", dist=distance)
    (folder / "deepcov.lst").write_text(str(changes.get("deepcov", "1abc\n")))
    (folder / "psicov.lst").write_text("2xyz\n\n")
    return folder


def test_files_made_by_hand_load(tmp_path: Path) -> None:
    parts = psicov.read(by_hand(tmp_path))
    assert parts["test"].x.shape == (1, 57, 64, 64)
    assert np.nanmin(parts["test"].y) >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deepcov": np.array("9zzz")}, "names 9zzz, but 9zzz.npz is in no folder .*orca data convert psicov"),
        ({"deepcov": np.array("\n")}, "deepcov.lst names no protein"),
        ({"-": np.array(["sa"])}, "1abc.npz lacks sa"),
        ({"-": np.array(["seq", "ss"])}, "1abc.npz lacks seq"),
        ({"pssm": np.zeros((22, 30))}, r"pssm in .* has shape \(22, 30\); expected \(30, 22\)"),
        ({"ccmpred": np.zeros((29, 29))}, r"ccmpred in .* shape \(29, 29\); expected \(30, 30\)"),
        ({"sa": np.full(30, 200.0)}, "sa in .* reaches 200.0; expected less than 100"),
        ({"entropy": np.full(30, np.nan)}, "entropy in .* reaches nan"),
        ({"dist": np.zeros((31, 31))}, r"dist in .* shape \(31, 31\); expected \(30, 30\)"),
        ({"dist": np.full((30, 30), 501.0)}, "dist in .* reaches 501.0; expected at most 500"),
        ({"dist": np.full((30, 30), np.nan)}, "dist in .* reaches inf"),
    ],
)
def test_each_way_to_break_the_files_has_its_message(changes: dict[str, np.ndarray], message: str, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        psicov.read(by_hand(tmp_path, **changes))


def test_a_list_may_have_more_columns_and_must_be_text(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, deepcov="1abc 30 0.5\n")
    assert len(psicov.read(folder)["train"].x) == 1
    (folder / "deepcov.lst").write_bytes(b"\xff\xfe1abc")
    with pytest.raises(InputError, match="deepcov.lst is no text in UTF-8"):
        psicov.read(folder)


def test_a_list_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    (by_hand(tmp_path) / "psicov.lst").unlink()
    with pytest.raises(InputError, match="lacks psicov.lst; expected the names of proteins, one a line"):
        psicov.read(tmp_path)


def test_a_canvas_too_small_for_a_protein_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="proteins need a canvas of 42 points or more; got 32"):
        make(psicov.PSICOV, tmp_path / "made", Size(2, 0, 1, 32))
