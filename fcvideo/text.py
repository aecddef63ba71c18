"""Text that may be shown and stored: without the secrets of URLs, and valid UTF-8."""

from __future__ import annotations

import re

# Names of a URL's parameters that grant access, or that belong to a signature and change with every signing.
_SECRET = re.compile(
    r"x-(amz|goog|ms|oss|cos)-.*|.*(sig|signature|token|secret|passw(or)?d|pwd|credentials?|auth|authorization|"
    r"api[-_]?key|access[-_]?key(id)?|accessid|key-pair-id|policy|session|jwt|hmac)|key|expires",
    re.IGNORECASE,
)
_AZURE = re.compile(r"s[vetrpid]|spr|srt|sdd|sip|sk(oid|tid|t|e|s|v)", re.IGNORECASE)  # beside sig=
_QUERY = re.compile(r"([?#])([^\s'\"<>()?#]*=[^\s'\"<>()?#]*?)(?=[:,.;]?(?:[\s'\"<>()?#]|$))")
_USER = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://[^/\s@'\"?#]*@")
_CONTAINER_SCHEMES = ("abfs", "abfss", "wasb", "wasbs")  # what stands before their @ is no user


def public_text(text: str) -> str:
    """The text without users, passwords, tokens and signatures of the URLs in it; bytes that are not UTF-8 as escapes.

    A file's name may have such bytes, and Parquet takes none.
    """
    text = _QUERY.sub(_without_secrets, _USER.sub(_without_user, text))
    return text.encode("utf-8", "backslashreplace").decode()


def _without_user(found: re.Match[str]) -> str:
    return found[0] if found[1].lower() in _CONTAINER_SCHEMES else f"{found[1]}://"


def _without_secrets(found: re.Match[str]) -> str:
    mark, query = found.groups()
    names = [parameter.partition("=")[0] for parameter in re.split("[&;]", query)]
    is_azure = "sig" in (name.lower() for name in names)
    kept = [
        parameter
        for name, parameter in zip(names, re.split("[&;]", query), strict=True)
        if not (_SECRET.fullmatch(name) or (is_azure and _AZURE.fullmatch(name)))
    ]
    return mark + "&".join(kept) if kept else ""
