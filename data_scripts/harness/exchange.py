"""One question and its answer's head: at the archive's rate, over its redirects, with the secrets that may be sent."""

import asyncio
import json
from urllib.parse import urljoin

import httpx

from data_scripts.harness.addresses import Addresses, origin_of, with_params
from data_scripts.harness.archive import Login, Request
from data_scripts.harness.credentials import Credentials
from data_scripts.harness.error_message import message_of
from data_scripts.harness.rate_limit import RateLimit
from data_scripts.harness.retry import is_retried


__all__ = ["AgainError", "Exchange", "FinalError", "extend"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5


class AgainError(Exception):
    """An attempt that failed in a way that another may not; `waits` if the rate limit already makes it wait."""

    def __init__(self, reason: str, *, waits: bool = False) -> None:
        super().__init__(reason)
        self.waits = waits


class FinalError(Exception):
    """An attempt that failed in a way that others will too; `status` is that of the answer, if it is the reason."""

    def __init__(self, reason: str, *, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def extend(deadline: asyncio.Timeout, seconds: float) -> None:
    """Let a deadline be so many seconds from now."""
    deadline.reschedule(asyncio.get_running_loop().time() + seconds)


class Exchange:
    """Sends requests of one archive.

    Args:
        client: What sends them.
        addresses: Those of the archive.
        credentials: Those that can be used.
        rate: Rate that is kept to.
        timeout_seconds: Longest wait for the head of an answer.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        addresses: Addresses,
        credentials: Credentials,
        rate: RateLimit,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._addresses = addresses
        self._credentials = credentials
        self._rate = rate
        self._timeout_seconds = timeout_seconds
        self._logging_in = asyncio.Lock()
        self._token_was_taken = False

    async def send(
        self, request: Request, url: str, headers: dict[str, str], deadline: asyncio.Timeout
    ) -> httpx.Response:
        """Send a request and follow redirects within the archive's hosts.

        Args:
            request: The question.
            url: Its address with its parameters.
            headers: More headers.
            deadline: Set when a request is sent; the time that the rate limit takes does not count.

        Returns:
            The answer before its body.

        Raises:
            AgainError: If there was none, and may be one later.
            FinalError: If the archive redirects elsewhere, or refuses a log-in.
        """
        method, current = request.method, url
        for _ in range(_MOST_REDIRECTS + 1):
            # A secret goes to the origin that was asked, encrypted, and to no other.
            is_trusted = origin_of(current) == origin_of(url) and url.startswith("https://")
            if is_trusted:
                await self._log_in(deadline)
            # What a redirect names says all that its target needs to know.
            secret_params = self._credentials.params if is_trusted and current == url else {}
            address, sent = self._addresses.mirrored(with_params(current, secret_params.items()))
            sent |= headers
            if is_trusted:
                sent |= self._credentials.headers
            if method == "POST" and request.content_type is not None:
                sent["Content-Type"] = request.content_type
            built = self._client.build_request(
                method, address, headers=sent, content=request.body if method == "POST" else None
            )
            response = await self._sent(built, deadline)
            if response.status_code not in _REDIRECTS:
                return await self._judged(response, is_trusted)
            location = response.headers.get("location")
            await response.aclose()
            if location is None:
                raise AgainError(f"status {response.status_code} without a location")
            try:
                current = urljoin(current, location)
                self._addresses.check(current)
            except ValueError as error:
                raise FinalError(f"the archive redirects elsewhere: {error}") from None
            if response.status_code == 303 or (response.status_code in {301, 302} and method == "POST"):
                method = "GET"
        raise AgainError(f"more than {_MOST_REDIRECTS} redirects")

    async def _sent(self, built: httpx.Request, deadline: asyncio.Timeout) -> httpx.Response:
        deadline.reschedule(None)
        await self._rate.acquire()
        extend(deadline, self._timeout_seconds)
        return await self._client.send(built, stream=True)

    async def _judged(self, response: httpx.Response, is_trusted: bool) -> httpx.Response:
        """Pass an answer on, unless it refuses a token that was taken before: tokens end."""
        if is_trusted and response.status_code == 401 and self._token_was_taken:
            self._token_was_taken = False
            self._credentials.token = None
            message = await message_of(response)
            await response.aclose()
            raise AgainError(f"status 401: {message}".rstrip(": "))
        if is_trusted and response.is_success:
            self._token_was_taken = self._credentials.token is not None
        return response

    async def _log_in(self, deadline: asyncio.Timeout) -> None:
        """Ask for a token, once, if a credential is one for which that has to be done."""
        deadline.reschedule(None)
        async with self._logging_in:
            if self._credentials.login is None or self._credentials.token is not None:
                return
            login, params = self._credentials.login
            address, headers = self._addresses.mirrored(with_params(login.url, params.items()))
            built = self._client.build_request("GET", address, headers=headers)
            response = await self._sent(built, deadline)
            try:
                status = response.status_code
                if status != 200:
                    reason = f"status {status}: the log-in at {login.url} says {await message_of(response)!r}"
                    raise AgainError(reason) if is_retried(status) else FinalError(reason, status=status)
                self._credentials.token = _token(login, await response.aread())
            finally:
                await response.aclose()


def _token(login: Login, body: bytes) -> str:
    try:
        token = json.loads(body)[login.token]
    except (ValueError, TypeError, KeyError):
        token = None
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        raise FinalError(f"the log-in at {login.url} gave no {login.token}")
    return token
