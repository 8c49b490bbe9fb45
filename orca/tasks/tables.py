"""Tables: census income."""

from __future__ import annotations

from typing import Any

from orca.errors import InputError
from orca.tasks.assemble import assemble, hold_out, same_rows
from orca.tasks.encodings import TableEncoding
from orca.tasks.files import data_fingerprint, data_missing, read_data, side_json
from orca.tasks.raw import Raw
from orca.tasks.shifts import column_third
from orca.tasks.spec import Archive, TaskSpec
from orca.types import Provenance, Splits

NAME = "adult"
COLUMNS = {  # number of categories, 0 for numbers; the encoding must be known before the file is there
    **{"age": 0, "workclass": 9, "fnlwgt": 0, "education": 16, "education-num": 0, "marital-status": 7},
    **{"occupation": 15, "relationship": 6, "race": 5, "sex": 2},
    **{"capital-gain": 0, "capital-loss": 0, "hours-per-week": 0, "native-country": 42},
}
ENCODING = TableEncoding(cardinalities=tuple(COLUMNS.values()))
AGE = list(COLUMNS).index("age")
SHIFTS = {"age-low": column_third(AGE, "low"), "age-high": column_third(AGE, "high")}
KEYS = ("x_train", "y_train", "x_test", "y_test")
NOTES = (
    "official split; '?' (missing) is a category of its own, no row is dropped",
    "validation: a fixed random 12 % of each class of train, identical rows together",
    "26 test rows are in the official training file too: people with equal answers",
)


def check_columns(facts: dict[str, Any]) -> None:
    """Compares the columns with those that the data's side file names.

    Raises:
        InputError: they differ.
    """
    if not facts:
        return
    labels = facts["category_labels"]
    found = {column: len(labels.get(column, ())) for column in facts["columns"]}
    if found != COLUMNS or list(found) != list(COLUMNS):
        raise InputError(f"{NAME}.json has columns {found}, expected {COLUMNS}; the file is of another version")


def _load() -> Splits:
    check_columns(side_json(NAME))
    arrays = read_data(NAME, KEYS)
    train = Raw(arrays["x_train"], arrays["y_train"])
    val = hold_out(train.y, groups=same_rows(train.x))
    parts = {
        "train": train.subset(~val),
        "val": train.subset(val),
        "test": Raw(arrays["x_test"], arrays["y_test"]),
    }
    return assemble(parts, encoding=ENCODING, target="classes", classes=("<=50K", ">50K"), notes=NOTES, shifts=SHIFTS)


SPECS = (
    TaskSpec(
        name=NAME,
        title="income above 50K from 14 columns of the census (Adult, UCI)",
        input="table",
        target="classes",
        metric="error",
        provenance=Provenance(
            source="https://archive.ics.uci.edu/dataset/2/adult",
            licence="CC BY 4.0",
            citation="B. Becker, R. Kohavi (donors), UCI Machine Learning Repository, doi:10.24432/C5XW20",
        ),
        encoding=ENCODING,
        load=_load,
        fingerprint=lambda: data_fingerprint(NAME, version=1, encoding=ENCODING),
        shifts=SHIFTS,
        missing=lambda: data_missing(NAME),
        archive=Archive(NAME, KEYS),
    ),
)
