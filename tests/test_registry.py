"""The registry: order, promises, and what is said of unknown names."""

from __future__ import annotations

import sys

import pytest

from tokenscope.errors import UnknownName
from tokenscope.registry import Registry
from tokenscope.trace.drawn import PICTURES
from tokenscope.trace.record import VIEWS


def test_names_in_order_and_things_by_name():
    table: Registry[int] = Registry("number")
    table.add("two", 2)
    assert table.register("one")(1) == 1
    assert table.names() == ("two", "one")
    assert list(table) == [("two", 2), ("one", 1)]
    assert (len(table), "one" in table, "three" in table, 1 in table) == (2, True, False, False)
    assert table.get("one") == 1


def test_a_name_is_given_once_and_the_same_thing_may_come_again():
    table: Registry[object] = Registry("thing")
    thing = table.add("a", object())
    assert table.add("a", thing) is thing
    with pytest.raises(ValueError, match="thing 'a' is registered twice"):
        table.add("a", object())
    assert table.get("a") is thing
    table.add("none", None)  # None is a thing too
    with pytest.raises(ValueError, match="twice"):
        table.add("none", 1)


def test_an_unknown_name_lists_the_known_ones():
    table: Registry[int] = Registry("number")
    table.add("b", 1)
    table.promise("a", "no.such.module")
    with pytest.raises(UnknownName) as caught:
        table.get("c")
    assert caught.value.known == ("a", "b")
    assert "unknown name 'c'; known: a, b" in str(caught.value)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that registers "late" in the table that it finds, and forgets "never"."""
    (tmp_path / "promised_by_test.py").write_text(
        "from test_registry import PROMISED\nPROMISED.add('late', 7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "test_registry", here)
    monkeypatch.delitem(sys.modules, "promised_by_test", raising=False)
    monkeypatch.setattr(here, "PROMISED", Registry("number"))
    return "promised_by_test"


PROMISED: Registry[int] = Registry("number")


def test_a_promised_name_counts_everywhere_before_it_is_there(module):
    PROMISED.promise("late", module)
    PROMISED.add("early", 1)
    assert PROMISED.names() == ("late", "early")
    assert len(PROMISED) == 2
    assert "late" in PROMISED
    assert list(PROMISED) == [("late", 7), ("early", 1)]  # imports what it has to
    assert PROMISED.get("late") == 7


def test_a_promise_that_is_not_kept_is_not_called_an_unknown_name(module):
    PROMISED.promise("never", module)
    with pytest.raises(RuntimeError, match="promised_by_test promised the number 'never'"):
        PROMISED.get("never")


def test_the_views_of_a_trace_are_all_promised():
    assert {"structure", "regions", "rollup", "pandas", "arrow"} <= set(VIEWS.names())
    assert len(list(VIEWS)) == len(VIEWS)


def test_the_pictures_are_all_promised():
    assert {"tokens", "attention", "tree", "why", "model"} <= set(PICTURES.names())
    assert len(list(PICTURES)) == len(PICTURES)
