from __future__ import annotations

import pickle

import pytest

from fcvideo.errors import InputError, VideoError, describe_error
from fcvideo.text import public_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/v.mp4", "https://host/v.mp4"),
        ("https://host/v.mp4?X-Amz-Algorithm=A&X-Amz-Signature=5e", "https://host/v.mp4"),
        ("https://host/v.mp4?id=5&X-Goog-Signature=5e&part=2", "https://host/v.mp4?id=5&part=2"),
        ("https://host/v.mp4?AWSAccessKeyId=AKIA&Signature=a%2Bb&Expires=17", "https://host/v.mp4"),
        ("https://host/v.mp4?Expires=1&Policy=eyJ_&Signature=A~B-&Key-Pair-Id=K", "https://host/v.mp4"),
        ("https://acct.blob.net/c/v.mp4?sv=2024&se=2026&sr=b&sp=r&sig=x%2By", "https://acct.blob.net/c/v.mp4"),
        ("https://host/v.mp4?access_token=a#token=b", "https://host/v.mp4"),
        ("https://host/v.mp4?sp=3&se=4", "https://host/v.mp4?sp=3&se=4"),
        ("s3://bucket/v.mp4?versionId=3", "s3://bucket/v.mp4?versionId=3"),
        ("abfs://container@acct.net/v.mp4", "abfs://container@acct.net/v.mp4"),
        ("404, url='https://host/v.mp4?sig=1': gone?", "404, url='https://host/v.mp4': gone?"),
        ("retries exceeded with url: /v.mp4?Signature=1 (Caused", "retries exceeded with url: /v.mp4 (Caused"),
        ("what? a=b, c & d=e", "what? a=b, c & d=e"),
        ("sp\udce4t.mp4", "sp\\udce4t.mp4"),
    ],
)
def test_secrets_and_bytes_that_are_no_text_are_left_out(text: str, shown: str) -> None:
    assert public_text(text) == shown


def test_no_error_of_ours_tells_a_secret() -> None:
    url = "https://user:pass@host/v.mp4?id=1&token=abc"
    for error in (InputError(f"{url}: found"), VideoError("error", f"{url}: found")):
        assert str(error) == str(pickle.loads(pickle.dumps(error))) == "https://host/v.mp4?id=1: found"
    assert describe_error(OSError(f"no {url}")) == "OSError: no https://host/v.mp4?id=1"
