"""The file systems behind URLs, and where a server may send us: never into a network that the user did not name."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec

from fcvideo.errors import VideoError

if TYPE_CHECKING:
    import aiohttp


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
