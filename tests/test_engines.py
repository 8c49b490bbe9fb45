"""The engines of the outer problem give one answer: values, plans and gradients, whatever holds the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from orca.errors import InputError
from orca.transport import ENGINES, OTDDOptions, SourceStatistics, engines, gaussian, otdd, otdd_classwise, streaming
from orca.transport.cost import pairwise_cost
from orca.types import LabeledSet

TIGHT: dict[str, Any] = {"tolerance": 1e-10, "max_iterations": 20_000}


def labelled(n: int, d: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    y[:classes] = torch.arange(classes)
    means = torch.randn(classes, d, generator=draw, dtype=torch.float64)
    return means[y] + 0.5 * torch.randn(n, d, generator=draw, dtype=torch.float64), y


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start from 12 samples a side, and blocks of few rows, the last one shorter."""
    monkeypatch.setattr(streaming, "COARSE", 12)
    monkeypatch.setitem(streaming.BLOCK, "cpu", 4 * 29 + 1)


def both_ways(engine: str, **options: Any) -> tuple[Any, Tensor, Tensor]:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    xs, xt = xs.requires_grad_(), xt.requires_grad_()
    result = otdd(xs, ys, xt, yt, engine=engine, **options)
    result.value.backward()
    assert xs.grad is not None
    assert xt.grad is not None
    return result, xs.grad, xt.grad


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["gaussian", "exact", "means", "none"])
@pytest.mark.parametrize("p", [1, 2])
def test_streaming_gives_what_dense_gives(kind: str, p: int) -> None:
    options = {"label_distance": kind, "p": p, "reg": 1.0, **TIGHT}
    (dense, *exact), (stream, *made) = both_ways("dense", **options), both_ways("streaming", **options)
    assert (dense.engine, stream.engine) == ("dense", "streaming")
    assert stream.converged
    torch.testing.assert_close(stream.value, dense.value, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(stream.label_distances, dense.label_distances, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(stream.plan(), dense.plan(), rtol=1e-6, atol=1e-11)
    for one, other in zip(made, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "exact"])
@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_pairs_of_classes_in_parts_give_what_all_at_once_give(
    kind: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"label_distance": kind, "reg": 1.0, **TIGHT}
    whole, *gradients = both_ways(engine, **options)
    monkeypatch.setattr(gaussian, "PART", 1000)
    monkeypatch.setattr(gaussian, "WIDE", 100)
    parts, *again = both_ways(engine, **options)
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.label_distances, whole.label_distances, rtol=1e-9, atol=1e-9)
    for one, other in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_the_backward_pass_of_parts_solves_each_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "PART", 10)
    index, calls = torch.arange(6)[None], []
    x = torch.arange(6.0, requires_grad=True)

    def square(rows: Tensor) -> Tensor:
        calls.append(rows.tolist())
        return x[rows].square()

    made = gaussian.in_parts(square, index, 5)
    assert calls == [[0, 1], [2, 3], [4, 5]]
    made.sum().backward()
    assert sorted(calls[3:]) == calls[:3]
    torch.testing.assert_close(x.grad, 2 * x.detach())


@pytest.mark.usefixtures("small_blocks")
def test_streaming_takes_weights_and_leaves_out_what_weighs_nothing() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    a, b = torch.rand(37, generator=torch.Generator().manual_seed(2)).double(), torch.ones(29).double()
    a[5:9], b[20:] = 0, 0
    options: dict[str, Any] = {"label_distance": "means", "reg": 1.0, **TIGHT}
    values = [otdd(xs, ys, xt, yt, a=a, b=b, engine=engine, **options) for engine in ("dense", "streaming")]
    torch.testing.assert_close(values[0].value, values[1].value, rtol=1e-8, atol=1e-9)
    plan = values[1].plan()
    torch.testing.assert_close(plan.sum(1), a / a.sum(), rtol=1e-7, atol=1e-9)
    assert plan[:, 20:].sum() == 0


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_a_class_far_away_that_weighs_nothing_leaves_plan_and_gradient_finite(engine: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    x = torch.randn(40, 2, generator=draw) + 20.0 * y[:, None]
    moving = (x + 0.5).requires_grad_()
    result = otdd(x, y, moving, y, a=(y == 0).float(), engine=engine)
    result.value.backward()
    assert torch.isfinite(result.plan()).all()
    assert moving.grad is not None
    assert torch.isfinite(moving.grad).all()
    assert result.plan()[y == 1].sum() == 0


def test_streaming_from_a_start_that_is_not_finite_is_not_called_converged() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    problem = otdd(xs, ys, xt, yt, reg=1.0).problem
    assert not streaming.sinkhorn_streaming(problem, torch.full((29,), float("nan")).double()).converged


def test_numbers_too_large_and_wrong_class_weights_are_an_error() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    with pytest.raises(InputError, match="expected a finite sum of squares"):
        otdd(xs.float() * 1e20, ys, xt.float(), yt)
    with pytest.raises(InputError, match="lambda_x: expected a number of at least 0, got inf"):
        OTDDOptions(lambda_x=float("inf"))
    statistics = SourceStatistics.of(LabeledSet(xs, ys), OTDDOptions(reg=1.0))
    with pytest.raises(InputError, match=r"class weights: expected \(4,\) numbers"):
        otdd_classwise(statistics, xt, yt, weights=torch.ones(1))


@pytest.mark.usefixtures("small_blocks")
def test_streaming_says_when_it_has_not_converged() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    result = otdd(xs, ys, xt, yt, engine="streaming", reg=0.05, tolerance=1e-9, max_iterations=2)
    assert not result.converged
    assert result.marginal_error > 1e-9


@pytest.mark.usefixtures("small_blocks")
def test_classes_one_by_one_give_what_all_at_once_give() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    found = []
    for engine in ("dense", "streaming"):
        options = OTDDOptions(engine=engine, reg=1.0, **TIGHT)
        moving = xt.clone().requires_grad_()
        result = otdd_classwise(SourceStatistics.of(LabeledSet(xs, ys), options), moving, yt)
        result.value.backward()
        found.append((result.classes.detach(), moving.grad))
    for dense, stream in zip(*found, strict=True):
        torch.testing.assert_close(stream, dense, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("p", [1, 2])
def test_no_regularisation_is_the_exact_transport_of_pot(p: int) -> None:
    result, grad_x, grad_y = both_ways("auto", reg=0.0, p=p, label_distance="means", label_gradient=False)
    assert result.engine == "exact"
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    cost = pairwise_cost(xs, xt, p) + result.label_distances.detach()[ys][:, yt]
    expected = ot.emd2(np.full(37, 1 / 37), np.full(29, 1 / 29), cost.numpy())
    assert result.value.item() == pytest.approx(expected, rel=1e-10)
    assert (result.plan() * cost).sum().item() == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(grad_x.sum(0), -grad_y.sum(0))  # moving both sets changes nothing
    assert otdd(xs, ys, xs, ys, reg=0.0).value.item() == pytest.approx(0, abs=1e-9)


def test_auto_streams_what_would_not_fit_into_the_memory_allowed() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    assert otdd(xs, ys, xt, yt, reg=1.0).engine == "dense"
    assert otdd(xs, ys, xt, yt, reg=1.0, memory=1e-6).engine == "streaming"


def test_flash_says_what_it_lacks() -> None:
    xs, ys = labelled(10, 4, 2, 0)
    with pytest.raises(InputError, match="engine 'flash': it needs CUDA tensors; got cpu"):
        otdd(xs, ys, xs + 1, ys, engine="flash")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("engine", ["flash", "streaming", "dense"])
@pytest.mark.parametrize(
    "options",
    [{}, {"lambda_x": 3.0}, {"label_distance": "none", "lambda_x": 3.0}, {"label_distance": "means"}, {"zero": True}],
    ids=["plain", "weight of features", "without labels", "means", "zero weights"],
)
def test_a_gpu_gives_what_the_cpu_gives(engine: str, options: dict[str, Any]) -> None:
    if engine == "flash":
        pytest.importorskip("flash_sinkhorn", reason="needs the extra cuda")
    sets = (*labelled(700, 32, 3, 0), *labelled(600, 32, 4, 1))
    options, found = dict(options), []
    weights = {"a": (torch.arange(700) % 5).double(), "b": (torch.arange(600) % 3).double()}
    chosen = weights if options.pop("zero", False) else {}
    for name, device in (("dense", "cpu"), (engine, "cuda")):
        xs, ys, xt, yt = (t.to(device) for t in sets)
        moving = xt.float().requires_grad_()
        kept = {key: value.to(device) for key, value in chosen.items()}
        result = otdd(xs.float(), ys, moving, yt, engine=name, reg=2.0, tolerance=1e-4, **kept, **options)
        result.value.backward()
        assert result.converged
        assert result.engine == name
        assert moving.grad is not None
        found.append((result.value.detach().cpu(), moving.grad.cpu()))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-2, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flash_takes_more_than_thirty_thousand_samples_where_streaming_agrees() -> None:
    pytest.importorskip("flash_sinkhorn", reason="needs the extra cuda")
    xs, ys, xt, yt = (t.cuda() for t in (*labelled(32_000, 16, 5, 0), *labelled(33_000, 16, 6, 1)))
    sets = xs.float(), ys, xt.float(), yt
    values = [otdd(*sets, engine=engine, reg=2.0, debias=False).value.item() for engine in ("flash", "streaming")]
    assert values[0] == pytest.approx(values[1], rel=1e-3)


def test_wrong_engines_are_an_error() -> None:
    with pytest.raises(InputError, match="engine: expected one of auto, dense, streaming, flash, exact; got 'gpu'"):
        OTDDOptions(engine="gpu")
    with pytest.raises(InputError, match="0 is solved by 'exact'"):
        OTDDOptions(engine="dense", reg=0)
    with pytest.raises(InputError, match="expected 0 for engine 'exact', got 0.1"):
        OTDDOptions(engine="exact")
    with pytest.raises(InputError, match="label_reg: expected a positive number where reg is 0"):
        OTDDOptions(reg=0, label_distance="exact")
    assert set(ENGINES) == {"dense", "streaming", "flash", "exact"}
    assert engines.DENSE_MATRICES > 0


def test_the_door_hands_on_to_each_method() -> None:
    xs, ys, xt, yt = *labelled(37, 4, 3, 0), *labelled(29, 4, 4, 1)
    assert otdd(xs, ys, xt, yt, method="sliced", projections=50).per_projection.shape == (50,)
    assert otdd(xs, ys, xt[:, :2], yt, geometry="gromov").value.item() >= 0
    with pytest.raises(InputError, match="method: expected sinkhorn or sliced, got 'sinkhron'"):
        otdd(xs, ys, xt, yt, method="sinkhron")  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(InputError, match="geometry: expected shared, or gromov with method sinkhorn"):
        otdd(xs, ys, xt, yt, geometry="gromow")  # pyright: ignore[reportCallIssue, reportArgumentType]
