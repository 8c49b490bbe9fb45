"""Tables of your own: read from every format alike, split, numbered and filled by train alone, faults named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import orca
from orca.errors import InputError
from orca.predict import predict_file
from orca.tasks import OwnData, resolve_task
from orca.tasks.encodings import ENCODING
from orca.tasks.readers.tables import read_table, stacked
from orca.tasks.records import RecordEncoding, fit_records
from orca.types import Splits
from tests.tiny import save_tiny_body

RNG = np.random.default_rng(0)


def frame(n: int = 100) -> pd.DataFrame:
    """Numbers and categories with missing values, two classes named by text, and which part a row is of."""
    draw = np.random.default_rng(1)
    age = np.where(draw.random(n) < 0.1, np.nan, np.round(draw.normal(40, 10, n), 3))
    job = draw.choice(np.array(["clerk", "cook, chef", None], dtype=object), n)
    part = np.array(["train", "valid", "test"])[np.searchsorted([n - 40, n - 20], np.arange(n), side="right")]
    income = np.where(np.arange(n) % 2, "high", "low")
    return pd.DataFrame({"age": age, "job": job, "children": draw.integers(0, 4, n), "income": income, "part": part})


def save_arff(table: pd.DataFrame, path: Path) -> None:
    kinds = {"age": "REAL", "job": "string", "children": "{0, 1, 2, 3}", "income": "{low, 'high'}", "part": "STRING"}
    head = [
        "% comment",
        "@RELATION people",
        *(f"@ATTRIBUTE '{name}' {kind}" for name, kind in kinds.items()),
        "",
        "@DATA",
    ]
    rows = [
        ",".join("?" if pd.isna(v) else f"'{v}'" if isinstance(v, str) else str(v) for v in row)
        for row in table.itertuples(index=False)
    ]
    path.write_text("\n".join([*head, *rows]))


SAVE: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda t, path: t.to_csv(path, index=False),
    ".tsv": lambda t, path: t.to_csv(path, index=False, sep="\t", na_rep="?"),
    ".csv.gz": lambda t, path: t.to_csv(path, index=False),
    ".parquet": lambda t, path: t.to_parquet(path, index=False),
    ".arff": save_arff,
}


def own(path: Path, **settings: Any) -> OwnData:
    words = {"name": "people", "data": str(path), "input": "table", "target": "classes", "targets": ("income",)}
    return OwnData(**{**words, **settings})


def load(path: Path, **settings: Any) -> Splits:
    return resolve_task(own(path, **settings)).load()


@pytest.mark.parametrize("suffix", SAVE)
def test_every_format_gives_the_same_splits(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"people{suffix}", frame()
    SAVE[suffix](table, path)
    splits = load(path, split="part", categorical=["children"])
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [60, 20, 20]
    assert splits.layout.cardinalities == (0, 3, 5)
    assert splits.layout.classes == ("high", "low")
    mean = table["age"][:60].mean()
    expected = table["age"].fillna(mean).to_numpy()
    np.testing.assert_allclose(splits.test.x[:, 0], expected[80:], rtol=1e-6)
    jobs = table["job"].map({"clerk": 1, "cook, chef": 2}).fillna(0).to_numpy()
    np.testing.assert_array_equal(splits.val.x[:, 1], jobs[60:80])
    np.testing.assert_array_equal(splits.train.y, np.where(table["income"][:60] == "high", 0, 1))


def test_test_and_validation_are_drawn_where_nothing_says_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = pd.concat([frame(), frame()])  # every input twice
    table.to_csv(path, index=False)
    splits = load(path, inputs=["age", "job", "children"])
    parts = (splits.train, splits.val, splits.test)
    assert sum(map(len, parts)) == 200
    assert 36 <= len(splits.test) <= 44
    assert any("test: a fixed random 20 % of the rows, of each class" in note for note in splits.notes)
    rows = [{row.tobytes() for row in part.x} for part in parts]
    assert not rows[0] & rows[2]
    assert not rows[0] & rows[1]
    again = load(path, inputs=["age", "job", "children"])
    np.testing.assert_array_equal(splits.test.x, again.test.x)


def test_a_file_with_the_test_rows_brings_categories_that_train_lacks(tmp_path: Path) -> None:
    frame().drop(columns="part").to_csv(tmp_path / "a.csv", index=False)
    other = frame(10).drop(columns="part").assign(job="pilot", age=np.nan)[["income", "children", "job", "age"]]
    other.to_csv(tmp_path / "b.csv", index=False)  # columns in another order, one of them empty
    before = resolve_task(own(tmp_path / "a.csv", test=str(tmp_path / "b.csv")))
    splits = before.load()
    assert len(splits.test) == 10
    assert (splits.test.x[:, 1] == 0).all()
    assert np.unique(splits.test.x[:, 0]).size == 1
    encoding = before.encoding
    assert isinstance(encoding, RecordEncoding)
    assert encoding.columns[1].categories == ("clerk", "cook, chef")
    assert "missing in train: age" in splits.notes[-1]
    known = before.fingerprint()
    other.assign(children=1).to_csv(tmp_path / "b.csv", index=False)
    assert resolve_task(own(tmp_path / "a.csv", test=str(tmp_path / "b.csv"))).fingerprint() != known


def test_numbers_several_labels_sequences_and_letters_load(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = pd.DataFrame(RNG.standard_normal((50, 6)), columns=list("abcdef")).assign(g=np.arange(50) % 2)
    table.assign(s=["ACGT" + "ACGTN"[i % 5] * (i % 7 + 1) for i in range(50)]).to_csv(path, index=False)
    scalar = load(path, target="scalar", targets=["a", "b"], inputs=["c", "d"])
    assert (scalar.layout.target_shape, scalar.layout.classes, scalar.train.y.dtype) == ((2,), ("a", "b"), np.float32)
    assert load(path, target="multilabel", targets=["g"], inputs=["c"]).layout.target_shape == (1,)
    sequence = load(path, input="sequence", targets=["g"], inputs=list("abcdef"))
    assert (sequence.layout.input_shape, sequence.layout.classes) == ((1, 6), ("0", "1"))
    assert load(path, input="dna", targets=["g"], inputs=["s"]).layout.input_shape[0] == 4


def test_classes_are_numbered_by_value_and_rows_without_one_left_out(tmp_path: Path) -> None:
    grade = np.tile([10.0, 9.0, np.nan, 1.0, 10.0], 12)
    pd.DataFrame({"x": np.arange(60.0), "grade": grade}).to_csv(tmp_path / "a.csv", index=False)
    splits = load(tmp_path / "a.csv", targets=["grade"])
    assert splits.layout.classes == ("1", "9", "10")
    assert splits.notes[0] == "12 rows without a target are left out"


FILES = {
    "nothing": ("a.csv", "", "is empty; expected a line of column names"),
    "names only": ("a.csv", "x,income\n", "has no rows"),
    "longer row": ("a.csv", "x,income\n1,a\n1,2,3\n", "rows that do not fit its columns"),
    "longer rows": ("a.csv", "x,income\n1,2,a\n3,2,b\n", "more cells than there are column names"),
    "twice": ("a.csv", "x,x,income\n1,2,a\n", "has two columns called x"),
    "no name": ("a.csv", "x,,income\n1,2,a\n", "has a column without a name, column 2"),
    "bytes": ("a.csv", b"x,income\n\xff\xfe,a\n", "is no text in UTF-8"),
    "no gzip": ("a.csv.gz", b"x,income\n1,a\n", "cannot be read"),
    "infinite": ("a.csv", "x,income\n1,a\ninf,b\n", "column x of .* has an infinite number in row 1"),
    "no parquet": ("a.parquet", b"PAR1", "is no Parquet file, or it is damaged"),
    "no data": ("a.arff", "@relation x\n", "is no ARFF file: it has no line @data"),
    "no attributes": ("a.arff", "@data\n1,2\n", "declares no attributes"),
    "attribute": ("a.arff", "@attribute x\n@data\n1\n", "line 1 of .* declares no attribute: @attribute x"),
    "date": ("a.arff", "@attribute x date\n@data\n1\n", "attribute x is of type date"),
    "two": ("a.arff", "@attribute x real\n@attribute x real\n@data\n1,1\n", "two attributes of one name"),
    "sparse": ("a.arff", "@attribute x real\n@data\n{0 1}\n", "line 3 of .* is a sparse row"),
    "short": ("a.arff", "@attribute x real\n@attribute y real\n@data\n1\n", "line 4 of .* has 1 values; there are 2"),
    "number": ("a.arff", "@attribute x real\n@data\nabc\n", "line 3 of .*: x is 'abc'; expected a number"),
    "value": ("a.arff", "@attribute x {a, 'b c'}\n@data\n'b c'\nd\n", "line 4 of .*: x is 'd', which is none of its"),
    "bytes in arff": ("a.arff", b"\xff\xfe", "is no text in UTF-8"),
}


@pytest.mark.parametrize("fault", FILES)
def test_each_way_to_break_a_table_has_its_own_message(fault: str, tmp_path: Path) -> None:
    name, content, message = FILES[fault]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


def test_dates_and_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}).to_parquet(path)
    with pytest.raises(InputError, match="column day of .* holds dates; make numbers of them"):
        read_table(path)
    pd.DataFrame({"all": [[1, 2]]}).to_parquet(path)
    with pytest.raises(InputError, match="column all of .* holds a .* in row 0; expected text or numbers"):
        read_table(path)
    with pytest.raises(InputError, match="there is no file .*b.csv; expected a table: .csv, .tsv"):
        read_table(tmp_path / "b.csv")


def test_quotes_commas_and_spaces_of_arff_are_read(tmp_path: Path) -> None:
    head = "@attribute 'a b' string\n@attribute n integer\n@attribute c {x,y}\n@data\n"
    (tmp_path / "a.arff").write_text(head + "'it\\'s, so' , 3 ,x\n?, ?, ?\n\"q\",1e3,y")
    rows = read_table(tmp_path / "a.arff")
    assert rows["a b"].tolist() == ["it's, so", "", "q"]
    np.testing.assert_array_equal(rows["n"], [3, np.nan, 1000])
    assert rows["c"].tolist() == ["x", "", "y"]


def test_a_gzipped_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,b\n1,True\n,\n"))
    assert read_table(tmp_path / "a.csv.gz")["b"].tolist() == ["True", ""]


SETTINGS = {
    "no targets": ({"targets": ()}, "say with targets which of its columns are predicted: age, job, children, income"),
    "no such target": ({"targets": ["wage"]}, "lacks wage; it has age, job"),
    "no such input": ({"inputs": ["wage"]}, "lacks wage; it has age, job"),
    "leak": ({"inputs": ["income"]}, "column income is named as an input and as a target"),
    "no such split": ({"split": "fold"}, "lacks the split column fold"),
    "split": ({"split": "job"}, "column job says .* in row 0; it must say train, val or test"),
    "two targets": ({"targets": ["income", "part"]}, "classes are one column; targets names 2"),
    "numbers as classes": ({"targets": ["age"]}, r"column age has \d+ classes in \d+ rows; use target scalar"),
    "text as numbers": ({"target": "scalar"}, "column income holds text; a target of this kind needs numbers"),
    "category": ({"categorical": ["wage"]}, "categorical names wage, which is no input"),
    "letters": ({"input": "dna"}, "dna is one column of letters; inputs are age, job"),
    "sequence": ({"input": "sequence"}, "column job holds text; a sequence needs numbers"),
}


@pytest.mark.parametrize("fault", SETTINGS)
def test_settings_that_do_not_fit_the_table_are_named(fault: str, tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    changes, message = SETTINGS[fault]
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.csv", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "a.npz"}, "targets belongs to a table"),
        ({"categorical": [1]}, "names columns of a table by name, of an .npz by number; got 1"),
        ({"data": "a.npz", "targets": (), "categorical": ["a"]}, "by name, of an .npz by number; got 'a'"),
    ],
)
def test_settings_of_tables_and_of_archives_are_told_apart(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        own(Path("a.csv"), **changes)


def test_test_rows_that_do_not_fit_train_are_named(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    faults = {
        "column age holds numbers in train; in row 1 of .*b.csv it is 'old'": {"age": ["3", "old"] * 5},
        "column income is 'huge' in test, a class that train lacks: high, low": {"income": "huge"},
        "no row of test has a value in income": {"income": None},
    }
    for message, change in faults.items():
        frame(40)[:10].assign(**change).to_csv(tmp_path / "b.csv", index=False)
        with pytest.raises(InputError, match=message):
            load(tmp_path / "a.csv", test=str(tmp_path / "b.csv"))
    frame()[["age", "income"]].to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(InputError, match="b.csv lacks job, children, part; it has age, income"):
        load(tmp_path / "a.csv", test=str(tmp_path / "b.csv"))


def test_the_encoding_survives_json_and_takes_rows_in_any_form() -> None:
    train = stacked({"age": np.array([1.0, 3.0, np.nan]), "job": np.array(["a", "b", ""])})
    encoding = fit_records(train, ["job", "age"])
    again = ENCODING.validate_json(ENCODING.dump_json(encoding))
    assert again == encoding
    assert again.encode(train)[0].tolist() == [[1, 1], [2, 3], [0, 2]]
    pandas = pd.DataFrame({"age": ["5", ""], "job": ["c", " b"], "more": [1, 2]}).to_records(index=False)
    assert again.encode(pandas)[0].tolist() == [[0, 5], [2, 2]]
    for raw, message in (
        (np.zeros((2, 2)), "the inputs are rows of named columns"),
        (train[["age"]], "the table lacks job; it has age"),
        (stacked({"age": np.array(["x"]), "job": np.array(["a"])}), "age holds numbers in train; got 'x' in row 0"),
    ):
        with pytest.raises(InputError, match=message):
            again.encode(raw)
    with pytest.raises(InputError, match="column age has no value in train"):
        fit_records(stacked({"age": np.array([np.nan]), "job": np.array([""])}), ["age"])
    with pytest.raises(InputError, match="column job has no value in train"):
        fit_records(stacked({"age": np.array([np.nan]), "job": np.array([""])}), ["job"])


def test_a_category_is_known_by_one_spelling_in_whatever_company_it_stands(tmp_path: Path) -> None:
    """pandas reads 01 beside A1 as text and by itself as a number, and true likewise."""
    (tmp_path / "a.csv").write_text("zip,flag\n01,true\n2.0,FALSE\nA1,maybe\n12345678901234567,x\n")
    (tmp_path / "b.csv").write_text("zip,flag\n01,True\n02,false\n")
    encoding = fit_records(read_table(tmp_path / "a.csv"), ["zip", "flag"])
    assert encoding.encode(read_table(tmp_path / "b.csv"))[0].tolist() == encoding.encode(
        read_table(tmp_path / "a.csv")
    )[0][:2].tolist()  # fmt: skip
    assert 0 not in encoding.encode(read_table(tmp_path / "a.csv"))[0]
    rows = [f"{i / 7},{('01', '02', 'A')[i % 3]}" for i in range(60)]
    (tmp_path / "c.csv").write_text("\n".join(["x,y", *rows]))
    (tmp_path / "d.csv").write_text("x,y\n0.5,01\n0.7,02\n")
    splits = load(tmp_path / "c.csv", targets=["y"], test=str(tmp_path / "d.csv"))
    assert (splits.layout.classes, splits.test.y.tolist()) == (("1", "2", "A"), [0, 1])


def test_numbers_that_another_file_holds_as_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *(f"{i},{i % 2}" for i in range(40))]))
    (tmp_path / "b.arff").write_text("@RELATION b\n@ATTRIBUTE x {1,2}\n@ATTRIBUTE y REAL\n@DATA\n1,0\n2,1\n")
    with pytest.raises(InputError, match=r"column x holds numbers in train; in row 0 of .*b\.arff it is '1'"):
        load(tmp_path / "a.csv", targets=["y"], test=str(tmp_path / "b.arff"))


def test_a_model_of_a_table_takes_a_table(tmp_path: Path) -> None:
    """From a CSV to a model, and from another CSV, with columns in another order and no target, to predictions."""
    path = tmp_path / "a.csv"
    frame().to_csv(path, index=False)
    result = orca.adapt(
        {
            "task": own(path, split="part").model_dump(), "body": str(save_tiny_body(tmp_path / "body")),
            "device": "cpu", "embed": {"tokens": 3}, "align": {"objective": "none"}, "finetune": {"epochs": 1},
        },
        store=tmp_path / "store",
    )  # fmt: skip
    assert "boosting" in result.record["baselines"]
    frame(12)[["job", "children", "age"]].assign(job="pilot").to_csv(tmp_path / "new.csv", index=False)
    made = predict_file(orca.load(result.path), tmp_path / "new.csv", tmp_path / "out.npz")
    assert made["probability"].shape == (12, 2)


def test_a_long_text_is_no_category_but_may_be_dna_or_left_out(tmp_path: Path) -> None:
    letters = ["".join(row) for row in RNG.choice(list("ACGT"), (40, 1200))]
    table = pd.DataFrame({"seq": letters, "size": np.arange(40.0), "kind": ["a", "b"] * 20})
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match="column seq has a text of 1200 letters, more than 1000; it is no category"):
        resolve_task(own(tmp_path / "a.csv", targets=["kind"]))
    resolve_task(own(tmp_path / "a.csv", targets=["kind"], inputs=["size"])).load()
    dna = resolve_task(own(tmp_path / "a.csv", input="dna", targets=["kind"], inputs=["seq"])).load()
    assert dna.layout.input_shape == (4, 1200)
