"""An HTTP client for servers that are not trusted: bounded replies, and nothing goes elsewhere."""

import zlib
from typing import Any

import httpx2
from openai import DefaultAsyncHttpxClient

LONGEST_REPLY = 4_000_000
"""Bytes of a reply after unpacking: more than the longest reasoning has."""

MOST_REDIRECTS = 5


class RefusedReplyError(Exception):
    """A reply is too long, or packed in a way that has no bounds."""


class RefusedRedirectError(Exception):
    """A server sends its requests to another one."""


class BoundedClient(DefaultAsyncHttpxClient):
    """Reads replies, those with errors too, up to LONGEST_REPLY and takes them for UTF-8."""

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """Send a request; follow redirects within the server that it is for.

        Raises:
            RefusedReplyError, RefusedRedirectError: as they say.
            httpx2.HTTPError: there is no whole reply.
        """
        # The default names all that is installed, and what is packed by zstd has no bounds.
        request.headers["Accept-Encoding"] = "gzip"
        for _redirect in range(MOST_REDIRECTS):
            # Not read by the library, which unpacks all of it, nor followed by it, which would
            # bring the pictures wherever a server says.
            response = await super().send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None:
                    return await _read(response)
            finally:
                await response.aclose()
            if _origin(response.next_request.url) != _origin(request.url):
                raise RefusedRedirectError(f"it sends to {response.next_request.url}")
            request = response.next_request
        raise RefusedRedirectError(f"it sends on and on, at last to {request.url}")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _read(response: httpx2.Response) -> httpx2.Response:
    """The same reply, complete and unpacked, with those headers alone that are read here."""
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "gzip", "deflate"):
        raise RefusedReplyError(f"is packed as {packed}, which was not asked for")
    unpacker = None if packed == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    content = bytearray()
    async for chunk in response.aiter_raw():
        if unpacker is not None:
            try:
                chunk = unpacker.decompress(chunk, LONGEST_REPLY + 1 - len(content))
            except zlib.error as problem:
                raise RefusedReplyError(f"cannot be unpacked ({problem})") from None
        content += chunk
        if len(content) > LONGEST_REPLY:
            raise RefusedReplyError(f"is longer than {LONGEST_REPLY / 1e6:g} MB")
    headers = {"Content-Type": "application/json"}
    if "retry-after" in response.headers:
        headers["Retry-After"] = response.headers["retry-after"]
    return httpx2.Response(
        response.status_code, headers=headers, content=bytes(content), request=response.request
    )
