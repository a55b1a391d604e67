"""Who holds a claim: when it is dead, and what it is called."""

import os

import pytest

from dr_keras.system import holders


def test_this_process_is_alive_and_named():
    me = holders.this_process("filtering")
    assert not holders.is_dead(me) and holders.is_of_this_host(me)
    text = holders.described({**me, "process": os.getppid(), "since": 1790000000.0})
    assert text == (
        f"filtering, process {os.getppid()} on {me['host']}, since 2026-09-21 14:13:20 UTC"
    )
    assert "in another thread of this process" in holders.described(me)


@pytest.mark.parametrize(
    "change, dead",
    [
        ({"process": 2**22 + 1}, True),  # no such process
        ({"started": "another time"}, True),  # the number was given out again
        ({"started": ""}, False),
        ({"host": "another"}, False),
        ({"host": "another", "process": 2**22 + 1}, False),
        ({"place": "another-boot pid:[1]"}, True),
        ({"process": "x"}, False),
        ({"process": None}, False),
        ({"process": 2**70}, False),
    ],
)
def test_the_dead_are_told_from_the_living(change, dead):
    assert holders.is_dead(holders.this_process() | change) is dead


def test_numbers_of_another_container_say_nothing():
    me = holders.this_process()
    boot = me["place"].split(" ")[0]
    if not boot:
        pytest.skip("this system has no process namespaces")
    away = {"process": 2**22 + 1, "place": f"{boot} pid:[1]"}
    assert not holders.is_dead(me | away)


def test_without_proc_ps_says_when_a_process_began(monkeypatch):
    monkeypatch.setattr(holders.pathlib, "Path", lambda path: pathlib_of_nothing)
    began = holders._started(os.getpid())
    assert began == holders._started(os.getpid())
    assert holders._started(2**22 + 1) == ""


class _Nothing:
    def read_text(self, **settings):
        raise FileNotFoundError


pathlib_of_nothing = _Nothing()


@pytest.mark.parametrize("holder", [{}, {"process": []}, {"host": "h"}])
def test_a_holder_that_cannot_be_read_has_words_too(holder):
    assert holders.described(holder).startswith("another process, which has not written its name")
    assert not holders.is_dead(holder)
