"""Files behind URLs: asked for again where a server or the network fails for a moment.

And where a server may send us: never into a network that the user did not name.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

import fsspec

from fcvideo.errors import VideoError

if TYPE_CHECKING:
    import aiohttp


ATTEMPTS, PAUSE_SECONDS = 4, 0.5  # the pause doubles after every failure
_BLOCK_BYTES = 1 << 20
_FINAL = (FileNotFoundError, PermissionError, VideoError, ValueError, ImportError)
_MOMENTARY_STATUS = (408, 425, 429, 500, 502, 503, 504)


def open_patiently(scheme: str, url: str) -> IO[bytes]:
    """A seekable binary file. Errors: those of its file system, once they have come ATTEMPTS times or will not go."""
    # filesystem(), not fsspec.open(): that would follow chained URLs (a::b)
    return cast(IO[bytes], _PatientFile(lambda: file_system(scheme).open(url, "rb", block_size=_BLOCK_BYTES)))


class _PatientFile(io.RawIOBase):
    """Opens itself anew and goes on at the same place where reading fails."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._file: Any = None
        self._position = 0
        self._try(lambda file: None)

    def _try(self, call: Callable[[Any], Any]) -> Any:
        attempt = 1
        while True:
            try:
                if self._file is None:
                    self._file = self._start()
                    self._file.seek(self._position)
                return call(self._file)
            except Exception as error:  # each file system raises its own kinds
                if attempt == ATTEMPTS or _is_final(error):
                    raise
                self._drop()
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
                attempt += 1

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):
                file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._try(lambda file: file.read(size))
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = self._try(lambda file: file.seek(offset, whence))
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._drop()
        super().close()


def _is_final(error: Exception) -> bool:
    """Whether asking again would give the same answer."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status not in _MOMENTARY_STATUS
    return isinstance(error, _FINAL) or refusal_in(error) is not None


def file_system(scheme: str) -> fsspec.AbstractFileSystem:
    """Of http and https with redirects checked."""
    return fsspec.filesystem(scheme, **({"get_client": _client} if scheme in ("http", "https") else {}))


def refusal_in(error: BaseException | None) -> VideoError | None:
    """The refused redirect that a file system's own error stands for."""
    while error is not None and not isinstance(error, VideoError):
        error = error.__cause__ or error.__context__
    return error


async def _client(**options: Any) -> aiohttp.ClientSession:
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_check_redirect)
    return aiohttp.ClientSession(trace_configs=[trace], **options)


async def _check_redirect(session: Any, context: Any, asked: aiohttp.TraceRequestRedirectParams) -> None:
    """From anywhere to the public internet, and within this machine or a private network. Errors: VideoError."""
    location = asked.response.headers.get("Location") or asked.response.headers.get("URI") or ""
    target = asked.url.join(type(asked.url)(location))
    others = await _networks(target.host) - await _networks(asked.url.host) - {"the public internet"}
    if others:
        message = f"{asked.url}: sends us to {target.host}, which is {min(others)}; expected the network of the URL"
        raise VideoError("refused", message)


async def _networks(host: str | None) -> set[str]:
    """Where a host's addresses are; nothing for a name that nobody knows."""
    with suppress(ValueError):
        return {_network(ipaddress.ip_address(host or ""))}
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {_network(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in found}


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_unspecified:
        return "this machine"
    if address.is_link_local:
        return "a link-local network"
    return "the public internet" if address.is_global else "a private network"
