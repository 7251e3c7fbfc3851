"""Charts: what is drawn where, and in which words."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tests.unlearn.report.made import AT, HOSTILE, finding
from unlearn.report import charts
from unlearn.report.charts import MINUS, Bar
from unlearn.report.data import Claim, Phase, Served, Service


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def texts(text: str) -> list[str]:
    return [item.text or "" for item in parsed(text).iter("text")]


def places(text: str, kind: str, attribute: str) -> list[float]:
    return [float(item.get(attribute, "").rstrip("%")) for item in parsed(text).iter() if item.get("class") == kind]


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = charts.bars(
        "n", "t", "d", [Bar("a", 0.25, "x", "kept"), Bar("b", 7.0, "y", "kept"), Bar("c", 0.0, "z", "kept")]
    )
    assert places(drawn, "kept", "width") == [25.0, 100.0]
    assert places(drawn, "track", "width") == [100.0] * 3
    assert sorted(texts(drawn)) == ["a", "b", "c", "x", "y", "z"]


def test_what_the_model_knew() -> None:
    drawn = charts.service_chart("n", Service("r", Served(20, 4000, 4000), Served(9, 454, 3899), None))
    assert places(drawn, "behind", "width") == [11.64]
    assert "454 of 3,899 records" in texts(drawn)
    assert "after" not in " ".join(texts(drawn))
    assert "behind, 9 shards: 454 of 3,899 records" in (parsed(drawn).findtext("desc") or "")


def test_no_record_is_no_bar() -> None:
    drawn = charts.service_chart("n", Service("r", Served(1, 5, 5), Served(0, 0, 0), None))
    assert places(drawn, "behind", "width") == []


def test_recoveries_are_drawn_beside_the_largest() -> None:
    phases = [Phase("training", AT, 0, 1, 100, 1.0), Phase("recovery", AT, 1, 1, 200, 2.0)]
    drawn = charts.phase_chart("n", phases)
    assert (places(drawn, "kept", "width"), places(drawn, "accent", "width")) == ([50.0], [100.0])


def test_an_interval_is_in_order_on_its_axis() -> None:
    drawn = charts.interval_chart("n", finding())
    (low, low_cap, high_cap), value = places(drawn, "interval", "x1"), places(drawn, "estimate", "cx")[0]
    nothing, members = places(drawn, "null", "x1")[0], places(drawn, "members", "cx")[0]
    detectable = places(drawn, "detectable", "x1")[0]
    assert 0 < low == low_cap < value < nothing < high_cap < detectable < members < 100
    # The same unit everywhere: from the lower end to nothing known as from there to what is found, by proportion.
    assert math.isclose((nothing - low) / (members - nothing), 0.644 / 3.735, rel_tol=1e-2)
    assert {f"{MINUS}0.106 found", "0 if nothing is known", "3.73 for members of the data"} <= set(texts(drawn))
    assert f"interval {MINUS}0.644 to 0.432 at 95%" in (parsed(drawn).findtext("desc") or "")


def test_an_interval_without_members_or_power() -> None:
    drawn = charts.interval_chart(
        "n", finding(members=None, detectable=None, low=0.5, high=0.5, value=0.5, nothing=0.5)
    )
    assert places(drawn, "members", "cx") == places(drawn, "detectable", "x1") == []


def test_labels_stay_on_the_page() -> None:
    drawn = charts.interval_chart("n", finding(value=3.7, low=3.6, high=3.8))
    for item in parsed(drawn).iter("text"):
        share = float(item.get("x", "").rstrip("%"))
        assert item.get("class") == ("start" if share < 30 else "end" if share > 70 else "middle")


def test_epsilons() -> None:
    claim = Claim("", 0.0, 0.0, "", 1.5, 6.0, 0.95, "", refuted=True)
    drawn = charts.epsilon_chart("n", claim)
    claimed, found, largest = (
        places(drawn, "null", "x1")[0],
        places(drawn, "estimate", "cx")[0],
        places(drawn, "detectable", "x1")[0],
    )
    assert math.isclose((found - claimed) / (largest - claimed), 0.25, rel_tol=1e-2)
    assert "0 claimed" in texts(drawn)
    unclaimed = charts.epsilon_chart("n", Claim("", None, 0.0, "", 1.5, 6.0, 0.95, "", refuted=False))
    assert places(unclaimed, "null", "x1") == []
    assert charts.epsilon_chart("n", Claim("", 0.0, 0.0, "", None, None, None, "", refuted=False)) == ""


@pytest.mark.parametrize("value", [HOSTILE, "a & b", "]]>"])
def test_every_text_is_escaped(value: str) -> None:
    drawn = charts.bars("n", value, value, [Bar(value, 0.5, value, "kept")])
    assert texts(drawn) == [value, value]
    assert (parsed(drawn).findtext("title"), parsed(drawn).findtext("desc")) == (value, value)
    assert (parsed(charts.interval_chart("n", finding(title=value))).findtext("desc") or "").startswith(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0001, "0"), (-0.1064, f"{MINUS}0.106"), (0.5, "0.500"), (3.735, "3.73"), (-12.0, f"{MINUS}12.00")],
)
def test_figures(value: float, text: str) -> None:
    assert charts.number(value) == text


def test_names_in_charts_are_used_once() -> None:
    drawn = charts.bars("some-name", "t", "d", [])
    assert re.findall(r'id="([^"]+)"', drawn) == ["some-name-title", "some-name-about"]
