"""Input embedders, output predictors and calibration: shapes over odd sizes, masks, the body's law."""

from __future__ import annotations

import math

import pytest
import torch

from embedders import (
    EmbeddingLaw,
    FieldDecoder,
    GridEmbedder,
    KmerEmbedder,
    PooledLinear,
    SequenceEmbedder,
    TableEmbedder,
    calibrate,
    pool,
    smallest_patch,
)
from embedders.base import LawTail, resample_positions

D = 12


def make_law(positions: int = 30) -> EmbeddingLaw:
    draw = torch.Generator().manual_seed(0)
    rows = {"generator": draw}
    return EmbeddingLaw(
        mean=0.1 * torch.randn(D, **rows),
        std=0.5 + torch.rand(D, **rows),
        positions=torch.randn(positions, D, **rows),
        token_type=torch.randn(D, **rows),
        norm_weight=torch.rand(D, **rows) + 0.5,
        norm_bias=torch.randn(D, **rows),
    )


def sequence(length: int, patch: int, *, overlap: int = 1, channels: int = 3) -> SequenceEmbedder:
    torch.manual_seed(0)
    return SequenceEmbedder(
        make_law(), torch.zeros(channels), torch.ones(channels), length=length, patch=patch, overlap=overlap
    )


@pytest.mark.parametrize("overlap", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 23])
def test_a_sequence_of_any_length_gives_a_token_per_patch(length: int, patch: int, overlap: int) -> None:
    tokens = sequence(length, patch, overlap=overlap)(torch.randn(2, 3, length))
    assert tokens.x.shape == (2, math.ceil(length / patch), D)
    assert tokens.grid == (math.ceil(length / patch),)
    assert tokens.mask is None


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_tokens_of_a_sequence_are_those_of_the_convolution(overlap: int) -> None:
    embedder, x = sequence(24, 4, overlap=overlap), torch.randn(2, 3, 24)
    missing = 4 * (overlap - 1)
    padded = torch.nn.functional.pad(x, (missing // 2, missing - missing // 2))
    torch.testing.assert_close(embedder.patches(x, None).x, embedder.conv(padded).transpose(1, 2))


@pytest.mark.parametrize("overlap", [1, 2])
def test_every_sample_of_a_sequence_is_seen(overlap: int) -> None:
    embedder = sequence(23, 5, overlap=overlap)
    x = torch.randn(1, 3, 23, requires_grad=True)
    embedder(x).x.square().sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("overlap", [1, 2])
def test_what_lies_behind_a_sequences_length_changes_nothing(overlap: int) -> None:
    embedder = sequence(20, 4, overlap=overlap)
    length = torch.tensor([20, 9, 1])
    x = torch.randn(3, 3, 20)
    noisy = x + 100 * (torch.arange(20) >= length[:, None]).unsqueeze(1)
    a, b = embedder(x, length), embedder(noisy, length)
    assert a.mask.sum(1).tolist() == [5, 3, 1]
    torch.testing.assert_close(a.x[a.mask], b.x[b.mask])


def test_a_longer_padding_changes_no_valid_token() -> None:
    embedder = sequence(20, 4)
    x, length = torch.randn(2, 3, 20), torch.tensor([10, 20])
    wide = torch.nn.functional.pad(x, (0, 17))
    a, b = embedder(x, length), embedder(wide, length)
    assert a.mask.sum(1).tolist() == b.mask.sum(1).tolist() == [3, 5]
    torch.testing.assert_close(a.x[a.mask], b.x[b.mask])


def test_a_sequence_longer_than_in_training_is_the_same_whatever_is_beside_it() -> None:
    embedder = sequence(20, 4)
    x, length = torch.randn(3, 3, 60), torch.tensor([30, 11, 57])
    together = embedder(x, length)
    assert together.mask.sum(1).tolist() == [8, 3, 15]
    for row, long in enumerate(length.tolist()):
        alone = embedder(x[row : row + 1, :, :long])  # as it is by itself, its positions resampled to its own length
        torch.testing.assert_close(together.x[row][together.mask[row]], alone.x[0])


@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 10), (29, 13)])
def test_a_grid_of_any_size_gives_a_token_per_patch(size: tuple[int, int], overlap: int) -> None:
    embedder = GridEmbedder(make_law(), torch.zeros(2), torch.ones(2), size=(8, 8), patch=3, overlap=overlap)
    x = torch.randn(2, 2, *size, requires_grad=True)
    tokens = embedder(x)
    assert tokens.grid == (math.ceil(size[0] / 3), math.ceil(size[1] / 3))
    assert tokens.x.shape == (2, math.prod(tokens.grid), D)
    tokens.x.square().sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("tokens", [1, 5, 16, 64, 1000])
@pytest.mark.parametrize("size", [(8, 8), (85, 85), (16, 100), (1000,)])
def test_the_smallest_patch_keeps_the_budget_and_no_smaller_one_does(size: tuple[int, ...], tokens: int) -> None:
    def count(patch: int) -> int:
        return math.prod(math.ceil(s / patch) for s in size)

    patch = smallest_patch(size, tokens)
    assert count(patch) <= tokens
    assert patch == 1 or count(patch - 1) > tokens


def table() -> TableEmbedder:
    torch.manual_seed(0)
    edges = torch.tensor([[0.0, 1.0, 2.0, 4.0], [-1.0, 0.0, 0.0, 10.0]])  # the second has a bin of no width
    return TableEmbedder(make_law(), edges, (0, 3, 0, 2))


def one_hot(text: str) -> torch.Tensor:
    """DNA as (1, 4, L); N is even over all bases."""
    return torch.stack(
        [torch.full((4,), 0.25) if base == "N" else torch.eye(4)["ACGT".index(base)] for base in text], 1
    )[None]


def words(length: int, patch: int, k: int) -> KmerEmbedder:
    torch.manual_seed(0)
    return KmerEmbedder(make_law(), length=length, patch=patch, k=k)


def test_a_token_of_words_is_the_mean_over_those_that_begin_in_its_patch() -> None:
    embedder = words(8, 4, 2)
    tokens = embedder.patches(one_hot("ACGTTTNA"), None).x[0]
    row = {a + b: embedder.table[4 * i + j] for i, a in enumerate("ACGT") for j, b in enumerate("ACGT")}
    torch.testing.assert_close(tokens[0], (row["AC"] + row["CG"] + row["GT"] + row["TT"]) / 4)
    torch.testing.assert_close(tokens[1], row["TT"])  # TN and NA hold an ambiguous base, and no word begins at the end


@pytest.mark.parametrize(("length", "patch", "k"), [(1, 1, 1), (7, 3, 2), (8, 4, 5), (23, 5, 6)])
def test_words_of_any_length_give_a_token_per_patch(length: int, patch: int, k: int) -> None:
    tokens = words(length, patch, k)(one_hot(("ACGGT" * 5)[:length]))
    assert tokens.x.shape == (1, math.ceil(length / patch), D)
    assert tokens.grid == (math.ceil(length / patch),)


def test_a_column_in_small_units_is_seen_as_one_in_large_ones() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, generator=draw)
    tokens = []
    for unit in (1.0, 1e-9):
        torch.manual_seed(0)
        edges = torch.quantile(unit * x[:, 0].double(), torch.linspace(0, 1, 9).double())[None]
        tokens.append(TableEmbedder(make_law(), edges, (0,)).patches(unit * x, None).x)
    torch.testing.assert_close(*tokens, rtol=1e-3, atol=1e-4)


def test_a_batch_of_sequences_shorter_than_a_word_has_tokens_of_zero() -> None:
    tokens = words(12, 4, 6).patches(one_hot("ACGTA"), torch.tensor([5]))
    assert torch.equal(tokens.x, torch.zeros(1, 2, D))


def test_words_beyond_a_sequences_length_change_nothing() -> None:
    embedder, length = words(12, 4, 3), torch.tensor([7])
    one, two = (embedder(one_hot("ACGTACG" + rest), length) for rest in ("TTTTT", "NNNNN"))
    assert one.mask is not None
    assert one.mask.tolist() == [[True, True, False]]
    torch.testing.assert_close(one.x, two.x)


def test_each_word_that_is_there_trains_its_row_alone() -> None:
    embedder = words(6, 3, 2)
    embedder.patches(one_hot("AACCNN"), None).x.square().sum().backward()
    assert embedder.table.grad is not None
    assert embedder.table.grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1, 5]  # AA, AC, CC


def test_a_table_gives_a_token_per_column_and_every_parameter_a_gradient() -> None:
    embedder = table()
    x = torch.tensor([[0.5, 0, 3.0, 1], [3.0, 2, -0.5, 0], [9.0, 1, 50.0, 1], [0.1, 5, 0.0, -1]])
    tokens = embedder(x)
    assert tokens.x.shape == (4, 4, D)
    assert torch.isfinite(tokens.x).all()
    tokens.x.square().sum().backward()
    assert [n for n, p in embedder.named_parameters() if p.grad is None] == []


def test_unknown_categories_share_a_row_of_their_own() -> None:
    embedder = table()
    rows = embedder.project(torch.tensor([[0.0, 3, 0, 0], [0.0, 99, 0, 0], [0.0, -1, 0, 0], [0.0, 0, 0, 0]]), None).x[
        :, 1
    ]
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[3])


def test_a_number_is_encoded_by_its_place_in_each_bin() -> None:
    embedder = table()
    with torch.no_grad():
        embedder.weight.zero_()
        embedder.weight[0, :, 0] = torch.tensor([1.0, 10.0, 100.0])
    values = torch.tensor([[-5.0], [0.5], [1.5], [3.0], [100.0]])
    got = embedder.project(torch.cat([values, torch.zeros(5, 3)], 1), None).x[:, 0, 0]
    torch.testing.assert_close(got, torch.tensor([0.0, 0.5, 6.0, 61.0, 111.0]))


def test_positions_are_the_bodys_rows_or_its_table_resampled() -> None:
    law = make_law(positions=30)
    torch.testing.assert_close(LawTail(law, (9,)).positions.detach(), law.positions[:9])
    longer = LawTail(law, (59,)).positions.detach()
    assert longer.shape == (59, D)
    torch.testing.assert_close(longer[::2], law.positions)
    torch.testing.assert_close(longer[1], (law.positions[0] + law.positions[1]) / 2)


def test_resampled_grids_keep_corners_and_linear_fields() -> None:
    i, j = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="ij")
    ramp = torch.stack([i, 2 * j], -1).reshape(12, 2)
    fine = resample_positions(ramp, (4, 3), (7, 5)).reshape(7, 5, 2)
    torch.testing.assert_close(fine[:, 0, 0], torch.linspace(0, 3, 7))
    torch.testing.assert_close(fine[0, :, 1], torch.linspace(0, 4, 5))


@pytest.mark.parametrize("kind", ["sequence", "grid", "table"])
def test_calibration_reaches_the_law_of_the_word_table(kind: str) -> None:
    law, draw = make_law(), torch.Generator().manual_seed(3)
    if kind == "sequence":
        embedder, x, length = sequence(20, 4, overlap=2), 40 + 7 * torch.randn(64, 3, 20, generator=draw), None
        length = torch.randint(1, 21, (64,), generator=draw)
    elif kind == "grid":
        embedder = GridEmbedder(law, torch.zeros(1), torch.ones(1), size=(8, 8), patch=2)
        x, length = torch.rand(64, 1, 8, 8, generator=draw) ** 4, None
    else:
        embedder, length = table(), None
        x = torch.cat([6 * torch.rand(64, 1, generator=draw) for _ in range(4)], 1).floor()
    calibrate(
        embedder, [(x[i : i + 16], None if length is None else length[i : i + 16]) for i in range(0, 64, 16)], law
    )
    tokens = embedder.project(x, length)
    flat = tokens.x.reshape(-1, D) if tokens.mask is None else tokens.x[tokens.mask]
    torch.testing.assert_close(flat.mean(0), law.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(flat.std(0, correction=0), law.std, atol=1e-4, rtol=1e-4)


def test_calibration_refuses_constant_data() -> None:
    embedder = GridEmbedder(make_law(), torch.zeros(1), torch.ones(1), size=(4, 4), patch=2)
    with pytest.raises(ValueError, match="does not vary over the data"):
        calibrate(embedder, [(torch.ones(8, 1, 4, 4), None)], make_law())
    with pytest.raises(ValueError, match="at least two tokens"):
        calibrate(embedder, [], make_law())


def test_pooling_leaves_masked_tokens_out() -> None:
    features = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [50.0], [60.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(pool(features, mask), torch.tensor([[2.0], [2.0]]))


def test_the_linear_predictor_answers_in_the_targets_units() -> None:
    predictor = PooledLinear(D, 2, mean=torch.tensor([10.0, -5.0]), std=torch.tensor([3.0, 0.1]))
    with torch.no_grad():
        predictor.linear.weight.zero_()
        predictor.linear.bias.copy_(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(predictor(torch.randn(1, 4, D), None), torch.tensor([[13.0, -4.8]]))


@pytest.mark.parametrize(("size", "patch"), [((8, 8), 2), ((7, 10), 3), ((29, 29), 4), ((5, 5), 1)])
def test_a_2d_field_has_exactly_the_wanted_shape(size: tuple[int, int], patch: int) -> None:
    grid = (math.ceil(size[0] / patch), math.ceil(size[1] / patch))
    decoder = FieldDecoder(D, 3, patch=patch, axes=2, mean=torch.zeros(3), std=torch.ones(3))
    features = torch.randn(2, math.prod(grid), D)
    assert decoder(features, grid, size, size).shape == (2, 3, *size)
    assert decoder(features, grid, size, (13, 4)).shape == (2, 3, 13, 4)


@pytest.mark.parametrize(("length", "patch"), [(8, 2), (23, 5), (4, 1)])
def test_a_1d_field_has_exactly_the_wanted_shape(length: int, patch: int) -> None:
    grid = (math.ceil(length / patch),)
    decoder = FieldDecoder(D, 2, patch=patch, axes=1, mean=torch.zeros(2), std=torch.ones(2))
    features = torch.randn(2, grid[0], D)
    assert decoder(features, grid, (length,), (length,)).shape == (2, 2, length)
    assert decoder(features, grid, (length,), (2 * length,)).shape == (2, 2, 2 * length)


@pytest.mark.parametrize("axes", [1, 2])
def test_a_token_decodes_to_its_own_patch(axes: int) -> None:
    torch.manual_seed(0)
    decoder = FieldDecoder(D, 1, patch=8, axes=axes, mean=torch.zeros(1), std=torch.ones(1))
    grid = (3,) * axes
    features = torch.zeros(1, 3**axes, D, requires_grad=True)
    out = decoder(features, grid, (24,) * axes, (24,) * axes)
    out[
        (0, 0, *(4,) * axes)
    ].backward()  # the middle of the first patch, farther from its border than two kernels reach
    reached = features.grad.abs().sum(-1)[0] > 0
    assert reached.tolist() == [True] + [False] * (3**axes - 1)
