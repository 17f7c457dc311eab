"""Ask an endpoint that speaks OpenAI's chat protocol: retries, rate, concurrency, spending.

Retries with back-off are those of the `openai` library. The key is read from the environment by
that library; it is never stored, and taken out of every message.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.errors import AbsError, ConfigError, MissingInput
from pipeline.describe.answers import Answer, Answers
from pipeline.describe.requests import Request

KEY = "OPENAI_API_KEY"
"""Environment variable of the key."""
IN_A_ROW = 5
"""Requests that may fail one after the other before no more are sent."""
MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """Price of a million tokens of prompts and of answers, in any currency."""

    prompt: float = 0.0
    answer: float = 0.0

    @classmethod
    def parse(cls, given: str) -> Price:
        """Parse `0.15,0.6`, as given to `--price`; ConfigError for anything else."""
        try:
            prompt, answer = map(float, given.split(","))
        except ValueError:
            raise ConfigError(f"--price {given!r}: write two numbers, such as 0.15,0.6") from None
        if not (0 <= prompt < float("inf") and 0 <= answer < float("inf")):
            raise ConfigError(f"--price {given!r}: prices are not negative")
        return cls(prompt, answer)

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Return what tokens cost."""
        return (self.prompt * tokens_in + self.answer * tokens_out) / MILLION


def check_address(endpoint: str | None) -> None:
    """Raise ConfigError for an address that no request can be sent to."""
    if endpoint is not None and not re.match(r"https?://[^/\s]", endpoint):
        raise ConfigError(
            f"--endpoint {endpoint!r}: expected an address such as http://127.0.0.1:8000/v1"
        )


class Endpoint:
    """A place that answers requests.

    Args:
        address: Base address, such as `http://127.0.0.1:8000/v1`; None for the library's own.
        timeout: Seconds that an answer may take.
        retries: Attempts after the first one, with growing pauses.
        rate: Most requests a minute; 0 for any number.
    """

    def __init__(self, address: str | None, timeout: float, retries: int, rate: float) -> None:
        try:
            import openai
        except ImportError:
            raise MissingInput(
                "asking an endpoint needs the openai library: pip install 'abs-pipeline[describe]'"
            ) from None
        self._errors = openai
        self._key = os.environ.get(KEY, "")
        if not self._key and address is None and not os.environ.get("OPENAI_BASE_URL"):
            raise MissingInput(f"give --endpoint ADDRESS, or the key of OpenAI's in {KEY}")
        # Local servers ignore the key, but the library insists on one.
        self._client = openai.OpenAI(
            base_url=address, api_key=self._key or "none", timeout=timeout, max_retries=retries
        )
        self._pause, self._next, self._lock = 60 / rate if rate else 0.0, 0.0, threading.Lock()

    def ask(self, request: Request, recipe: str) -> Answer:
        """Return the answer to a request; AbsError in one line if there is none."""
        self._wait_for_turn()
        try:
            # A server that knows this header answers a repeated request without new work.
            headers = {"Idempotency-Key": request.key}
            told = self._client.chat.completions.create(**request.body, extra_headers=headers)
            choice, usage = told.choices[0], told.usage
            text = choice.message.content or ""
        except self._errors.APIStatusError as error:
            raise Refused(self._told(error), error.status_code) from None
        except Exception as error:  # of many types: the library's, the connection's, the parser's
            raise Refused(self._told(error), 0) from None
        return Answer.to(
            request,
            recipe,
            model=str(told.model or request.model),
            text=text,
            finish=str(choice.finish_reason or ""),
            tokens_in=usage.prompt_tokens if usage else request.tokens,
            tokens_out=usage.completion_tokens if usage else -(-len(text) // 4),
        )

    def _wait_for_turn(self) -> None:
        """Sleep until the next request may be sent."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._pause
        time.sleep(max(0.0, turn - time.monotonic()))

    def _told(self, error: Exception) -> str:
        """Return an error in one line, without the key."""
        line = " ".join(str(error).split()) or type(error).__name__
        if cause := error.__cause__:
            line += f" ({' '.join(str(cause).split()) or type(cause).__name__})"
        line = line.replace(self._key, "***") if self._key else line
        return line[:300]


class Refused(AbsError):
    """A request without an answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.hopeless = status in (401, 403, 404)
        """True if any other request would be refused too."""


@dataclass
class Asked:
    """Outcome of a series of requests."""

    answered: int = 0
    failed: list[tuple[Request, str]] = field(default_factory=list)
    over_budget: bool = False
    stopped: bool = False
    """True if a signal, or too many failures, ended the series."""


def ask_all(
    requests: Iterable[Request],
    ask: Callable[[Request], Answer],
    answers: Answers,
    concurrency: int = 8,
    budget: float | None = None,
    price: Price | None = None,
    spent: float = 0.0,
    advance: Callable[[int], None] = lambda _: None,
) -> Asked:
    """Ask all requests, some at a time, and store each answer as it comes.

    No request is sent whose longest answer could exceed the budget. On a signal to stop, those that
    are under way are awaited and stored, so that none is paid for twice.

    Args:
        requests: Requests without an answer.
        ask: Function that returns the answer to one, or raises Refused.
        answers: Store of answers, held by `Answers.writing`.
        concurrency: Requests under way at once.
        budget: Most money to be spent, with what was spent before; None for any.
        price: Price of tokens.
        spent: Money that was spent before.
        advance: Called with 1 for each answer.
    """
    under_way, outcome = _UnderWay(answers, price or Price(), budget, spent, advance), Asked()
    with ThreadPoolExecutor(concurrency) as pool, stop_signal() as stop:
        for request in requests:
            while under_way.requests and (
                len(under_way.requests) >= concurrency or not under_way.can_pay(request)
            ):
                under_way.collect(outcome)
            outcome.stopped = stop.is_set() or under_way.failed_in_a_row >= IN_A_ROW
            outcome.over_budget = not under_way.can_pay(request)
            if outcome.stopped or outcome.over_budget:
                break
            under_way.send(request, ask, pool)
        while under_way.requests:
            under_way.collect(outcome)
    outcome.stopped |= stop.is_set()
    return outcome


@dataclass
class _UnderWay:
    """Requests that are sent and not yet answered, and the money that they may cost."""

    answers: Answers
    price: Price
    budget: float | None
    spent: float
    advance: Callable[[int], None]
    failed_in_a_row: int = 0
    requests: dict[Future[Answer], Request] = field(default_factory=dict)

    def can_pay(self, request: Request) -> bool:
        """Return whether the budget holds one more request and all under way, each at its most."""
        if self.budget is None:
            return True
        most = sum(map(self._most, (*self.requests.values(), request)))
        return self.spent + most <= self.budget

    def _most(self, request: Request) -> float:
        """Return the cost of a request with the longest answer."""
        return self.price.of(request.tokens, request.max_tokens)

    def send(
        self, request: Request, ask: Callable[[Request], Answer], pool: ThreadPoolExecutor
    ) -> None:
        """Ask in a thread of the pool, which also stores the answer."""

        def ask_and_store() -> Answer:
            answer = ask(request)
            self.answers.add(answer)
            return answer

        self.requests[pool.submit(ask_and_store)] = request

    def collect(self, outcome: Asked) -> None:
        """Wait until a request has ended; enter in `outcome` all that have."""
        for future in wait(self.requests, return_when=FIRST_COMPLETED).done:
            request = self.requests.pop(future)
            try:
                answer = future.result()
            except Refused as error:
                outcome.failed.append((request, str(error)))
                self.failed_in_a_row = IN_A_ROW if error.hopeless else self.failed_in_a_row + 1
                continue
            self.failed_in_a_row = 0
            outcome.answered += 1
            self.spent += self.price.of(answer.tokens_in, answer.tokens_out)
            self.advance(1)


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Yield an event that the first signal to stop sets; a second one ends the process as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}

    def note(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
