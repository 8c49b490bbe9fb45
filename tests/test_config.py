"""Configurations: every shipped one loads; faults come all at once, with their path and the nearest right name."""

from __future__ import annotations

import pytest

from orca.config import RunConfig, check_config, configs_folder, find_config, load_config
from orca.errors import InputError
from orca.tasks import TASKS

SHIPPED = sorted(p.relative_to(configs_folder()).with_suffix("").as_posix() for p in configs_folder().rglob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_loads_from_any_folder(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(name)
    assert config.task_name in TASKS
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("paper/")])
def test_the_settings_of_the_paper_are_the_reference_s(name: str) -> None:
    config = load_config(name)
    align, finetune = config.align, config.finetune
    vision = config.body.name == "swin-base"
    assert config.body.name == ("swin-base" if vision else "roberta-base")
    assert (config.source.name, config.source.path, config.source.n) == ("cifar10" if vision else "conll", None, 5000)
    assert config.body.dropout == (0.05 if name.startswith("paper/table") else 0)
    assert (align.objective, align.label_distance, align.label_gradient) == ("otdd-classwise", "exact", False)
    assert (align.reg, align.reg_unit) == (0.2, "absolute")
    assert (align.min_improvement, align.keep) == (0, "last")
    assert align.lr == pytest.approx(10 * finetune.lr)
    spec = TASKS.get(config.task_name)
    classes = len(spec.classes) if spec.target == "classes" else align.pseudo_labels
    assert align.samples_per_class * classes <= align.max_samples  # else each class has fewer
    assert finetune.embedder_lr == finetune.head_lr == finetune.lr
    assert finetune.patience == finetune.epochs


def test_every_task_has_a_configuration_of_its_name() -> None:
    assert set(TASKS.names()) <= set(SHIPPED)
    assert all(load_config(name).task_name == name for name in TASKS.names())


def test_all_faults_come_at_once_with_path_and_nearest_name() -> None:
    raw = {
        "task": "digts",
        "body": "minilmm",
        "metric": "eror",
        "source": {"name": "nerr"},
        "align": {"objective": "odtt", "epohcs": 3},
        "finetune": {"method": "ful", "lr": "fast", "epochs": 0},
        "sede": 1,
    }
    with pytest.raises(InputError) as caught:
        check_config(raw, origin="my.yaml")
    text = str(caught.value)
    for line in (
        "my.yaml has 10 faults",
        "task: there is no 'digts'; did you mean 'digits'?",
        "body: there is no 'minilmm'; did you mean 'minilm'?",
        "metric: there is no 'eror'; did you mean 'error'?",
        "source.name: there is no source 'nerr'; did you mean ner?",
        "align.objective: there is no 'odtt'; did you mean 'otdd'?",
        "align.epohcs: there is no such key; did you mean 'epochs'?",
        "finetune.method: there is no 'ful'; did you mean 'full'?",
        "finetune.lr: input should be a valid number",
        "finetune.epochs: input should be greater than or equal to 1; got 0",
        "sede: there is no such key; did you mean 'seed'?",
    ):
        assert line in text


def test_faults_of_own_data_have_their_path() -> None:
    raw = {"task": {"name": "mine", "data": "x.npz", "input": "sequense", "target": "classes", "metrik": "error"}}
    with pytest.raises(InputError) as caught:
        check_config(raw)
    assert "task.input: input should be 'sequence', 'grid'" in str(caught.value)
    assert "task.metrik: there is no such key; did you mean 'metric'?" in str(caught.value)


def test_a_missing_task_is_asked_for() -> None:
    with pytest.raises(InputError, match="task: this key is needed"):
        check_config({})


def test_overrides_are_read_as_yaml_and_reach_every_part() -> None:
    config = load_config(
        "demo", overrides=["finetune.lr=1e-3", "body.dropout=0", "align.objective=none", "metric=accuracy"], seed=7
    )
    assert (config.finetune.lr, config.body.name, config.body.dropout) == (1e-3, "minilm", 0.0)
    assert (config.align.objective, config.metric, config.seed) == ("none", "accuracy", 7)
    assert not config.aligned


def test_an_override_of_a_plain_body_keeps_its_name(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("task: digits\nbody: gpt2\n")
    config = load_config(str(tmp_path / "a.yaml"), overrides=["body.causal=false"])
    assert (config.body.name, config.body.causal) == ("gpt2", False)


@pytest.mark.parametrize("override", ["finetune.lr", "=3"])
def test_a_malformed_override_says_what_one_looks_like(override: str) -> None:
    with pytest.raises(InputError, match="an override is key=value, like -s finetune.lr=1e-4"):
        load_config("demo", overrides=[override])


def test_unknown_configurations_name_the_near_ones() -> None:
    with pytest.raises(InputError, match=r"no configuration 'demmo'; did you mean demo\?"):
        find_config("demmo")
    with pytest.raises(InputError, match="no configuration file .*absent.yaml"):
        find_config("absent.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [", "is not YAML"), ("- 1\n", "must hold keys and values.*list")])
def test_a_file_that_is_no_mapping_is_refused(text: str, message: str, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(str(tmp_path / "a.yaml"))


def test_own_data_is_found_beside_its_configuration(tmp_path) -> None:
    text = "task: {name: mine, data: data/x.npz, input: table, target: scalar}\n"
    (tmp_path / "a.yaml").write_text(text)
    config = load_config(str(tmp_path / "a.yaml"))
    assert not isinstance(config.task, str)
    assert config.task.data == str(tmp_path / "data" / "x.npz")
    assert config.task_name == "mine"


def test_the_home_folder_is_expanded_in_the_path_of_own_data(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "a.yaml").write_text("task: {name: mine, data: ~/x.npz, input: table, target: scalar}\n")
    config = load_config(str(tmp_path / "a.yaml"))
    assert not isinstance(config.task, str)
    assert config.task.data == str(tmp_path / "home" / "x.npz")


def test_paths_in_a_file_start_at_its_folder_and_those_in_overrides_at_the_current_one(tmp_path, monkeypatch) -> None:
    (there := tmp_path / "there" / "body").mkdir(parents=True)
    (here := tmp_path / "here" / "body").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / "a.yaml").write_text("task: digits\nbody: body\nsource: {name: conll, path: a.conll}\n")
    file = str(tmp_path / "there" / "a.yaml")
    config = load_config(file)
    assert (config.body.name, config.source.path) == (str(there), str(tmp_path / "there" / "a.conll"))
    config = load_config(file, overrides=("body=body", "source.path=b.conll"))
    assert (config.body.name, config.source.path) == (str(here), str(tmp_path / "here" / "b.conll"))


def test_the_name_of_a_body_is_not_a_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    assert load_config("digits", overrides=("body=minilm",)).body.name == "minilm"


def test_scratch_is_never_aligned() -> None:
    assert not check_config({"task": "digits", "finetune": {"method": "scratch"}}).aligned
    assert check_config({"task": "digits"}).aligned
