"""Answers come from a server on loopback that fails in many ways; each is stored, and paid once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.chat_server import STALL, ChatServer, serving
from pipeline.bench.describe import kill_and_compare
from pipeline.core.errors import AbsError, MissingInput
from pipeline.describe.answers import Answer, Answers
from pipeline.describe.client import IN_A_ROW, KEY, Endpoint, Price, Refused, ask_all
from pipeline.describe.requests import Request

SECRET = "sk-secret-of-the-test"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    found = Answers(tmp_path / "answers.jsonl")
    with found.writing():
        yield found


def requests(count: int, max_tokens: int = 10) -> list[Request]:
    return [
        Request("m", f"bird {n}", (("user", f"Bird {n}?"),), n, 0.5, max_tokens, "max_tokens")
        for n in range(count)
    ]


def reply(body: dict[str, Any]) -> str:
    return f"re: {body['messages'][-1]['content']} {body['seed']} \u2603"


def endpoint(server: ChatServer, timeout: float = 20, retries: int = 4) -> Endpoint:
    return Endpoint(server.address, timeout, retries, 0)


def asker(place: Endpoint) -> Callable[[Request], Answer]:
    return lambda request: place.ask(request, "r")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["busy", "fail", "cut", "stall"])
def test_a_mishap_is_tried_again(answers: Answers, wrong: str) -> None:
    """Every first attempt goes wrong."""
    wanted = requests(1 if wrong in ("cut", "stall") else 6)
    with serving(reply, lambda _, times: "" if times else wrong) as server:
        place = endpoint(server, timeout=STALL / 3 if wrong == "stall" else 20)
        outcome = ask_all(wanted, asker(place), answers)
    assert (outcome.answered, outcome.failed) == (len(wanted), [])
    assert set(server.came.values()) == {2}
    for request in wanted:
        answer = answers[request]
        assert answer.text == f"re: {request.prompt} {request.seed} \u2603"
        assert answer.request == {**request.body, "class": request.label}
        assert (answer.model, answer.finish) == ("m-1", "stop")
        assert (answer.tokens_in, answer.tokens_out) == (11, 7)


def test_a_cut_answer_is_known_as_cut(answers: Answers) -> None:
    with serving(reply, lambda *_: "long") as server:
        ask_all(requests(1), asker(endpoint(server)), answers)
    assert answers[requests(1)[0]].finish == "length"


def test_one_request_without_an_answer_does_not_stop_the_others(answers: Answers) -> None:
    wanted = requests(7)
    with serving(reply, lambda key, _: "reject" if key in refused else "") as server:
        refused: set[str] = set()
        ask_all(wanted[:1], asker(endpoint(server)), answers)
        refused |= {*server.came}
        other = Answers(answers.path.with_name("other.jsonl"))
        with other.writing():
            outcome = ask_all(wanted, asker(endpoint(server)), other)
    assert [request for request, _ in outcome.failed] == wanted[:1]
    assert outcome.answered == 6
    assert "not about that" in outcome.failed[0][1]


def test_a_wrong_key_ends_it_at_once_and_is_never_shown(answers: Answers) -> None:
    with serving(reply, lambda *_: "refuse") as server:
        outcome = ask_all(requests(50), asker(endpoint(server)), answers, concurrency=2)
    assert server.keys == {f"Bearer {SECRET}"}
    assert sum(server.came.values()) <= 4
    assert outcome.stopped
    assert all("no such key" in told and SECRET not in told for _, told in outcome.failed)
    assert SECRET not in answers.path.read_text()


def test_an_endpoint_that_is_not_there_is_given_up(answers: Answers) -> None:
    with serving(reply) as server:
        place = endpoint(server, retries=0)
    outcome = ask_all(requests(90), asker(place), answers, concurrency=1)
    assert len(outcome.failed) == IN_A_ROW
    assert outcome.stopped
    assert "\n" not in outcome.failed[0][1]


def test_no_more_than_so_many_are_under_way(answers: Answers) -> None:
    gate = threading.Barrier(3)

    def wait(body: dict[str, Any]) -> str:
        gate.wait(timeout=20)  # three must meet, or nobody is answered
        return "so"

    with serving(wait) as server:
        outcome = ask_all(requests(9), asker(endpoint(server)), answers, concurrency=3)
    assert (outcome.answered, server.most_at_once) == (9, 3)


def test_a_rate_is_kept(answers: Answers) -> None:
    with serving(reply) as server:
        place = Endpoint(server.address, 20, 0, rate=1200)
        ask_all(requests(9), asker(place), answers, concurrency=9)
    assert max(server.times) - min(server.times) > 7 * 60 / 1200


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_budget_is_never_exceeded(answers: Answers, concurrency: int) -> None:
    """An answer costs 7 of at most 10 tokens; a prompt 11, which is estimated as 2."""
    price = Price(0, 1e6)
    with serving(reply) as server:
        outcome = ask_all(
            requests(30), asker(endpoint(server)), answers, concurrency, 50.0, price, spent=7.0
        )
    assert outcome.over_budget
    assert outcome.answered == 5  # 7 + 5 * 7 = 42, and 42 + 10 > 50
    assert sum(server.came.values()) == 5


def test_a_signal_ends_it_after_what_is_under_way(answers: Answers) -> None:
    def stop(body: dict[str, Any]) -> str:
        if body["seed"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return "so"

    before = signal.getsignal(signal.SIGTERM)
    with serving(stop) as server:
        outcome = ask_all(requests(60), asker(endpoint(server)), answers, concurrency=2)
    assert outcome.stopped
    assert outcome.answered == sum(server.came.values()) < 60
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_while_money_is_awaited_sends_no_more(answers: Answers) -> None:
    """The budget holds a second request only after the first has cost less than it could have."""
    asked: list[Request] = []
    drawn, weighed = threading.Event(), threading.Event()

    class Weighing(Price):
        def of(self, tokens_in: int, tokens_out: int) -> float:
            if drawn.is_set():
                weighed.set()
            return super().of(tokens_in, tokens_out)

    def coming() -> Iterator[Request]:
        first, *others = requests(3)
        yield first
        drawn.set()
        yield from others

    def ask(request: Request) -> Answer:
        asked.append(request)
        assert weighed.wait(20)  # the second request is at hand
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return told(request)

    outcome = ask_all(coming(), ask, answers, 2, budget=12.0, price=Weighing(0, 1e6))
    assert asked == requests(1)
    assert (outcome.answered, outcome.stopped, outcome.over_budget) == (1, True, False)


# --- The store of answers -------------------------------------------------------------------------


def told(request: Request, text: str = "so\nit is \u2603") -> Answer:
    return Answer.to(request, "r", model="m", text=text, finish="stop", tokens_in=1, tokens_out=2)


def test_answers_survive_a_cut_at_any_byte(tmp_path: Path) -> None:
    path, wanted = tmp_path / "answers.jsonl", requests(3)
    first = Answers(path)
    with first.writing():
        for request in wanted:
            first.add(told(request))
    whole = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        kept = sum(cut >= end - 1 for end in ends)
        again = Answers(path)
        assert [request in again for request in wanted] == [n < kept for n in range(3)]
        with again.writing():
            for request in wanted[kept:]:
                again.add(told(request))
        assert path.read_bytes().startswith(whole[:cut])
        found = Answers(path)
        assert [found[request] for request in wanted] == [told(request) for request in wanted]


def test_a_changed_byte_is_not_read(tmp_path: Path) -> None:
    path, (request,) = tmp_path / "answers.jsonl", requests(1)
    first = Answers(path)
    with first.writing():
        first.add(told(request))
    path.write_bytes(path.read_bytes().replace(b"it is", b"it was"))
    found = Answers(path)
    assert request not in found
    assert found.damaged == 1


def test_the_first_answer_stays_and_one_process_writes(answers: Answers) -> None:
    (request,) = requests(1)
    answers.add(told(request))
    answers.add(told(request, "another"))
    assert answers[request] == told(request) == Answers(answers.path)[request]
    with (
        pytest.raises(AbsError, match="another process adds answers"),
        Answers(answers.path).writing(),
    ):
        pass


def test_a_request_is_known_by_all_that_decides_its_answer() -> None:
    base = Request("m", "auk", (("user", "Auk?"),), 0, 0.5, 10, "max_tokens")
    others = [
        Request("n", "auk", (("user", "Auk?"),), 0, 0.5, 10, "max_tokens"),
        Request("m", "auk", (("user", "Auk!"),), 0, 0.5, 10, "max_tokens"),
        Request("m", "auk", (("system", "Auk?"),), 0, 0.5, 10, "max_tokens"),
        Request("m", "auk", (("user", "Auk?"),), 1, 0.5, 10, "max_tokens"),
        Request("m", "auk", (("user", "Auk?"),), 0, None, 10, "max_tokens"),
        Request("m", "auk", (("user", "Auk?"),), 0, 0.5, 11, "max_tokens"),
        Request("m", "auk", (("user", "Auk?"),), 0, 0.5, 10, "max_completion_tokens"),
    ]
    assert len({each.key for each in (base, *others)}) == 8
    assert "temperature" not in others[4].body
    assert others[6].body["max_completion_tokens"] == 10


def test_without_a_key_and_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(MissingInput, match="give --endpoint ADDRESS, or the key"):
        Endpoint(None, 1, 0, 0)
    with serving(reply) as server:
        assert endpoint(server).ask(requests(1)[0], "r").text
        assert server.keys == {"Bearer none"}


def test_nonsense_in_place_of_an_answer_is_one_line() -> None:
    with serving(reply) as server:
        server.completion = lambda *_: {"choices": []}  # type: ignore[method-assign]
        with pytest.raises(Refused) as error:
            endpoint(server, retries=0).ask(requests(1)[0], "r")
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_killed_process_asks_nothing_twice_but_what_was_under_way() -> None:
    found = kill_and_compare(classes=30, samples=1, kills=2)
    assert found["same_file"]
    assert found["same_requests"]
    assert found["sent_again"] <= found["sent_again_at_most"]
    assert found["paid_again"] == found["sent_again"]


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_server_that_knows_the_key_of_a_request_is_paid_once() -> None:
    found = kill_and_compare(classes=40, samples=1, kills=3, remembers=True)
    assert found["same_file"]
    assert found["sent_again"] > 0
    assert found["paid_again"] == 0


def test_a_request_that_is_sent_again_carries_its_key() -> None:
    first, second = requests(2)
    with serving(reply, remembers=True) as server:
        place = endpoint(server)
        told = [place.ask(request, "r").text for request in (first, first, second)]
        assert told[0] == told[1] != told[2]
        assert (sum(server.came.values()), sum(server.paid.values())) == (3, 2)
