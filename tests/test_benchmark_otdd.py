"""The benchmark of the dataset distance: finite timings, rivals that agree, the limit, presets and the figure."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import growth, keops, limit, otdd

SIZES = {"source": 60, "source-classes": 3, "classes": 2, "per-class": 8, "dim": 6, "repeats": 2, "device": "cpu"}
SMALL = [f"--{name}={value}" for name, value in SIZES.items()]


def test_the_otdd_benchmark_prints_finite_json_with_what_it_was_measured_on(capsys) -> None:
    assert otdd.main([*SMALL, "--json"]) == 0
    made = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(made["results"]) == ["joint", "classwise"]
    for result in made["results"].values():
        assert len(result["seconds"]) == 2
        assert 0 < result["min_seconds"] <= result["median_seconds"] <= result["max_seconds"]
        assert result["converged"]
        assert result["value"] > 0
        assert result["gradient_norm"] > 0
    assert {"machine", "versions", "threads", "device", "commit", "distance", "seed"} <= set(made)


def test_the_otdd_benchmark_draws_the_same_data_again(capsys) -> None:
    values = []
    for _ in range(2):
        otdd.main([*SMALL, "--json", "--kinds", "joint"])
        values.append(json.loads(capsys.readouterr().out)["results"]["joint"]["value"])
    assert values[0] == values[1]


def test_the_otdd_benchmark_prints_a_table(capsys) -> None:
    otdd.main(SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["joint", "classwise"]
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "2 repeats" in lines[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--kinds", "join"], "joint, classwise, sliced"),
        (["--source", "2", "--source-classes", "3"], "too few"),
        (["--dim", "0"], "at least 1"),
        (["--device", "abacus"], "abacus"),
        (["--preset", "huge"], "issue"),
        (["--growth", "nowhere/figure.svg"], "directory that exists"),
        (["--growth", "figure.pdf"], ".svg or .png"),
    ],
)
def test_the_otdd_benchmark_refuses_bad_input(given: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        otdd.main([*SMALL, *given])
    assert said in capsys.readouterr().err


def test_rivals_find_the_value_and_the_gradient_of_the_classwise_epoch(capsys) -> None:
    assert otdd.main([*SMALL, "--json", "--rivals", "--kinds", "classwise"]) == 0
    made = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(made["rivals"]) == {"geomloss", "geomloss-equal", "pot"}
    for name in ("geomloss-equal", "pot"):
        rival = made["rivals"][name]
        assert rival["agrees"]
        assert rival["off_classes"] <= 1e-3
        assert rival["value"] == pytest.approx(made["results"]["classwise"]["value"], rel=1e-3)
    assert made["rivals"]["pot"]["converged"]
    assert made["rivals"]["pot"]["off_gradient"] < 0.01
    assert made["rivals"]["geomloss"]["off_gradient"] > made["rivals"]["geomloss-equal"]["off_gradient"]


@pytest.mark.parametrize("kind", ["means", "exact"])
def test_rivals_know_the_label_distances(kind: str, capsys) -> None:
    otdd.main([*SMALL, "--json", "--rivals", "--kinds", "classwise", "--label-distance", kind])
    assert json.loads(capsys.readouterr().out)["rivals"]["pot"]["agrees"]


def test_the_limit_counts_products_and_exponentials_of_the_epoch(capsys) -> None:
    # 10 source samples, classes of 2 and 3, 4 dimensions: (10 * 5 + 5 * 5) pairs, 2 * 4 operations, there and back
    assert limit.operations("joint", 10, [2, 3], 4) == (2 * 8 * 75, 75)
    assert limit.operations("classwise", 10, [2, 3], 4) == (2 * 8 * 63, 63)
    otdd.main([*SMALL, "--json", "--kinds", "joint"])
    made = json.loads(capsys.readouterr().out)
    share = made["limit"]["joint"]["seconds"] / made["results"]["joint"]["median_seconds"]
    assert made["limit"]["joint"]["share"] == pytest.approx(share)
    assert 0 < share < 1


def test_a_preset_takes_its_own_sizes_and_sets_the_reference_beside_them(monkeypatch, capsys) -> None:
    sizes = {"source": 40, "source_classes": 2, "classes": 3, "per_class": 5, "dim": 4}
    rows = [sizes | {"reference_seconds": 5.0, "most_seconds": 1e-9}, sizes | {"kinds": "sliced"}]
    assert otdd.PRESETS["issue"][2] == otdd.SIZES | {"reference_seconds": 78.0, "most_seconds": 0.45}
    monkeypatch.setitem(otdd.PRESETS, "issue", rows)
    assert otdd.main([*SMALL, "--preset", "issue", "--json"]) == 0
    made = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"]
    assert [list(row["results"]) for row in made] == [["joint", "classwise"], ["sliced"]]
    assert all(row[name] == value for row in made for name, value in sizes.items())
    assert made[0]["repeats"] == 2
    otdd.main([*SMALL, "--preset", "issue"])
    said = capsys.readouterr().out
    assert said.count("missed") == 2
    assert "Reference 5.0 s" in said


def test_growth_is_a_figure_with_three_panels_and_the_powers(tmp_path, capsys) -> None:
    figure = tmp_path / "growth.svg"
    given = {"source": 24, "source-classes": 2, "dim": 4, "repeats": 1, "device": "cpu", "growth": figure}
    assert otdd.main([f"--{name}={value}" for name, value in given.items()]) == 0
    assert capsys.readouterr().out.count("power") == 3
    drawn = figure.read_text()
    assert all(f">{label}<" in drawn for label in (*growth.NAMES.values(), "24 samples, d = 4"))
    assert all(f"{kind}: power" in drawn for kind in otdd.KINDS)


def test_the_power_of_growth_is_the_slope_on_logarithmic_axes() -> None:
    points = [{"at": at, "seconds": {"joint": 3 * at**2}} for at in (1, 2, 4, 8)]
    assert growth.exponent(points, "joint") == pytest.approx(2)
    assert growth.exponent([{"at": 1, "seconds": {"joint": 1.0}}] * 3, "joint") is None
    assert growth.Sizes(8, 4, 16).times("classes", 4) == growth.Sizes(16, 16, 16)


def test_keops_is_compared_with_on_the_same_potentials(monkeypatch) -> None:
    """KeOps compiles, so its log-sum-exp is written out in torch here."""

    def rows(x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
        return -eps * (-torch.cdist(x, y).square() / eps - torch.tensor(float(len(y))).log()).logsumexp(1)

    monkeypatch.setattr(keops, "keops_rows", rows)
    made = keops.measure(samples=40, dim=3, repeats=2)
    assert made["apart"] < 1e-3
    assert all(len(made[name]["seconds"]) == 2 and made[name]["min_seconds"] > 0 for name in ("streaming", "keops"))
