"""The command `orca otdd`: what it prints, what its JSON and its report hold, and how it refuses bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from tests.test_run import settings
from tests.tiny import save_tiny_body


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCA_DATA", raising=False)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three files; the second lies nearer to the first than the third, which is smaller and has other labels."""
    folder, draw = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    found = []
    for name, n, shift, labels in (("a", 40, 0.0, "pqr"), ("b", 40, 0.5, "pqr"), ("c", 30, 4.0, "uv")):
        y = np.arange(n) % len(labels)
        x = draw.normal(size=(n, 3)) + 4 * np.eye(3)[y] + shift
        np.savez(folder / f"{name}.npz", x=x, y=np.array(list(labels))[y])
        found.append(str(folder / f"{name}.npz"))
    return found


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["otdd", *(str(a) for a in arguments)])


def refused(*arguments: Any) -> str:
    """The message of a command that ended with exit code 2."""
    result = call(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("orca: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_the_list_of_commands_has_its_line_in_full() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    assert re.search(r"^  otdd +Show how far labelled sets are.*\.$", listed, re.MULTILINE)
    assert "--label-distance" in call("--help").stdout


def test_two_sets_give_value_convergence_nearest_labels_and_the_table_of_labels(sets) -> None:
    result = call(sets[0], sets[1], "--reg", 0.01)
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert re.search(r"value +[\d.]+ squared features", text)
    assert re.search(r"converged +yes, \d+ iterations, marginal error \d", text)
    assert re.search(r"A +.*a\.npz: 40 of 40 samples, 3 classes \(y of the file\), 3 features, spread", text)
    rows = text.partition("nearest labels")[2].partition("label distances")[0].strip().splitlines()[1:]
    assert sorted(row.split()[:2] for row in rows[:3]) == [["p", "p"], ["q", "q"], ["r", "r"]]
    assert "label distances" in text
    assert "note:" not in text


def test_several_sets_are_ranked_and_unequal_sizes_are_said(sets) -> None:
    result = call(sets[0], sets[2], sets[1])
    lines = result.stdout.splitlines()
    assert lines[2].split()[:2] == ["set", "value"]
    assert [line.split()[0] for line in lines[3:5]] == sets[1:]
    assert result.stdout.count("note:") == 1
    assert "has 40 samples" in result.stdout
    assert "note:" not in call(sets[0], sets[2], sets[1], "--samples", 30).stdout


def test_json_of_two_sets_is_one_record(sets) -> None:
    record = json.loads(call(sets[0], sets[1], "--json").stdout)
    for key in ("a", "b", "value", "label_distances", "source_labels", "target_labels", "label_mass", "converged",
                "marginal_error", "iterations", "samples", "settings", "versions"):  # fmt: skip
        assert key in record, key
    assert record["samples"] == {"a": 40, "b": 40}
    assert record["source_labels"] == ["p", "q", "r"]
    assert np.array(record["label_mass"]).sum() == pytest.approx(1)


def test_json_of_several_sets_names_the_nearest(sets) -> None:
    found = json.loads(call(sets[0], sets[2], sets[1], "--json").stdout)
    assert (found["a"], found["nearest"]) == (sets[0], sets[1])
    assert [record["b"] for record in found["results"]] == sets[1:]


def test_options_reach_the_computation(sets) -> None:
    def value(*options: Any) -> float:
        return json.loads(call(sets[0], sets[1], "--json", *options).stdout)["value"]

    base = value()
    for options in (
        ("--no-debias",), ("--lambda-x", 2), ("--lambda-y", 0), ("--p", 1), ("--reg", 1),
        ("--reg-unit", "absolute", "--reg", 3), ("--label-distance", "none"), ("--samples", 20),
        ("--method", "sliced"), ("--method", "gromov"),
    ):  # fmt: skip
        assert value(*options) != pytest.approx(base, rel=1e-6), options
    assert value("--samples", 20, "--seed", 1) != pytest.approx(value("--samples", 20), rel=1e-6)
    assert value() == base


def test_a_task_and_a_source_meet_in_the_space_of_a_body(tmp_path) -> None:
    body = save_tiny_body(tmp_path / "body")
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(settings(tmp_path, body)))
    result = call(tmp_path / "set.yaml", "ner", "--body", body, "--samples", 40, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["sets"]["a"]["space"] == record["sets"]["b"]["space"] == f"embedding space of {body}"
    assert record["sets"]["b"]["dimension"] == 16
    assert record["settings"]["body"] == str(body)
    assert record["target_labels"][0] == "O"


def test_a_report_goes_into_a_file_or_with_its_figures_into_a_folder(sets, tmp_path) -> None:
    result = call(sets[0], sets[1], "--output", tmp_path / "page.html")
    assert result.stderr == f"report: {tmp_path}/page.html\n"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    both = call(*sets, "--output", tmp_path / "folder", "--json")
    names = {p.name for p in (tmp_path / "folder").iterdir()}
    pairs = {f"{kind}-{i}.svg" for kind in ("distances", "mass") for i in (1, 2)}
    assert names == {"otdd.html", "otdd.json", "ranking.svg", *pairs}
    assert json.loads((tmp_path / "folder" / "otdd.json").read_text()) == json.loads(both.stdout)["results"]


BAD: dict[str, tuple[list[Any], str]] = {
    "unknown set": (["digitz", "ner"], "there is no task, configuration or source 'digitz'; did you mean digits"),
    "unknown second set": (["A", "nerr"], "there is no task, configuration or source 'nerr'; did you mean"),
    "missing file": (["A", "nowhere.npz"], "there is no file nowhere.npz"),
    "missing data": (["fsdd", "ner"], "ORCA_DATA is not set"),
    "missing column file": (["ner", "conll:nowhere"], "there is no file nowhere"),
    "unknown body": (["digits", "ner", "--body", "minilmm"], "there is no 'minilmm'"),
    "raw words": (["digits", "ner", "--raw"], "'ner' is text and has no raw features"),
    "raw with a body": (["digits", "digits", "--raw", "--body", "minilm"], "raw takes the data as it is"),
    "features": (["digits", "digits", "--features", "tokens"], "features: expected embedder or body, got 'tokens'"),
    "dimensions": (["digits", "A", "--raw"], "has 64 features (encoded inputs, flattened)"),
    "method": (["A", "B", "--method", "sinkhorm"], "there is no method 'sinkhorm'; did you mean sinkhorn"),
    "label distance": (["A", "B", "--label-distance", "gauss"], "there is no label distance 'gauss'"),
    "reg": (["A", "B", "--reg", "-1"], "reg: expected"),
    "nan reg": (["A", "B", "--reg", "nan"], "reg: expected"),
    "unit of reg": (["A", "B", "--reg-unit", "m"], "reg-unit: expected source or absolute, got 'm'"),
    "power": (["A", "B", "--p", "3"], "p: expected 1 or 2, got 3"),
    "weight": (["A", "B", "--lambda-x", "-1"], "lambda_x: expected a number of at least 0"),
    "samples": (["A", "B", "--samples", "1"], "samples: expected at least 4, got 1"),
    "fewer samples than classes": (["digits", "digits", "--raw", "--samples", "8"], "8 samples cannot hold 10 classes"),
    "seed": (["A", "B", "--seed", "-1"], "seed: expected at least 0"),
    "device": (["A", "B", "--device", "gpu"], "device must be auto, cpu, cuda, cuda:N or mps; got 'gpu'"),
    "report": (["A", "B", "--output", "report.json"], "the report goes into a folder or a file .html; got report.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_a_message_and_code_two(case: str, sets) -> None:
    arguments, message = BAD[case]
    named = {"A": sets[0], "B": sets[1]}
    assert message in refused(*(named.get(a, a) for a in arguments))


def test_values_that_are_not_finite_are_refused(sets, tmp_path) -> None:
    np.savez(tmp_path / "nan.npz", x=np.array([[0.0, np.nan, 1.0]] * 6), y=np.arange(6) % 2)
    assert "6 of 6 rows have NaN or infinity, the first is row 0" in refused(sets[0], tmp_path / "nan.npz")


def test_more_samples_than_gromov_takes_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "big.npz", x=np.random.default_rng(0).normal(size=(2100, 1)), y=np.arange(2100) % 2)
    big = tmp_path / "big.npz"
    assert "takes at most 2000 samples a side" in refused(big, big, "--method", "gromov", "--samples", 2100)


def test_a_place_that_cannot_be_written_is_refused(sets, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    assert "the report cannot be written to" in refused(sets[0], sets[1], "--output", tmp_path / "file" / "page.html")
    assert "the report goes into a folder or a file .html" in refused(sets[0], sets[1], "--output", tmp_path / "file")


def test_a_path_of_a_report_is_found_wrong_before_the_sets_are_read() -> None:
    assert "the report goes into" in refused("digitz", "nothing", "--output", Path("page.png"))
