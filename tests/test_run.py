"""Whole runs on tiny data and a tiny body: what is reused, redone, repaired, resumed; what is refused before work."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import orca
from orca import plan as plan_module
from orca.config import check_config
from orca.errors import InputError, TrainingError
from orca.keys import keys
from orca.plan import plan
from orca.run import adapt
from orca.sources.grammar import make_corpus
from orca.train import Fit
from orca.types import Splits
from tests.forked import CONTEXT
from tests.tiny import save_tiny_body


def write_data(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Two classes of short signals that can be told apart, with a shift set."""
    draw = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 40), ("val", 16), ("test", 20), ("shift_loud", 10)):
        y = np.arange(count) % 2
        arrays[f"x_{name}"] = (draw.normal(size=(count, 1, 12)) + 2 * y[:, None, None]).astype(np.float32)
        arrays[f"y_{name}"] = y
    arrays["x_shift_loud"] = 3 * arrays["x_shift_loud"]
    np.savez(path, **{**arrays, **changes})
    return path


def write_sentences(path: Path) -> Path:
    """The first sentences of Orca's own source set, of which all would take longer than the run."""
    corpus = make_corpus(sentences=150)
    parts = zip(corpus.sentences, corpus.tags, strict=True)
    path.write_text("\n\n".join("\n".join(map(" ".join, zip(*part, strict=True))) for part in parts))
    return path


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body"))


def settings(folder: Path, body: Path, **changes: Any) -> dict[str, Any]:
    data, sentences = folder / "data.npz", folder / "sentences.conll"
    if not data.is_file():
        write_data(data)
    if not sentences.is_file():
        write_sentences(sentences)
    base: dict[str, Any] = {
        "task": {"name": "tiny", "data": str(data), "input": "sequence", "target": "classes"},
        "body": str(body),
        "source": {"name": "conll", "path": str(sentences), "n": 80},
        "embed": {"tokens": 6},
        "align": {"epochs": 4, "samples_per_class": 8, "probe_every": 2, "probe_samples": 16},
        "finetune": {"epochs": 3, "batch_size": 8, "lr": 1e-3},
        "device": "cpu",
    }
    for key, value in changes.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return base


def cached(result: orca.RunResult) -> dict[str, bool]:
    return {stage["name"]: stage["cached"] for stage in result.record["stages"]}


def stage_costs(result: orca.RunResult) -> dict[str, float]:
    """The seconds that building each stage took, as their manifests tell."""
    places = {stage["name"]: Path(stage["path"]) for stage in result.record["stages"]}
    return {name: json.loads((path / "manifest.json").read_text())["seconds"] for name, path in places.items()}


def test_a_run_leaves_a_folder_that_tells_all(tmp_path, body) -> None:
    result = adapt(settings(tmp_path, body), store=tmp_path / "store")
    record = json.loads((result.path / "run.json").read_text())
    assert record == result.record
    assert result.path.parent == tmp_path / "store" / "runs"
    assert record["run"].startswith("tiny-full-s0-")
    assert [s["name"] for s in record["stages"]] == ["embed", "align", "finetune", "evaluate"]
    assert record["metric"]["name"] == "error"
    assert record["metric"]["n"] == 20
    low, high = record["metric"]["ci95"]
    assert low <= record["metric"]["value"] <= high
    assert set(record["shift"]) == {"loud"}
    assert set(record["baselines"]) == {"majority", "linear", "nearest"}
    assert record["parameters"]["trained"] == record["parameters"]["total"] > 0
    assert {p.name for p in result.path.iterdir()} == {
        "run.json", "config.yaml", "metrics.json", "history.jsonl", "predictions.npz", "layout.json", "report.html",
        "model",
    }  # fmt: skip
    assert yaml.safe_load((result.path / "config.yaml").read_text())["finetune"]["batch_size"] == 8
    history = [json.loads(line) for line in (result.path / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in history if r["stage"] == "finetune"] == [1, 2, 3]
    assert [r["epoch"] for r in history if r["stage"] == "align" and "epoch" in r] == [1, 2, 3, 4]


def test_the_reported_numbers_are_those_of_the_saved_model(tmp_path, body) -> None:
    result = adapt(settings(tmp_path, body), store=tmp_path / "store")
    data = np.load(tmp_path / "data.npz")
    model = orca.load(result.path)
    assert result.record["metric"]["value"] == pytest.approx(np.mean(model.predict(data["x_test"]) != data["y_test"]))
    loud = np.mean(model.predict(data["x_shift_loud"]) != data["y_shift_loud"])
    assert result.record["shift"]["loud"] == pytest.approx(loud)
    val = np.mean(model.predict(data["x_val"]) != data["y_val"])
    assert result.record["validation"]["value"] == pytest.approx(val)


def test_a_baseline_that_cannot_answer_the_test_set_is_left_out_of_the_record(tmp_path, body) -> None:
    """The test set lies on a finer grid, for which the baselines, fitted to the coarse one, have no answer."""
    draw = np.random.default_rng(0)
    sizes = {"train": (16, 6), "val": (8, 6), "test": (8, 9), "shift_same": (8, 6)}
    x = {name: draw.normal(size=(count, side, side)).astype(np.float32) for name, (count, side) in sizes.items()}
    np.savez(tmp_path / "data.npz", **{f"{axis}_{name}": 2 * v for name, v in x.items() for axis in "xy"})
    task = {"name": "tiny", "data": str(tmp_path / "data.npz"), "input": "grid", "target": "field"}
    result = adapt(settings(tmp_path, body, task=task, align={"objective": "none"}), store=tmp_path / "store")
    assert result.record["baselines"] == {}
    stored = json.loads((result.path / "metrics.json").read_text())["baselines"]
    assert {name: set(values) for name, values in stored.items()} == dict.fromkeys(
        ("mean", "ridge", "nearest"), {"same"}
    )
    assert "ridge" in (result.path / "report.html").read_text()


def test_what_has_been_done_is_not_done_again(tmp_path, body) -> None:
    store = tmp_path / "store"
    first = adapt(settings(tmp_path, body), store=store)
    second = adapt(settings(tmp_path, body), store=store)
    assert second.unchanged
    assert second.record["metric"] == first.record["metric"]
    tuned = adapt(settings(tmp_path, body, finetune={"lr": 2e-3}), store=store)
    assert cached(tuned) == {"embed": True, "align": True, "finetune": False, "evaluate": False}
    aligned = adapt(settings(tmp_path, body, align={"lr": 2e-3}), store=store)
    same = first.record["alignment"]["kept"] == aligned.record["alignment"]["kept"] == "unaligned"
    assert cached(aligned) == {"embed": True, "align": False, "finetune": same, "evaluate": same}
    assert len(list((store / "stages" / "source").iterdir())) == 1
    assert len(list((store / "stages" / "baselines").iterdir())) == 1
    seeded = adapt(settings(tmp_path, body), store=store, seed=1)
    assert not any(cached(seeded).values())


def test_other_data_is_another_key_and_a_copy_of_the_data_is_not(tmp_path, body) -> None:
    store = tmp_path / "store"
    adapt(settings(tmp_path, body), store=store)
    copy = tmp_path / "copy.npz"
    copy.write_bytes((tmp_path / "data.npz").read_bytes())
    assert adapt(settings(tmp_path, body, task={"data": str(copy)}), store=store).unchanged
    write_data(tmp_path / "data.npz", seed=1)
    assert not any(cached(adapt(settings(tmp_path, body), store=store)).values())


def test_the_same_run_in_another_store_is_the_same_bit_for_bit(tmp_path, body) -> None:
    one, two = (adapt(settings(tmp_path, body), store=tmp_path / name) for name in "ab")
    assert (one.path / "model" / "model.safetensors").read_bytes() == (
        two.path / "model" / "model.safetensors"
    ).read_bytes()
    assert one.record["metric"] == two.record["metric"]


@pytest.mark.parametrize("stage", ["embed", "finetune"])
def test_fresh_does_a_stage_again_and_all_that_follow(stage: str, tmp_path, body) -> None:
    adapt(settings(tmp_path, body), store=tmp_path / "store")
    again = adapt(settings(tmp_path, body), store=tmp_path / "store", fresh=(stage,))
    names = ("embed", "align", "finetune", "evaluate")
    assert cached(again) == {name: names.index(name) < names.index(stage) for name in names}


def test_a_damaged_stage_is_set_aside_and_rebuilt(tmp_path, body) -> None:
    store = tmp_path / "store"
    first = adapt(settings(tmp_path, body), store=store)
    places = list((store / "stages" / "finetune").glob("*/model/model.safetensors"))  # two if alignment kept nothing
    whole = places[0].read_bytes()
    for weights in places:
        weights.unlink()  # the run's own folder has a link to the same file
        weights.write_bytes(whole[:-1] + b"\0")
    second = adapt(settings(tmp_path, body), store=store)
    assert cached(second) == {"embed": True, "align": True, "finetune": False, "evaluate": True}
    assert all(weights.read_bytes() == whole for weights in places)
    assert len(list((store / "damaged").iterdir())) == len(places)
    assert second.record["metric"] == first.record["metric"]


@pytest.mark.parametrize("method", ["layernorm", "head", "scratch"])
def test_methods_share_what_they_can(method: str, tmp_path, body) -> None:
    adapt(settings(tmp_path, body), store=tmp_path / "store")
    other = adapt(settings(tmp_path, body, finetune={"method": method}), store=tmp_path / "store")
    shared = method != "scratch"
    assert cached(other) == {"embed": shared, "align": shared, "finetune": False, "evaluate": False}
    assert other.record["align"] == ("otdd" if shared else "none")
    counts = other.record["parameters"]
    assert (counts["trained"] == counts["total"]) == (method == "scratch")


def test_a_random_body_is_a_control_with_keys_of_its_own(tmp_path, body) -> None:
    learnt = settings(tmp_path, body, finetune={"method": "layernorm", "epochs": 1})
    drawn = {**learnt, "body": {"name": str(body), "pretrained": False}}
    of = {name: keys(plan(check_config(config))) for name, config in (("learnt", learnt), ("drawn", drawn))}
    assert not set(of["learnt"].values()) & set(of["drawn"].values()) - {of["learnt"]["baselines"]}
    assert keys(plan(check_config({**drawn, "seed": 1})))["source"] != of["drawn"]["source"]
    encoders = [
        load_file(adapt(config, seed=seed, store=tmp_path / "s").path / "model" / "model.safetensors")
        for config, seed in ((learnt, 1), (drawn, 1), (drawn, 2))
    ]
    frozen = [name for name in encoders[0] if name.startswith("encoder.") and name.endswith("query.weight")]
    weights = [np.concatenate([tensors[name].numpy().ravel() for name in frozen]) for tensors in encoders]
    assert len({values.tobytes() for values in weights}) == 3
    whole = settings(tmp_path, body, finetune={"method": "scratch"})
    unaligned = {**drawn, "finetune": {**whole["finetune"], "method": "full"}, "align": {"objective": "none"}}
    assert keys(plan(check_config(whole)))["align"] == keys(plan(check_config(unaligned)))["align"]


def test_learning_from_a_part_is_told_and_has_keys_of_its_own(tmp_path, body) -> None:
    given = settings(tmp_path, body, finetune={"epochs": 1})
    result = adapt({**given, "train_size": 0.5}, store=tmp_path / "s")
    assert "train_size: learnt from 20 of the 40 answers of the training set" in result.record["notes"]
    kept = result.record["alignment"]
    assert kept["objective"] == "otdd"
    (aligned,) = [Path(stage["path"]) for stage in result.record["stages"] if stage["name"] == "align"]
    steps = [json.loads(line) for line in (aligned / "history.jsonl").read_text().splitlines()[:-1]]
    probes = {"unaligned": kept["probe_unaligned"], **{f"epoch {step['epoch']}": step["probe"] for step in steps}}
    assert kept["probe_kept"] == probes[kept["kept"]]
    whole, part = (keys(plan(check_config({**given, "train_size": size}))) for size in (None, 20))
    assert set(whole) == set(part)
    assert {name for name in whole if whole[name] == part[name]} == {"source"}
    with pytest.raises(InputError, match="train_size is 41, but the training set has 40 answers"):
        plan(check_config({**given, "train_size": 41}))


@pytest.mark.parametrize("first", ["none", "otdd"])
def test_an_alignment_that_changes_nothing_shares_the_training_of_the_unaligned_run(
    first: str, tmp_path, body, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    fit = Fit.run
    monkeypatch.setattr(Fit, "run", lambda *given, **named: trained.append(1) or fit(*given, **named))
    monkeypatch.setattr("orca.align.surely_less", lambda *_: True)
    configs = {name: settings(tmp_path, body, align={"objective": name}) for name in ("none", "otdd")}
    begun = adapt(configs.pop(first), store=tmp_path / "s")
    (config,) = configs.values()
    then = adapt(config, store=tmp_path / "s")
    assert len(trained) == 1
    assert [s["name"] for s in then.record["stages"] if s["cached"]] == ["embed", "finetune", "evaluate"]
    assert then.record["metric"] == begun.record["metric"]
    places = [[Path(stage["path"]) for stage in run.record["stages"]] for run in (begun, then)]
    assert not {path.name for path in places[0][1:]} & {path.name for path in places[1][1:]}
    assert stage_costs(begun)["finetune"] == stage_costs(then)["finetune"] > 0
    alone = adapt(config, store=tmp_path / "alone")
    weights = [load_file(run.path / "model" / "model.safetensors") for run in (then, alone)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    again = adapt(config, store=tmp_path / "s", fresh=("finetune",))
    assert len(trained) == 3
    assert not again.record["stages"][2]["cached"]
    assert adapt(config, store=tmp_path / "s").unchanged


@pytest.mark.parametrize(("unaligned", "aligned"), [(0.2, 0.1), (0.1, 0.1), (0.1, 0.2), (0.1, nan), (nan, 0.1)])
@pytest.mark.parametrize("first", ["none", "otdd"])
def test_where_training_decides_validation_chooses_the_embedder_and_nothing_is_trained_twice(
    first: str, unaligned: float, aligned: float, tmp_path, body, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([unaligned, aligned] if first == "none" else [aligned, unaligned])
    fit = Fit.run
    monkeypatch.setattr(Fit, "run", lambda *a, **named: replace(fit(*a, **named), best_value=next(values)))
    monkeypatch.setattr("orca.align.surely_less", lambda *_: False)
    config = settings(tmp_path, body, align={"keep": "trained"})
    begun = adapt(settings(tmp_path, body, align={"objective": first}), store=tmp_path / "s")
    run = adapt(config, store=tmp_path / "s")
    assert next(values, None) is None  # two trainings in all
    better = aligned < unaligned or isnan(unaligned)
    told = run.record["alignment"]
    assert (told["keep"], told["kept"]) == ("trained", "epoch 4" if better else "unaligned")
    assert run.record["validation"]["value"] == (aligned if better else unaligned)
    second = "none" if first == "otdd" else "otdd"
    runs = {first: begun, second: adapt(settings(tmp_path, body, align={"objective": second}), store=tmp_path / "s")}
    goes_on, in_vain = ("otdd", "none") if better else ("none", "otdd")
    assert run.record["metric"] == runs[goes_on].record["metric"]
    weights = [load_file(one.path / "model" / "model.safetensors") for one in (run, runs[goes_on])]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    cost = {name: stage_costs(one) for name, one in {**runs, "trained": run}.items()}
    alone = cost["none"]["align"] + cost["otdd"]["align"] + cost[in_vain]["finetune"]
    assert cost["trained"]["align"] == pytest.approx(alone, abs=2e-3)  # manifests round to milliseconds
    assert cost["trained"]["finetune"] == cost[goes_on]["finetune"]
    assert adapt(config, store=tmp_path / "s").unchanged


@pytest.mark.parametrize("diverges", [(False, True), (True, False), (True, True)])
def test_where_training_decides_an_embedder_from_which_it_diverges_does_not_go_on(
    diverges: tuple[bool, bool], tmp_path, body, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, fates = Fit.run, iter((*diverges, True))  # of the unaligned, the aligned, and of the one that is left

    def run(*given: Any, **named: Any) -> Any:
        if next(fates):
            raise TrainingError("the loss became nan")
        return fit(*given, **named)

    monkeypatch.setattr(Fit, "run", run)
    monkeypatch.setattr("orca.align.surely_less", lambda *_: False)
    config = settings(tmp_path, body, align={"keep": "trained"})
    if all(diverges):
        with pytest.raises(TrainingError, match="the loss became nan"):
            adapt(config, store=tmp_path / "s")
        return
    kept = adapt(config, store=tmp_path / "s").record["alignment"]["kept"]
    assert kept == ("epoch 4" if diverges[0] else "unaligned")


def test_where_the_probe_refuses_alignment_nothing_is_trained_in_vain(tmp_path, body, monkeypatch) -> None:
    fit, trained = Fit.run, []
    monkeypatch.setattr(Fit, "run", lambda *a, **named: trained.append(1) or fit(*a, **named))
    monkeypatch.setattr("orca.align.surely_less", lambda *_: True)
    config = settings(tmp_path, body, align={"keep": "trained"})
    told = adapt(config, store=tmp_path / "s").record["alignment"]
    assert (told["keep"], told["kept"], len(trained)) == ("trained", "unaligned", 1)
    assert "validation_aligned" not in told


def test_a_fresh_decision_by_training_trains_both_anew_and_neither_twice(tmp_path, body, monkeypatch) -> None:
    fit, trained = Fit.run, []
    monkeypatch.setattr(Fit, "run", lambda *a, **named: trained.append(1) or fit(*a, **named))
    monkeypatch.setattr("orca.align.surely_less", lambda *_: False)
    config = settings(tmp_path, body, align={"keep": "trained"})
    adapt(config, store=tmp_path / "s")
    assert len(trained) == 2
    again = adapt(config, store=tmp_path / "s", fresh=("align",))
    assert len(trained) == 4
    assert not cached(again)["align"]
    adapt(config, store=tmp_path / "s", fresh=("finetune",))
    assert len(trained) == 5


def test_the_test_set_is_opened_by_evaluate_alone(tmp_path, body, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything before the last stage gives the same without a test set."""
    config = orca.config.check_config(settings(tmp_path, body))  # type: ignore[attr-defined]
    made, store = plan(config), orca.store.Store(tmp_path / "store")  # type: ignore[attr-defined]
    whole = made.data()
    none = whole.test.subset(np.array([], dtype=int))
    hidden = Splits(whole.train, whole.val, none, whole.layout, {}, whole.notes)
    monkeypatch.setitem(plan_module._data, made.data_key, hidden)
    from orca import run

    embedded = run.embed(made, store)
    tuned = run.finetune(made, store, embedded, run.align(made, store, embedded))
    assert (tuned.path / "model" / "model.safetensors").is_file()


def work(config: dict[str, Any], store: Path, stop: list[Any], told: Any) -> None:
    """A run that tells its progress, and waits to be killed behind the stage and epoch ``stop``."""

    def progress(facts: dict[str, Any]) -> None:
        told.send([facts.get(key) for key in ("stage", "epoch", "seconds")])
        if [facts["stage"], facts.get("epoch")] == stop and "seconds" in facts:
            time.sleep(60)

    adapt(config, store=store, progress=progress)


def start(config: dict[str, Any], store: Path, *stop: Any) -> tuple[Any, Any]:
    """This in a process of its own, and where it tells."""
    here, there = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=work, args=(config, store, list(stop), there))
    child.start()
    there.close()
    return child, here


@pytest.mark.parametrize(("stage", "epoch"), [("align", 2), ("finetune", 2)])
def test_a_killed_run_goes_on_and_ends_bit_for_bit_as_one_left_alone(stage: str, epoch: int, tmp_path, body) -> None:
    config = settings(tmp_path, body)
    alone = adapt(config, store=tmp_path / "alone")
    child, told = start(config, tmp_path / "killed", stage, epoch)
    with told:
        facts = told.recv()  # EOFError: the child ended before it could be killed
        while facts[:2] != [stage, epoch] or facts[2] is None:  # those without seconds come in a slow epoch's midst
            facts = told.recv()
        child.kill()  # behind its checkpoint
        child.join()
    resumed: list[tuple[str, Any]] = []
    again = adapt(
        config, store=tmp_path / "killed", progress=lambda facts: resumed.append((facts["stage"], facts.get("epoch")))
    )
    assert (stage, epoch) not in resumed  # it went on behind the checkpoint
    assert (stage, epoch + 1) in resumed
    wanted, got = (load_file(r.path / "model" / "model.safetensors") for r in (alone, again))
    assert all(np.array_equal(value, got[key]) for key, value in wanted.items())
    assert again.record["metric"] == alone.record["metric"]
    assert again.record["validation"] == alone.record["validation"]


def test_two_runs_of_one_key_do_not_fight(tmp_path, body) -> None:
    config, store = settings(tmp_path, body), tmp_path / "store"
    children = [start(config, store) for _ in range(2)]
    for child, told in children:
        child.join(120)
        told.close()
    assert [child.exitcode for child, _ in children] == [0, 0]
    assert len(list((store / "stages" / "align").iterdir())) == 1
    assert len(list((store / "runs").iterdir())) == 1


def test_bad_input_is_refused_before_anything_is_written(tmp_path, body) -> None:
    faults = {
        r"no stage 'tune'; there are embed, align": {"fresh": ("tune",)},
        r"there is no file .*absent.npz": {"task": {"data": str(tmp_path / "absent.npz")}},
        r"metric 'rmse' is for targets of kind 'scalar'|metric rmse is for target scalar": {"metric": "rmse"},
        r"embed.patch is 50, but the inputs .* have an axis of 12": {"embed": {"patch": 50}},
        r"there is no metric 'recall'|metric: there is no 'recall'": {"metric": "recall"},
    }
    for message, change in faults.items():
        fresh = change.pop("fresh", ())
        with pytest.raises(InputError, match=message):
            adapt(settings(tmp_path, body, **change), store=tmp_path / "store", fresh=fresh)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="body: there is no 'no-such-body'"):
        adapt({**settings(tmp_path, body), "body": "no-such-body"}, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_balanced_draws_need_classes(tmp_path, body) -> None:
    sizes = {"train": 40, "val": 16, "test": 20, "shift_loud": 10}
    y = {f"y_{name}": np.arange(n, dtype=np.float32)[:, None] for name, n in sizes.items()}
    write_data(tmp_path / "data.npz", **y)
    config = settings(tmp_path, body, task={"target": "scalar"}, finetune={"balanced": True})
    with pytest.raises(InputError, match="draws classes equally often, but the target is a scalar"):
        adapt(config, store=tmp_path / "store")


def test_a_configuration_made_in_python_has_its_names_checked_too() -> None:
    config = orca.RunConfig.model_validate({"task": "digits", "align": {"objective": "oted"}})
    with pytest.raises(InputError, match="align.objective: there is no 'oted'; did you mean 'otdd'"):
        plan(config)


def test_a_store_that_was_moved_tells_where_it_is_now(tmp_path, body) -> None:
    adapt(settings(tmp_path, body), store=tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "moved")
    again = adapt(settings(tmp_path, body), store=tmp_path / "moved")
    assert again.unchanged
    assert again.record["path"] == str(again.path) == str(tmp_path / "moved" / "runs" / again.record["run"])
