"""What the result of each stage depends on, and the keys made of it: known before any work is done."""

from __future__ import annotations

from typing import Any

from orca.manifest import stage_key
from orca.plan import Plan
from orca.sources import SOURCES

# Raise a stage's number when the meaning of its result changes: it is part of the key.
VERSIONS = {"source": 1, "embed": 2, "align": 4, "finetune": 2, "baselines": 3, "evaluate": 2}


def documents(made: Plan) -> dict[str, dict[str, Any]]:
    """All that the result of each stage of a plan depends on: the four in their order, then source and baselines."""
    config, metric = made.config, made.metric().name
    shifts = {name: shift.facts for name, shift in made.task.shifts.items()}
    scored = {"metric": metric, **({"shifts": shifts} if shifts else {})}
    training = {"finetune": config.finetune.document(), "metric": metric}
    aligning: dict[str, Any] = {"align": {"objective": "none"}}
    language: dict[str, Any] = {}
    if config.aligned:
        origin = SOURCES.get(config.source.name).fingerprint(config.source)
        settings = config.align.resolved(config.source).model_dump()
        aligning = {"align": settings, "source": [origin, config.source.model_dump()]}
        if config.align.keep == "trained":
            aligning["training"] = {"version": VERSIONS["finetune"], **training}
        language = {"source": {"source": origin, "config": config.source.model_dump(), "body": made.body_key}}
        if config.random_seed is not None:
            language["source"]["seed"] = config.random_seed
    chain: dict[str, dict[str, Any]] = {
        "embed": {
            "task": made.data_key, "body": made.body_key, "seed": config.seed, "pretrained": config.random_seed is None,
            "embed": config.embed.document(), "entered": config.body.model_dump(include={"causal", "dropout"}),
        },
        "align": aligning,
        "finetune": training,
        "evaluate": scored,
    }  # fmt: skip
    beside = {**language, "baselines": {"task": made.data_key, **scored}}
    common = {"device": made.device.type, "precision": str(made.dtype)}
    found: dict[str, dict[str, Any]] = {}
    before: dict[str, str] = {}
    for name, facts in chain.items():
        found[name] = {"version": VERSIONS[name], **common, **facts, **before}
        before = {"after": stage_key(name, found[name])}
    return found | {name: {"version": VERSIONS[name], **common, **facts} for name, facts in beside.items()}


def keys(made: Plan) -> dict[str, str]:
    """The key of each stage, as ``documents``."""
    return {name: stage_key(name, document) for name, document in documents(made).items()}


def run_name(made: Plan) -> str:
    """Task, method and seed, and the first digits of the last stage's key."""
    config = made.config
    return f"{config.task_name}-{config.finetune.method}-s{config.seed}-{keys(made)['evaluate'][:8]}"
