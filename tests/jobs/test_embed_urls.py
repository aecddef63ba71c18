"""Videos behind URLs: nothing of what opens them is written or said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from fcvideo.config import EmbedSettings
from fcvideo.jobs.embed import embed
from tests.jobs.embedding import videos_of
from tests.jobs.readers import KilledReader
from tests.video.test_container import RangeHandler

NAMES = ("a.mp4", "bad.mp4", "gone.mp4", "poison.mp4")
SECRETS = ("hunter2", "c0ffee", "t0ken")


class SignedHandler(RangeHandler):
    """Files, for requests that are signed."""

    def translate_path(self, path: str) -> str:
        assert all(secret in path for secret in SECRETS[1:])
        return super().translate_path(path)


@pytest.fixture
def server(tmp_path: Path, make_video: Callable[..., Path]) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    folder = tmp_path / "served"
    folder.mkdir()
    make_video(folder / "a.mp4", num_frames=10)
    (folder / "poison.mp4").write_bytes((folder / "a.mp4").read_bytes() + b"x")
    (folder / "bad.mp4").write_bytes(b"no video at all" * 100)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(SignedHandler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://user:{SECRETS[0]}@127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_secrets_of_urls_are_in_no_file_and_no_message(
    tmp_path: Path, model: Path, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    query = f"?id=7&X-Amz-Signature={SECRETS[1]}&token={SECRETS[2]}"
    urls = [f"{server}/{name}{query}" for name in NAMES]
    folder = tmp_path / "out"
    folder.mkdir()
    settings = EmbedSettings(
        inputs=tuple(urls), out=str(folder / "e.parquet"), model=str(model), gpus=0, progress="plain", workers=1
    )
    summary = embed(settings, KilledReader)
    assert (summary["videos"], summary["frames"], summary["failed"]) == (4, 10, 3)
    rows = videos_of(folder / "e.parquet")
    assert {name.partition("?")[0]: row["status"] for name, row in rows.items()} == {
        **{"a.mp4": "ok", "bad.mp4": "not_media", "gone.mp4": "error", "poison.mp4": "crashed"}
    }
    shown = server.replace(f"user:{SECRETS[0]}@", "")
    assert sorted(row["video"] for row in rows.values()) == [f"{shown}/{name}?id=7" for name in NAMES]
    said = "".join(capfd.readouterr())
    assert f"{shown}/gone.mp4?id=7: error" in said
    for secret in SECRETS:
        assert secret not in said
        for path in folder.rglob("*"):
            assert secret not in str(path)
            assert secret.encode() not in path.read_bytes()


def test_a_url_signed_anew_is_the_same_video(tmp_path: Path, model: Path, server: str) -> None:
    times = []
    for number in (1, 2):
        url = f"{server}/a.mp4?X-Amz-Signature={SECRETS[1]}{number}&token={SECRETS[2]}"
        settings = EmbedSettings(
            inputs=(url,), out=str(tmp_path / "e.parquet"), model=str(model), gpus=0, progress="none", workers=1
        )
        embed(settings)
        times.append((tmp_path / "e.parquet").stat().st_mtime_ns)
    assert times[0] == times[1]
