"""Asking a service over HTTP about a client: bounded, with a memory, and left alone while it is down.

    closed --FAILURES_IN_A_ROW--> open --breaker_s--> one call is tried --it fails--> open
       ^                                                      |
       '-------------------------- it succeeds ---------------'

A request is a POST of a JSON object, an answer is 200 with a JSON object; everything else is a failure: another status,
no answer in time, something that is no JSON, a certificate that does not verify.
"""

import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import trio

from rookery.server.log import get_logger

from .fair_turns import FairTurns
from .fetching import NO_ENCODING, TooLarge, read_body, reason_of, tls_context

FAILURES_IN_A_ROW = 5
ANSWER_SIZE_MAXIMUM = 1024 * 1024  # bytes
KEY_SIZE = 32  # bytes of the process's key and of what is remembered

_Understood = TypeVar("_Understood")
Document = Mapping[str, Any]  # a JSON object

_log = get_logger(__name__)


class CallOutFailed(Exception):
    """The service did not say what was asked of it; the text says why, and nothing of the request."""


class CallOut:
    """A service at one URL. Made by open_call_out."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        timeout_s: float,
        breaker_s: float,
        cache_s: float,
        cache_limit: int,
        connections_limit: int,
    ) -> None:
        self.url = url
        self._client = client
        self._timeout_s = timeout_s
        self._breaker_s = breaker_s
        self._cache_s = cache_s  # 0 = nothing is remembered
        self._cache_limit = cache_limit
        # In front of the connections of the client, which share them less fairly.
        self._connections = FairTurns(connections_limit)
        self._key = secrets.token_bytes(KEY_SIZE)
        self._remembered: OrderedDict[bytes, tuple[float, Document]] = OrderedDict()  # until when; oldest first
        self._failures_in_a_row = 0
        self._open_until = -1.0
        self._is_trying = False
        self.asked_count = 0  # calls that were made
        self.failed_count = 0  # of these: failures
        self.rejected_count = 0  # calls that were not made: the breaker was open
        self.remembered_count = 0  # questions that needed no call

    @property
    def is_open(self) -> bool:
        """Whether calls fail without being made."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW and (
            self._is_trying or trio.current_time() < self._open_until
        )

    def recall(self, question: Document) -> Document | None:
        """What the service said to this a short while ago. Never blocks."""
        if not self._cache_s:
            return None
        digest = self._digest(question)
        found = self._remembered.get(digest)
        if found is None:
            return None
        until, answer = found
        if trio.current_time() >= until:
            del self._remembered[digest]
            return None
        self.remembered_count += 1
        return answer

    def remember(self, question: Document, answer: Document, *, for_s: float | None = None) -> None:
        """Say the same to the same question for cache_s, or for_s if that is less."""
        keep_s = self._cache_s if for_s is None else min(self._cache_s, for_s)
        if keep_s <= 0:
            return
        digest = self._digest(question)
        self._remembered[digest] = trio.current_time() + keep_s, answer
        self._remembered.move_to_end(digest)
        if len(self._remembered) > self._cache_limit:
            self._remembered.popitem(last=False)

    def forget_all(self) -> None:
        """Ask again about everybody."""
        self._remembered.clear()

    def _digest(self, question: Document) -> bytes:
        text = json.dumps(question, sort_keys=True).encode()
        return hashlib.blake2b(text, key=self._key, digest_size=KEY_SIZE).digest()

    async def ask(
        self, question: Document, understand: Callable[[Document], _Understood]
    ) -> tuple[Document, _Understood]:
        """The answer of the service, and what understand makes of it, which raises ValueError for nonsense.

        Raises CallOutFailed, and nothing else; cancellation passes through.
        """
        if self.is_open:
            self.rejected_count += 1
            raise CallOutFailed(f"{self.url}: failed {FAILURES_IN_A_ROW} times in a row")
        is_trial = self._is_trying = self._failures_in_a_row >= FAILURES_IN_A_ROW
        self.asked_count += 1
        try:
            answer = await self._post(question)
            understood = understand(answer)
        except CallOutFailed as error:
            self._fail(str(error))
            raise
        except ValueError as error:
            self._fail(f"{self.url}: {error}")
            raise CallOutFailed(f"{self.url}: {error}") from None
        finally:
            if is_trial:
                self._is_trying = False
        if is_trial:
            _log.info("call_out_recovered", url=self.url)
        self._failures_in_a_row = 0
        return answer, understood

    async def _post(self, question: Document) -> Document:
        try:
            with trio.fail_after(self._timeout_s):
                async with self._connections.turn(), self._client.stream("POST", self.url, json=question) as response:
                    if response.status_code != 200:
                        raise CallOutFailed(f"{self.url}: answered {response.status_code}")
                    body = await read_body(response, ANSWER_SIZE_MAXIMUM)
        except TooLarge as error:
            raise CallOutFailed(f"{self.url}: {error}") from None
        except trio.TooSlowError:
            raise CallOutFailed(f"{self.url}: no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise CallOutFailed(f"{self.url}: {reason_of(error)}") from error
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise CallOutFailed(f"{self.url}: the answer is no JSON object")
        return answer

    def _fail(self, reason: str) -> None:
        self.failed_count += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_IN_A_ROW:
            self._open_until = trio.current_time() + self._breaker_s
        if self._failures_in_a_row <= FAILURES_IN_A_ROW:  # After that the log would say the same over and over.
            _log.warning("call_out_failed", reason=reason, in_a_row=self._failures_in_a_row)


@asynccontextmanager
async def open_call_out(
    url: str,
    *,
    authorization: str = "",
    ca_file: str = "",
    timeout_s: float,
    breaker_s: float,
    cache_s: float,
    cache_limit: int,
    connections_limit: int,
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
) -> AsyncIterator[CallOut]:
    """A service, whose connections are closed at the end of the block. Raises FetchError for a wrong ca_file.

    authorization is the header of that name; empty = none. Proxies of the environment are not used.
    """
    async with httpx.AsyncClient(
        verify=tls_context(ca_file),
        timeout=None,  # noqa: S113  # one deadline is around all of it
        limits=httpx.Limits(max_connections=connections_limit, max_keepalive_connections=connections_limit),
        headers={**NO_ENCODING, **({"Authorization": authorization} if authorization else {})},
        trust_env=False,
        transport=None if transport is None else transport(),
    ) as client:
        yield CallOut(
            client,
            url,
            timeout_s=timeout_s,
            breaker_s=breaker_s,
            cache_s=cache_s,
            cache_limit=cache_limit,
            connections_limit=connections_limit,
        )
