"""Vision bodies on tiny random models: the ordinary forward pass, grids of any size, images as source, whole runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SwinForImageClassification

import orca
from embedders import GridEmbedder
from orca.bodies import VISION, BodyConfig, VisionBody, build_encoder, load_body, make_body
from orca.build import EmbedConfig, build_embedder, embedding_law, training_statistics
from orca.config import check_config
from orca.errors import InputError
from orca.frozen import FrozenFeatures
from orca.model import AdaptedModel
from orca.sources import SourceConfig, source_features
from orca.sources.images import cifar10_files, read_cifar10
from orca.tasks.encodings import GridEncoding
from orca.types import Examples, Layout
from tests.tiny import save_tiny_body, tiny_body, tiny_config, tiny_model, tiny_vision

families = pytest.mark.parametrize("family", VISION)
CLASSES = Layout("grid", "classes", (2, 9, 7), (3,))
FIELD = Layout("grid", "field", (2, 9, 7), (1, 9, 7))


def images(count: int, side: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def adapted(family: str, layout: Layout = CLASSES, **embed: Any) -> AdaptedModel:
    draw = np.random.default_rng(0)
    train = Examples(
        draw.normal(size=(8, *layout.input_shape)).astype(np.float32),
        draw.normal(size=(8, *layout.target_shape)).astype(np.float32),
    )
    statistics = training_statistics(train, layout)
    config = EmbedConfig(**{"tokens": 20, **embed})
    return AdaptedModel.build(
        tiny_vision(family), statistics, task="tiny", layout=layout, encoding=GridEncoding(channels="first"),
        config=config,
    ).eval()  # fmt: skip


@families
def test_encode_of_own_patches_equals_the_ordinary_forward(family: str) -> None:
    model = tiny_model(family)
    body = make_body(model).eval()
    assert isinstance(body, VisionBody)
    with torch.no_grad():
        pixels = body.pixels(torch.from_numpy(images(3)).permute(0, 3, 1, 2))
        features = body.encode(body.embeddings(pixels))
        wanted = model(pixel_values=pixels).last_hidden_state[:, -features.shape[1] :]  # without ViT's class token
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=0)
    assert features.shape[1:] == (np.prod(body.encoder.grid(body.embeddings.grid)), body.encoder.width)


@families
def test_groups_are_an_ordered_complete_partition_that_gradients_reach(family: str) -> None:
    body = tiny_vision(family)
    groups = body.layer_groups()
    counted = [id(p) for group in groups for p in group.parameters()]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in body.parameters()}
    blocks = [group.name for group in groups if group.name.startswith("block.")]
    assert blocks == [f"block.{i}" for i in range({"swin": 4, "vit": 2}[family])]
    body.encode(body.embed(torch.from_numpy(images(2)).permute(0, 3, 1, 2))).square().sum().backward()
    assert [name for name, p in body.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("grid", [(16, 16), (4, 4), (3, 2), (1, 1), (5, 9), (17, 4)])
def test_swin_takes_any_grid_and_a_small_one_changes_nothing_for_a_large_one(grid: tuple[int, int]) -> None:
    encoder = tiny_vision("swin").encoder
    large = torch.randn(1, 256, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = encoder(large, None, (16, 16))
        features = encoder(torch.randn(2, grid[0] * grid[1], 8), None, grid)
        assert torch.equal(encoder(large, None, (16, 16)), before)
    assert features.shape == (2, np.prod(encoder.grid(grid)), 16)
    assert features.isfinite().all()


@families
@pytest.mark.parametrize("layout", [CLASSES, FIELD], ids=["classes", "field"])
@pytest.mark.parametrize("embed", [{}, {"resize": 24, "patch": 3}], ids=["own size", "stretched"])
def test_answers_have_the_targets_shape_at_other_sizes_too(family: str, layout: Layout, embed: dict[str, int]) -> None:
    model = adapted(family, layout, **embed)
    for size in ((9, 7), (18, 14), (5, 5)):
        target = size if layout.target == "field" else ()
        assert model(torch.randn(2, 2, *size)).shape == (2, layout.target_shape[0], *target)


@families
def test_a_saved_model_predicts_the_same_bit_for_bit(family: str, tmp_path: Path) -> None:
    model, x = adapted(family, resize=12, patch=3), np.random.default_rng(1).normal(size=(3, 2, 9, 7))
    model.save_pretrained(tmp_path)
    assert np.array_equal(AdaptedModel.from_pretrained(tmp_path).scores(x), model.scores(x))


@families
def test_a_saved_folder_loads_by_path_and_from_its_configuration(family: str, tmp_path: Path) -> None:
    (save_tiny_body(tmp_path, family) / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    body = load_body(BodyConfig(name=str(tmp_path)))
    assert isinstance(body, VisionBody)
    assert body.law == ((0.5, 0.5, 0.5), (0.229, 0.224, 0.225))
    tokens = torch.randn(1, 16, body.width)
    rebuilt = build_encoder(body.encoder.config.to_dict()).eval()
    rebuilt.load_state_dict(body.encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(tokens, None, (4, 4)), body.encoder(tokens, None, (4, 4)))


def test_the_weights_of_a_classifier_load_as_the_hub_has_them(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = SwinForImageClassification(tiny_config("swin")).eval()
    whole.save_pretrained(tmp_path)
    body = load_body(BodyConfig(name=str(tmp_path)))
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = whole.swin(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(body.encode(body.embeddings(pixels)), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("channels", "images_of"), [(3, 1.0), (6, 1.0), (1, None)])
def test_pretrained_patches_repeat_their_colours(channels: int, images_of: float | None) -> None:
    """Twice the three colours, each in two channels, is the body's own token; one channel is its first colour alone."""
    body = tiny_vision("vit")
    layout = Layout("grid", "classes", (channels, 12, 12), (2,))
    train = Examples(np.ones((2, *layout.input_shape), np.float32), np.zeros(2))
    config = EmbedConfig(patch=3, pretrained=True)
    model = AdaptedModel.build(
        body,
        training_statistics(train, layout),
        task="tiny",
        layout=layout,
        encoding=GridEncoding(channels="first"),
        config=config,
    )
    assert isinstance(model.embedder, GridEmbedder)
    model.embedder.scale.mean.zero_()
    model.embedder.scale.std.fill_(1)
    pixels = torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        if images_of is not None:
            tokens = model.embedder(pixels.repeat(1, channels // 3, 1, 1))
            torch.testing.assert_close(tokens.x, body.embeddings(pixels), atol=1e-5, rtol=0)
        else:
            red = torch.cat([pixels[:, :1] * 3, torch.zeros(1, 2, 12, 12)], 1)
            tokens = model.embedder(pixels[:, :1])
            torch.testing.assert_close(tokens.x, body.embeddings(red), atol=1e-5, rtol=0)


def test_positions_of_another_grid_are_those_of_the_body_resampled() -> None:
    body = tiny_vision("vit")
    law = embedding_law(body)
    assert law.positions is not None
    square = law.positions.T.reshape(16, 4, 4)
    statistics = training_statistics(Examples(np.ones((2, 1, 8, 8), np.float32), np.zeros(2)), CLASSES)
    layout = Layout("grid", "classes", (1, 8, 8), (2,))
    found = build_embedder(layout, law, statistics, EmbedConfig(patch=1)).tail.positions
    assert found is not None
    table = found.T.reshape(16, 8, 8)
    torch.testing.assert_close(table[:, [0, 0, -1, -1], [0, -1, 0, -1]], square[:, [0, 0, -1, -1], [0, -1, 0, -1]])
    assert torch.equal(build_embedder(layout, law, statistics, EmbedConfig(patch=2)).tail.positions, law.positions)  # type: ignore[arg-type]


def test_images_as_source_are_means_over_the_body_s_own_tokens(tmp_path: Path) -> None:
    x, y = images(9), np.array(["cat", "dog", "owl"])[[0, 0, 0, 1, 1, 1, 1, 1, 2]]
    np.savez(tmp_path / "own.npz", x=x, y=y)
    body = tiny_vision("swin").train()
    found = source_features(SourceConfig(name="images", path=str(tmp_path / "own.npz"), n=9), body)
    assert found.names == ("cat", "dog")  # of the owl there is one
    assert found.y.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    with torch.no_grad():
        wanted = body.eval().embed(torch.from_numpy(x[4:5]).permute(0, 3, 1, 2))[0].mean(0)
    torch.testing.assert_close(found.x[4], wanted)


def published_cifar10(folder: Path, labels: Any = None) -> np.ndarray:
    folder.mkdir(parents=True)
    x = images(10, 32)
    for part in range(5):
        rows = x[2 * part : 2 * part + 2]
        batch = {"data": rows.transpose(0, 3, 1, 2).reshape(2, -1), "labels": labels or [part, 9]}
        (folder / f"data_batch_{part + 1}").write_bytes(pickle.dumps(batch, 2))
    return x


def test_cifar10_is_read_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCA_DATA", raising=False)
    with pytest.raises(InputError, match=r"unpack cifar-10-python.tar.gz"):
        cifar10_files(None)
    x = published_cifar10(tmp_path / "cifar10" / "cifar-10-batches-py")
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    found = read_cifar10(cifar10_files(None))
    assert np.array_equal(found.x, x)
    assert found.y.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert found.names[9] == "truck"
    published_cifar10(tmp_path / "wrong", labels=[3, 10])
    with pytest.raises(
        InputError, match=r"labels in .*data_batch_1 has label 10 in row 1; expected whole numbers 0\.\.9"
    ):
        read_cifar10(cifar10_files(str(tmp_path / "wrong")))
    (tmp_path / "wrong" / "data_batch_3").unlink()
    with pytest.raises(InputError, match="it holds data_batch_1 to data_batch_5"):
        cifar10_files(str(tmp_path / "wrong"))


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": np.zeros((4, 3, 8, 8), np.uint8), "y": np.zeros(4, int)}, r"got x uint8 \(4, 3, 8, 8\)"),
        ({"x": np.zeros((4, 8, 8, 3)), "y": np.zeros(4, int)}, "got x float64"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.zeros(3, int)}, r"y int64 \(3,\)"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8)}, "lacks y"),
        ({"x": np.zeros((2, 8, 8, 3), np.uint8), "y": np.arange(2)}, "no class twice"),
    ],
)
def test_faulty_images_are_refused(arrays: dict[str, np.ndarray], fault: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=fault):
        source_features(SourceConfig(name="images", path=str(tmp_path / "own.npz"), n=4), tiny_vision("vit"))


@pytest.fixture(scope="module")
def vision_body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("swin"), "swin")


def settings(body: Path, **more: Any) -> dict[str, Any]:
    return {
        "task": "digits", "body": str(body), "source": {"name": "images", "path": "own.npz", "n": 60},
        "embed": {"patch": 2, "resize": 12, "pretrained": True},
        "align": {"epochs": 2, "samples_per_class": 8, "max_samples": 80}, "finetune": {"epochs": 1}, **more,
    }  # fmt: skip


def test_a_whole_run_with_swin(vision_body: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", x=images(60), y=np.arange(60) % 3)
    result = orca.adapt(check_config(settings(vision_body)), store=tmp_path / "runs")
    assert 0 <= result.record["metric"]["value"] < 1
    saved = json.loads((result.path / "model" / "config.json").read_text())
    assert saved["body"]["model_type"] == "swin"
    predicted = orca.load(result.path).predict(np.zeros((2, 8, 8), np.float32))
    assert predicted.shape == (2,)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": {"name": "ner"}}, "source 'ner' is not images, for a vision body; .* cifar10, images"),
        ({"task": "splice", "embed": {}}, "takes grids, but the input of splice is a sequence"),
        ({"embed": {"patch": 3, "pretrained": True}}, "embed.patch: 2 and embed.overlap: 1"),
        ({"source": {"name": "images"}}, "source 'images' needs a file"),
    ],
    ids=["text", "sequence", "patch", "no file"],
)
def test_what_does_not_go_with_a_vision_body_is_refused_before_any_work(
    change: dict[str, Any], fault: str, vision_body: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", x=images(60), y=np.arange(60) % 3)
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    draw = np.random.default_rng(0)
    bases = np.array(["".join(draw.choice(list("ACGT"), 60)) for _ in range(90)])
    splits = {"train": slice(0, 60), "test": slice(60, 90)}
    np.savez("splice.npz", **{f"x_{k}": bases[s] for k, s in splits.items()},
             **{f"y_{k}": np.arange(90)[s] % 3 for k, s in splits.items()})  # pyright: ignore  # fmt: skip
    with pytest.raises(InputError, match=fault):
        orca.adapt(check_config(settings(vision_body, **change)), store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("manifest.json"))


def test_a_body_of_language_takes_neither_images_nor_pretrained_patches(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=images(4), y=np.zeros(4, int))
    with pytest.raises(InputError, match="source 'images' is not text, for a body of language; .* ner"):
        source_features(SourceConfig(name="images", path=str(tmp_path / "own.npz")), tiny_body())
    body = save_tiny_body(tmp_path / "bert")
    with pytest.raises(InputError, match="embed.pretrained copies the patches of a body, for which it needs a vision"):
        orca.adapt(
            check_config(settings(body, source={"name": "ner"}, embed={"patch": 2, "pretrained": True})),
            store=tmp_path / "runs",
        )


@families
def test_frozen_features_of_a_field_answer_as_the_model(family: str, tmp_path: Path) -> None:
    model, draw = adapted(family, FIELD), np.random.default_rng(2)
    data = Examples(draw.normal(size=(3, 2, 9, 7)).astype(np.float32), np.zeros((3, 1, 9, 7), np.float32))
    with FrozenFeatures(model, tmp_path / "features", device=torch.device("cpu"), dtype=None) as features:
        kept = features.of("train", data)
        with torch.no_grad():
            found, wanted = features.answer(torch.from_numpy(np.array(kept.x))), model(torch.from_numpy(data.x))
    torch.testing.assert_close(found, wanted)
