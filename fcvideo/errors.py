"""Every error that fcvideo raises on purpose; its text is one line for the person at the terminal.

FcvideoError                 exit 1
├── UsageError               exit 2: the command cannot start as it was given
│   ├── SettingsError        a flag or a key of the TOML file
│   ├── InputError           a path that is not there, or nothing to do
│   ├── OutputError          a place that cannot be written, or holds another run's result
│   ├── ModelError           a model folder or weight file that cannot be used
│   └── ResourceError        GPUs or a Ray cluster that are not there
├── VideoError               one video's fault: recorded in its row, never ends a run
└── TrainingError            a run that cannot go on (a loss that is not finite, a damaged checkpoint)
"""

from __future__ import annotations

from fcvideo.text import public_text


class FcvideoError(Exception):
    """Root of the tree. `exit_code` is what the command ends with."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(public_text(message))


class UsageError(FcvideoError):
    exit_code = 2


class SettingsError(UsageError):
    pass


class InputError(UsageError):
    pass


class OutputError(UsageError):
    pass


class ModelError(UsageError):
    pass


class ResourceError(UsageError):
    pass


class VideoError(FcvideoError):
    """`status` is what the videos table records instead of `ok` and `damaged` (some frames could not be decoded):

    not_media    no container that FFmpeg's whitelisted demuxers know
    no_video     a container without a video stream
    no_frames    a video stream that gives no picture
    refused      a playlist or another format that names other files; an encrypted file
    crashed      killed its worker twice
    no_face      nobody is in it whose motion or face could be shown
    error        anything else; the message says what
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (self.status, str(self))


class TrainingError(FcvideoError):
    pass


def describe_error(error: BaseException) -> str:
    """One line: the kind and its text."""
    return public_text(" ".join(f"{type(error).__name__}: {error}".split()))
