"""The command: parses, then hands over. Imports nothing heavy before a job starts."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fcvideo import __version__
from fcvideo.config import (
    DeidentifySettings,
    EmbedSettings,
    EvaluateSettings,
    FacesSettings,
    FrontalizeSettings,
    JobSettings,
    PrepareSettings,
    ReenactSettings,
    TrainSettings,
)
from fcvideo.errors import FcvideoError
from fcvideo.settings import check_out, resolve

app = typer.Typer(
    help="Learn expression and identity codes of faces, and apply them to large video collections.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Job = Callable[[Any], dict[str, Any]]


def job(name: str, kind: type[JobSettings], *, doc: str, resumes: bool = True) -> Callable[[Job], Job]:
    """Registers `run(settings) -> summary` as a command with a flag for every field of `kind`."""

    def register(run: Job) -> Job:
        def command(config: Path | None, **flags: Any) -> None:
            try:
                summary = run(resolve(kind, flags, config))
            except KeyboardInterrupt:  # typer would exit without a word
                onward = "; the same command goes on where this run stopped" if resumes else ""
                print(f"fcvideo: interrupted{onward}", file=sys.stderr)
                raise typer.Exit(130) from None
            _answer(json.dumps(summary))
            raise typer.Exit(summary.get("exit_code", 0))

        command.__signature__ = _signature(kind)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in _signature(kind).parameters.values()}
        command.__doc__ = doc
        app.command(name)(command)
        return run

    return register


def _signature(kind: type[JobSettings]) -> inspect.Signature:
    hints = typing.get_type_hints(kind)
    parameters = []
    for declaring in (k for k in kind.__mro__ if issubclass(k, JobSettings)):  # the job's own settings first
        own = [spec for spec in dataclasses.fields(kind) if _declaring(kind, spec.name) is declaring]
        parameters += [_parameter(spec, hints[spec.name], declaring.help_panel) for spec in own]
    config = Annotated[
        Path | None,
        typer.Option(help="A TOML file with any of these settings.", rich_help_panel=JobSettings.help_panel),
    ]
    parameters.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=config))
    return inspect.Signature(parameters)


def _declaring(kind: type[JobSettings], name: str) -> type:
    """The class that declares a setting first as this job has it."""
    return next(k for k in kind.__mro__ if name in inspect.get_annotations(k))


def _parameter(spec: dataclasses.Field[Any], hint: Any, panel: str | None) -> inspect.Parameter:
    """The default stays None here, so that a flag not given can yield to the TOML file."""
    help_text = spec.metadata["help"]
    if spec.default not in (None, ()) and not isinstance(spec.default, bool):
        shown = f"{spec.default:g}" if isinstance(spec.default, float) else spec.default
        help_text = f"{help_text.removesuffix('.')}; {shown} by default."
    if not spec.metadata["is_flag"]:
        annotation: Any = Annotated[list[str] | None, typer.Argument(help=help_text, metavar="INPUT...")]
    elif typing.get_origin(hint) is tuple:
        annotation = Annotated[list[str] | None, typer.Option(help=help_text, rich_help_panel=panel)]
    else:
        optional = hint if type(None) in typing.get_args(hint) else hint | None
        annotation = Annotated[optional, typer.Option(help=help_text, show_default=False, rich_help_panel=panel)]
    return inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        _answer(f"fcvideo {__version__}")
        raise typer.Exit()


@job("embed", EmbedSettings, doc="Write the expression and identity codes of every face in every frame to Parquet.")
def _embed(settings: EmbedSettings) -> dict[str, Any]:
    from fcvideo.jobs.embed import embed

    return embed(settings)


@job("prepare", PrepareSettings, doc="Cut the faces of videos into clips to train on.")
def _prepare(settings: PrepareSettings) -> dict[str, Any]:
    from fcvideo.jobs.prepare import prepare

    return prepare(settings)


@job("train", TrainSettings, doc="Train FaceCycle on face clips, on every GPU of this machine or cluster.")
def _train(settings: TrainSettings) -> dict[str, Any]:
    from fcvideo.jobs.train import train

    return train(settings)


@job("reenact", ReenactSettings, doc="Put the motion of one face on another: --source a.mp4 --target b.jpg.")
def _reenact(settings: ReenactSettings) -> dict[str, Any]:
    from fcvideo.jobs.reenact import reenact

    return reenact(settings)


@job(
    "frontalize",
    FrontalizeSettings,
    doc="Turn the face of every input to the front, and make it neutral.",
)
def _frontalize(settings: FrontalizeSettings) -> dict[str, Any]:
    from fcvideo.jobs.frontalize import frontalize

    return frontalize(settings)


@job("deidentify", DeidentifySettings, doc="Replace the identity of every face, and keep its motion.")
def _deidentify(settings: DeidentifySettings) -> dict[str, Any]:
    from fcvideo.jobs.deidentify import deidentify

    return deidentify(settings)


@job("faces", FacesSettings, doc="Show every face of a picture or frame with its number.", resumes=False)
def _faces(settings: FacesSettings) -> dict[str, Any]:
    from fcvideo.jobs.faces import faces

    return faces(settings)


@job("evaluate", EvaluateSettings, doc="Measure how good the codes are, beside hand-made features.", resumes=False)
def _evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    from fcvideo.jobs.evaluate import evaluate

    return evaluate(settings)


@app.command("import-checkpoint")
def _import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="The FaceCycle authors' .tar file.")],
    out: Annotated[str, typer.Option(help="Model folder to write.")],
) -> None:
    """Turn the FaceCycle authors' released checkpoint into a model folder."""
    check_out(out)
    from fcvideo.models.authors import import_authors_checkpoint
    from fcvideo.models.store import save_model

    save_model(import_authors_checkpoint(checkpoint), Path(out), half=False)
    _answer(json.dumps({"out": out, "exit_code": 0}))


def _answer(text: str) -> None:
    """A line on stdout. Errors: FcvideoError where it takes none."""
    try:
        print(text, flush=True)
    except OSError as error:
        _forget_stdout()
        raise FcvideoError(
            f"stdout: cannot be written ({error.strerror}); the work is done, its summary was: {text}"
        ) from None


def _forget_stdout() -> None:
    """What is still buffered would be tried again at exit, and end in a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 usage, 3 done but some inputs failed, 130 interrupted."""
    try:
        app()
    except FcvideoError as error:
        print(f"fcvideo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # of --help, which typer prints
        if error.errno != errno.ENOSPC:
            raise
        _forget_stdout()
        print(f"fcvideo: {error.strerror}", file=sys.stderr)
        sys.exit(1)
