"""What is opened and what is not: playlists, names that look like protocols, URLs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import PIL.Image
import pytest
from av.stream import Disposition

from fcvideo.errors import VideoError
from fcvideo.video import remote
from fcvideo.video.container import DEMUXERS, demux, open_video, with_kind
from fcvideo.video.inputs import Source
from fcvideo.video.probe import fingerprint, probe
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from tests.conftest import frame_number

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {target}\n",
    "dash": '<?xml version="1.0"?>\n<MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "pls": "[playlist]\nFile1={target}\n",
    "bom": "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{target}\n",
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    return make_video(tmp_path_factory.mktemp("container") / "video.mp4", num_frames=40)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_refused_under_any_name(tmp_path: Path, video: Path, kind: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(PLAYLISTS[kind].format(target=video))
    for step in (probe, plan_segments):
        with pytest.raises(VideoError, match="names other files") as caught:
            step(Source(str(path), "list.mp4"))
        assert caught.value.status == "refused"


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_the_format_whitelist_alone_stops_a_playlist(tmp_path: Path, video: Path, kind: str) -> None:
    relative = tmp_path / "beside.mp4"
    relative.write_bytes(video.read_bytes())
    path = tmp_path / f"list.{'m3u8' if kind == 'hls' else 'ffconcat'}"
    path.write_text(PLAYLISTS[kind].format(target="beside.mp4"))
    options = {"allowed_extensions": "ALL", "extension_picky": "0"} if kind == "hls" else {}
    with av.open(str(path), container_options=options) as container:  # followed without the whitelist
        assert container.streams.video[0].width == 64
    with pytest.raises(av.error.ArgumentError):
        av.open(str(path), container_options={**options, "format_whitelist": DEMUXERS})


def test_a_pattern_of_pictures_is_not_followed(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"img{i}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(VideoError, match=r"img%d\.jpg"):
        probe(Source(str(tmp_path / "img%d.jpg"), "img%d.jpg"))


@pytest.mark.parametrize("name", ["http:video.mp4", "concat:a|b.mp4", "-i.mp4", "spät %d.mp4", "subfile,,:x"])
def test_a_local_name_is_never_a_protocol(
    tmp_path: Path, video: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert probe(Source(name, name)).codec == "h264"


def test_a_scheme_outside_the_list_is_refused() -> None:
    with pytest.raises(VideoError, match="expected http") as caught:
        probe(Source("rtsp://127.0.0.1/x", "x"))
    assert caught.value.status == "refused"


def test_a_file_that_went_away_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="FileNotFoundError") as caught:
        probe(Source(str(tmp_path / "gone.mp4"), "gone.mp4"))
    assert caught.value.status == "error"


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("aac", rate=8000), container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        for stream, frame in ((sound, silence()), (cover, av.VideoFrame(64, 48, "yuvj420p"))):
            frame.pts = 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    with pytest.raises(VideoError, match="found audio") as caught:
        probe(Source(str(path), path.name))
    assert caught.value.status == "no_video"


def silence() -> av.AudioFrame:
    frame = av.AudioFrame("fltp", "mono", 1024)
    frame.sample_rate = 8000
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers byte ranges, which the standard handler does not."""

    has_ranges = True

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        start, stop, status = 0, len(data), 200
        wanted = self.headers.get("Range", "")
        if self.has_ranges and wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop, status = int(first), min(int(last or len(data)) + 1, len(data)), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        if self.has_ranges:
            self.send_header("Accept-Ranges", "bytes")
        if self.has_ranges:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def log_message(self, *_: object) -> None:
        pass


class ShakyHandler(RangeHandler):
    """Every third answer is that of a server with too much to do."""

    num_requests = 0

    def do_GET(self) -> None:
        type(self).num_requests += 1
        if self.num_requests % 3 == 1:
            self.send_error(503)
            return
        super().do_GET()


class PlainHandler(RangeHandler):
    has_ranges = False

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()


@pytest.fixture(params=[RangeHandler, PlainHandler], ids=["ranges", "plain"])
def server(request: pytest.FixtureRequest, video: Path) -> Iterator[tuple[str, bool]]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(request.param, directory=str(video.parent)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", request.param.has_ranges
    httpd.shutdown()
    httpd.server_close()


def test_a_url_reads_like_the_file(server: tuple[str, bool], video: Path) -> None:
    pytest.importorskip("aiohttp")
    url, has_ranges = server
    remote, local = Source(f"{url}/video.mp4", "video"), Source(str(video), "video")
    if not has_ranges:
        with pytest.raises(VideoError, match="byte ranges"):
            probe(remote)
        return
    assert probe(remote) == probe(local)
    assert fingerprint(remote) == fingerprint(local)
    segments = plan_segments(remote, 0.5)
    assert len(segments) == 4
    frames = [frame for segment in segments for frame in read_frames(segment)]
    assert [frame_number(frame.image) for frame in frames if frame.image is not None] == list(range(40))
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(Source(f"{url}/gone.mp4", "gone"))


class RedirectHandler(RangeHandler):
    """/to/URL sends to the URL."""

    def do_GET(self) -> None:
        if not self.path.startswith("/to/"):
            super().do_GET()
            return
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()


def test_a_redirect_does_not_lead_into_another_network(video: Path) -> None:
    pytest.importorskip("aiohttp")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(RedirectHandler, directory=str(video.parent)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{httpd.server_port}"
        assert probe(Source(f"{url}/to/{url}/video.mp4", "v")) == probe(Source(str(video), "v"))
        networks = {"169.254.169.254": "a link-local", "10.1.2.3": "a private"}
        for target, network in networks.items():
            source = Source(f"{url}/to/http://{target}/v", "v")
            for step in (with_kind, probe):
                with pytest.raises(VideoError, match=f"which is {network}") as caught:
                    step(source)
                assert caught.value.status == "refused"
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for step in (probe, plan_segments, fingerprint, with_kind):
        with pytest.raises(VideoError, match="found a FIFO") as caught:
            step(Source(str(tmp_path / "a.mp4"), "a.mp4"))
        assert caught.value.status == "refused"


def test_a_picture_is_not_a_video(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (64, 48)).save(tmp_path / "still.mp4", "PNG")
    with pytest.raises(VideoError) as caught:
        probe(Source(str(tmp_path / "still.mp4"), "still.mp4"))
    assert caught.value.status == "not_media"


def test_an_image_file_is_a_video_of_one_frame(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "still.png")
    source = Source(str(tmp_path / "still.png"), "still.png")
    info = probe(source)
    assert (info.container, info.codec, info.width, info.height) == ("image", "png", 64, 48)
    (segment,) = plan_segments(source, start_seconds=5.0)
    (frame,) = read_frames(segment)
    assert (frame.frame_index, frame.pts_seconds) == (0, 0.0)
    assert np.array_equal(frame.image, picture)


def test_only_the_video_stream_is_demuxed(media: Path) -> None:
    with open_video(Source(str(media / "lp_d12.mp4"), "x")) as (container, stream):
        assert {packet.stream_index for packet in container.demux(stream)} == {stream.index}


def test_a_stream_that_appears_late_ends_nothing(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    class LateStream:
        """PyAV's demuxer, which knows the streams that the file began with, at the end of a file with one more."""

        def demux(self, *streams: Any) -> Iterator[Any]:
            yield from container.demux(*streams)
            raise IndexError("list index out of range")

    source = Source(str(make_video(tmp_path / "a.mp4", num_frames=5)), "a.mp4")
    with open_video(source) as (container, stream):
        late: Any = LateStream()
        assert len(list(demux(source, late, stream))) == 6


def test_a_server_that_fails_for_a_moment_is_asked_again(
    tmp_path: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(remote, "_BLOCK_BYTES", 1 << 14)
    make_video(tmp_path / "v.mp4", num_frames=60, size=(320, 240), options={"x264-params": "qp=4"})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(ShakyHandler, directory=str(tmp_path)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{httpd.server_port}"
        source = Source(f"{base}/v.mp4", "v.mp4")
        frames = [frame for segment in plan_segments(source) for frame in read_frames(segment)]
        assert [frame_number(frame.image) for frame in frames if frame.image is not None] == list(range(60))
        assert ShakyHandler.num_requests >= 4
        before = ShakyHandler.num_requests
        with pytest.raises(VideoError, match="cannot be opened"):
            probe(Source(f"{base}/gone.mp4", "gone.mp4"))
        assert ShakyHandler.num_requests - before <= 4  # what is not there is asked for no further
    finally:
        httpd.shutdown()
        httpd.server_close()
