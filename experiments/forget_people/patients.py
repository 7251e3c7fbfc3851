"""Hospital visits as numbers, by public rules alone: declared ranges, declared categories, and hashes.

Nothing is fitted on the data (no mean, no vocabulary, no most frequent value), so no record leaves a trace in how
another one is encoded. Ranges and categories are those of the data's public description [Strack et al. 2014] and of its
`IDs_mapping.csv`; what is outside of a range is moved to its end, and what is in no category is none of them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

Row = Mapping[str, str]

RANGES: Mapping[str, tuple[float, float]] = {
    "time_in_hospital": (1, 14),
    "num_lab_procedures": (0, 130),
    "num_procedures": (0, 6),
    "num_medications": (0, 80),
    "number_diagnoses": (1, 16),
}
"""Column to the range that becomes 0..1."""

VISITS = ("number_outpatient", "number_emergency", "number_inpatient")
"""Counts of visits of the year before, by their logarithm."""

MOST_VISITS = 63

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "age": tuple(f"[{low}-{low + 10})" for low in range(0, 100, 10)),
    "race": ("AfricanAmerican", "Asian", "Caucasian", "Hispanic", "Other"),
    "gender": ("Female", "Male"),
    "admission_type_id": tuple(str(code) for code in range(1, 9)),
    "discharge_disposition_id": tuple(str(code) for code in range(1, 31)),
    "admission_source_id": tuple(str(code) for code in range(1, 27)),
    "max_glu_serum": ("Norm", ">200", ">300"),
    "A1Cresult": ("Norm", ">7", ">8"),
    "change": ("Ch",),
    "diabetesMed": ("Yes",),
}
"""Column to the values that get a number each, 0 or 1."""

DRUGS = (
    *("metformin", "repaglinide", "nateglinide", "chlorpropamide", "glimepiride", "acetohexamide", "glipizide"),
    *(
        "glyburide",
        "tolbutamide",
        "pioglitazone",
        "rosiglitazone",
        "acarbose",
        "miglitol",
        "troglitazone",
        "tolazamide",
    ),
    *("insulin", "glyburide-metformin", "glipizide-metformin", "glimepiride-pioglitazone", "metformin-rosiglitazone"),
    "metformin-pioglitazone",
)

DOSES = ("Steady", "Up", "Down")

HASHED: Mapping[str, int] = {"medical_specialty": 32, "payer_code": 16}
"""Column of names that nobody declared to the number of buckets they are hashed into."""

CHAPTERS: tuple[Callable[[float], bool], ...] = (
    lambda code: 390 <= code < 460 or code == 785,  # circulatory
    lambda code: 460 <= code < 520 or code == 786,  # respiratory
    lambda code: 520 <= code < 580 or code == 787,  # digestive
    lambda code: 250 <= code < 251,  # diabetes
    lambda code: 800 <= code < 1000,  # injury
    lambda code: 710 <= code < 740,  # musculoskeletal
    lambda code: 580 <= code < 630 or code == 788,  # genitourinary
    lambda code: 140 <= code < 240,  # neoplasms
)
"""Of ICD-9 codes [Strack et al. 2014, table 2]; whatever is left, letters included, is a chapter of its own."""

TESTED = 5
"""One patient of so many is kept to test with, by a hash of the number."""


def read(path: Path) -> Iterator[dict[str, str]]:
    """The visits.

    Args:
        path: `dataset_diabetes.zip`.

    Yields:
        Column to text, a visit each.
    """
    with zipfile.ZipFile(path) as archive, archive.open("dataset_diabetes/diabetic_data.csv") as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))


def encode(row: Row) -> list[float]:
    """One visit as numbers from 0 to 1; it depends on nothing else.

    Args:
        row: Column to text.

    Returns:
        As many numbers for every visit.
    """
    found = [_scaled(float(row[name]), low, high) for name, (low, high) in RANGES.items()]
    found += [min(1.0, math.log1p(float(row[name])) / math.log1p(MOST_VISITS)) for name in VISITS]
    for name, values in CATEGORIES.items():
        found += _one_of(row[name], values)
    for name in DRUGS:
        found += _one_of(row[name], DOSES)
    for name in ("diag_1", "diag_2", "diag_3"):
        found += _chapter(row[name])
    for name, buckets in HASHED.items():
        at = None if row[name] == "?" else bucket(row[name], buckets)
        found += [float(at == number) for number in range(buckets)]
    return found


def is_tested(patient: str) -> bool:
    """Whether all visits of a patient are kept to test with."""
    return bucket(patient, TESTED) == 0


def bucket(text: str, buckets: int) -> int:
    """A number below `buckets` that is a public function of the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % buckets


def is_readmitted(row: Row) -> bool:
    """What is predicted: whether the patient came back within 30 days."""
    return row["readmitted"] == "<30"


def matrix(rows: Iterable[Row]) -> np.ndarray:
    """Visits as `[n, width]` float32."""
    return np.array([encode(row) for row in rows], dtype=np.float32)


def _scaled(value: float, low: float, high: float) -> float:
    return (min(max(value, low), high) - low) / (high - low)


def _one_of(value: str, values: Iterable[str]) -> list[float]:
    return [float(value == known) for known in values]


def _chapter(code: str) -> list[float]:
    if code == "?":
        return [0.0] * (len(CHAPTERS) + 1)
    number = float(code) if code[0].isdigit() else math.nan
    found = [float(holds(number)) for holds in CHAPTERS]
    return [*found, float(not any(found))]
