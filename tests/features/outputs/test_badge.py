"""Verdicts that are found out beside the result: one thread for one question, errors are said,
closing lets go."""

import threading

import pytest

from jammi_lab.core.errors import JammiError
from jammi_lab.core.verdicts import Damaged, Fresh
from jammi_lab.features.outputs.badge import BadgeService
from jammi_lab.inputs.source_names import SourceKind
from tests.inside import services_of
from tests.waiting import until


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def looked_on(ask, tenant=lambda: None):
    badges = BadgeService(ask, tenant)
    badges.timeout = lambda: 0.0
    return badges


def behind(gate, verdict=None):
    def ask(names, stopped):
        while not gate.wait(0.01) and not (stopped is not None and stopped.is_set()):
            pass
        return dict.fromkeys(names, verdict or Fresh())

    return ask


def badge_threads():
    return [t for t in threading.enumerate() if t.name == "jammi-badge"]


def test_who_has_no_patience_is_told_later_and_once(gate):
    badges, said = looked_on(behind(gate, Damaged(None))), []
    notice = badges.request(["t"])
    assert notice.rendering().text == "t is not checked yet — ws.why('t')"
    notice.add_done_callback(lambda: said.append(notice.rendering().text))
    gate.set()
    assert until(lambda: said) and said == ["t is damaged: its bytes are gone — ws.recompute('t')"]
    notice.add_done_callback(lambda: said.append("again"))
    assert said[1:] == ["again"]
    badges.close()


def test_who_waits_for_it_asks_in_its_own_thread():
    seen = []
    badges = BadgeService(
        lambda names, stopped: (
            seen.append((threading.current_thread(), stopped)) or dict.fromkeys(names, Fresh())
        )
    )
    assert badges.request(["t"]).rendering() is None and seen == [
        (threading.current_thread(), None)
    ]


def test_the_same_question_is_asked_once_at_a_time_for_each_tenant(gate):
    tenant = ["a"]
    badges = looked_on(behind(gate), lambda: tenant[0])
    first = badges.request(["t"])
    assert badges.request(["t"]) is first and badges.request(["u"]) is not first
    tenant[0] = "b"
    assert badges.request(["t"]) is not first
    gate.set()
    assert until(lambda: first.is_known)
    tenant[0] = "a"
    assert badges.request(["t"]) is not first
    badges.close()


def test_many_questions_that_hang_take_few_threads_and_are_all_answered(gate):
    badges = looked_on(behind(gate))
    notices = [badges.request([f"t{n}"]) for n in range(30)]
    assert 1 <= len(badge_threads()) <= 4
    gate.set()
    assert until(lambda: all(n.is_known for n in notices)) and until(lambda: not badge_threads())
    badges.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (JammiError("The disk is full."), "The disk is full"),
        (RuntimeError("changed"), "RuntimeError"),
    ],
)
@pytest.mark.parametrize("patience", [None, 60.0])
def test_what_could_not_be_found_out_says_why_in_place_of_a_verdict(error, said, patience):
    def ask(names, stopped):
        raise error

    badges = BadgeService(ask)
    badges.timeout = lambda: patience
    assert (
        badges.request(["a", "b"]).rendering().text == f"a, b are not checked: {said} — ws.why('a')"
    )
    badges.close()


def test_an_interrupt_is_no_answer():
    def ask(names, stopped):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BadgeService(ask).request(["t"])


def test_closing_lets_go_of_what_hangs_and_of_what_waits_its_turn(gate):
    badges = looked_on(behind(gate))
    notices = [badges.request([f"t{n}"]) for n in range(10)]
    badges.close()
    assert not badge_threads()
    assert all(n.rendering() is not None for n in notices) and badges.request(
        ["t"]
    ).rendering().text.startswith("t is not checked: the workspace was closed")
    badges.close()


def test_a_text_that_said_that_nothing_was_checked_waits_when_it_is_shown_again(
    ws, tmp_path, monkeypatch, gate
):
    asked, source = threading.Event(), SourceKind.observe

    def hanging(self, wanted, look):
        asked.set()
        gate.wait()
        return source(self, wanted, look)

    monkeypatch.setattr(SourceKind, "observe", hanging)
    gate.set()
    (tmp_path / "p.csv").write_text("id\n1\n")
    ws.sources.add("p", tmp_path / "p.csv")
    ws.materialize("t", "SELECT id FROM p")
    (tmp_path / "p.csv").write_text("id\n2\n")
    services_of(ws).badges.timeout = lambda: 0.0
    result = ws.sql("SELECT id FROM jammi.t")
    gate.clear()
    asked.clear()
    assert repr(result).startswith("t is not checked yet")
    assert asked.wait(60)
    gate.set()
    assert repr(result).startswith("t is stale: p changed")
