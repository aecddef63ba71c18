"""The settings of each job, declared once: flag, then TOML file, then the default written here.

`fcvideo.cli` builds its flags from these fields; the text of `setting` is the flag's help. `fcvideo.settings` checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Progress = Literal["auto", "plain", "jsonl", "none"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Recipe = Literal["default", "paper", "released"]
Neutral = Literal["de-expression", "re-identity"]
Compose = Literal["crop", "panel", "paste"]
Mask = Literal["face", "blur", "box"]
Codec = Literal["h264", "hevc", "av1"]
EvaluationTask = Literal["expression", "pose", "verification", "identity-kept", "reconstruction", "leakage"]

DEFAULT_MODEL = "facecycle-64-small"


def setting(
    default: Any, help: str, *, minimum: float | None = None, maximum: float | None = None, is_flag: bool = True
) -> Any:
    """A dataclass field that is also a flag, or what the command's bare arguments give; both bounds are inclusive."""
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum, "is_flag": is_flag})


@dataclass(frozen=True)
class JobSettings:
    """What every job takes."""

    help_panel: ClassVar[str | None] = "This run"  # where --help lists the settings that a class declares

    limit: int | None = setting(None, "Take the first N inputs only.", minimum=1)
    progress: Progress = setting("auto", "A bar, plain lines, JSON lines or nothing, on stderr.")


@dataclass(frozen=True)
class RunSettings(JobSettings):
    """What every job takes that Ray may run."""

    address: str | None = setting(None, "Join the Ray cluster at this address ('auto' for the local one).")
    overwrite: bool = setting(False, "Start anew where an earlier run's result stands.")
    dry_run: bool = setting(False, "Say what would be done, and stop.")


@dataclass(frozen=True)
class SamplingSettings(RunSettings):
    """Which frames of a video are looked at."""

    help_panel: ClassVar[str | None] = "Frames and faces"

    fps: float | None = setting(None, "Frames per second to take, by time stamp; every frame by default.", minimum=1e-3)
    start: float | None = setting(None, "Begin at this presentation time, in seconds.")
    duration: float | None = setting(None, "Look at this many seconds from the start.", minimum=0)
    min_face: int = setting(40, "Smallest face to look for, in pixels of the upright picture.", minimum=8)
    score: float = setting(0.7, "Detection score below which a face is dropped, 0 to 1.", minimum=0, maximum=1)
    workers: int | None = setting(
        None, "Reading and detecting workers; by default what the CPU cores allow.", minimum=1
    )
    retry: Literal["errors", "failed"] = setting(
        "errors",
        "What is tried again of an earlier run: videos with the status error (network, disk, memory), or all that "
        "failed (no_frames, crashed ..).",
    )


@dataclass(frozen=True)
class EmbedSettings(SamplingSettings):
    help_panel: ClassVar[str | None] = None

    inputs: tuple[str, ...] = setting(
        (), "Videos, folders, globs, URLs, or a list file (.txt, one input a line).", is_flag=False
    )
    out: str = setting("embeddings.parquet", "The table to write; a name ending in / leaves a folder of parts.")
    model: str = setting(DEFAULT_MODEL, "A shipped model's name, a model folder, or a hub name.")
    gpus: int | None = setting(None, "GPUs to use; all there are by default, 0 for the CPU.", minimum=0)
    batch_size: int | None = setting(
        None, "Faces per forward pass; by default what suits the device, 64 on a GPU.", minimum=1
    )
    precision: Precision = setting("auto", "Number format of the networks; auto is float32 on CPU, float16 on GPU.")
    cycle_error: bool = setting(True, "Also rebuild every face to measure how far its codes can be trusted.")
    engine: Literal["auto", "local", "ray"] = setting(
        "auto", "This process, or Ray's actor pools; auto chooses by the plan's size."
    )


@dataclass(frozen=True)
class PrepareSettings(SamplingSettings):
    help_panel: ClassVar[str | None] = None

    inputs: tuple[str, ...] = setting(
        (),
        "Videos, folders, globs, URLs, a list file (.txt, one input a line), or tables of ready crops (.parquet).",
        is_flag=False,
    )
    out: str = setting("faces/", "Folder for the Parquet shards of face clips.")
    fps: float | None = setting(6.0, "Frames per second to sample, by time stamp (the paper's 6).", minimum=1e-3)
    min_face: int = setting(48, "Smallest face to keep, in pixels of the upright picture.", minimum=8)
    min_frames: int = setting(5, "Shortest clip to keep, in sampled frames.", minimum=2)
    crop_side: int = setting(
        96, "Side of the stored crops in pixels; more than the model's, so that training can jitter.", minimum=16
    )
    side_factor: float = setting(1.45, "Side of the square crop, in heights of the detector's box.", minimum=0.5)


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    help_panel: ClassVar[str | None] = None

    data: str = setting(
        "faces/", "Face clips (prepare), a table of ready crops, or a folder of videos to prepare first."
    )
    stills: str | None = setting(
        None, "Single faces (tables of ready crops, commas between), taken with their mirror images beside the clips."
    )
    stills_share: float | None = setting(
        None, "Share of each batch that --stills take; the recipe's by default.", minimum=0, maximum=0.95
    )
    out: str = setting("runs/facecycle", "Folder for checkpoints, curves, pictures and the model.")
    model: str | None = setting(
        None, "Preset: facecycle-64, or facecycle-64-small, which is the default; or moco, evaluate's baseline."
    )
    side_factor: float | None = setting(
        None, "Side of the square that the model sees, in heights of the detector's box; 1.45 by default.", minimum=0.5
    )
    gpus: int | None = setting(None, "GPUs to use; all there are by default, 0 for the CPU.", minimum=0)
    recipe: Recipe = setting("default", "Losses and schedule: the paper's, the released code's, or ours.")
    workers: int | None = setting(None, "Training processes on the CPU (with --gpus 0).", minimum=1)
    init: str | None = setting(None, "Start from this model folder instead of random weights.")
    renew_expression: bool = setting(
        False,
        "With --init: its expression encoder begins anew, reads the face detector's features too, and learns to "
        "make the flows that it made.",
    )
    vgg: str | None = setting(None, "VGG-19 weights from this file instead of torchvision's download.")
    batch_size: int | None = setting(None, "Images per step over all workers; the recipe's by default.", minimum=2)
    epochs_stage1: float | None = setting(None, "Epochs of stage 1 (expression); the recipe's by default.", minimum=0)
    epochs_stage2: float | None = setting(None, "Epochs of stage 2 (identity); the recipe's by default.", minimum=0)
    lesson_steps: int | None = setting(
        None,
        "Steps of the lesson before stage 1, 0 for none; by default the recipe's where the expression encoder is new.",
        minimum=0,
    )
    lr_stage1: float | None = setting(None, "Peak learning rate of stage 1; the recipe's by default.", minimum=0)
    lr_stage2: float | None = setting(None, "Peak learning rate of stage 2; the recipe's by default.", minimum=0)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Number format of the networks; auto is bfloat16 where the device computes in it."
    )
    loaders: int = setting(0, "Image-loading processes per worker; 0 loads in the worker itself.", minimum=0)
    checkpoint_seconds: float = setting(180.0, "Longest time between two checkpoints.", minimum=0)
    picture_steps: int = setting(500, "Steps between two picture sheets; 0 for none.", minimum=0)
    losses: str | None = setting(None, "Switch or weight single losses: 'symmetry=0,ssim=2'.")
    seed: int = setting(0, "Seed of weights, pairs and augmentation.")
    max_failures: int = setting(3, "Times that Ray Train restarts the workers after a failure.", minimum=0)


@dataclass(frozen=True)
class EvaluateSettings(JobSettings):
    """`task` has no default: None stands for a flag not given."""

    help_panel: ClassVar[str | None] = None

    task: EvaluationTask | None = setting(None, "What to measure; README.md says what each task needs.")
    train: str | None = setting(None, "Training split: a table (.parquet, .csv), a folder, or a data set's own labels.")
    test: str | None = setting(None, "Test split, likewise; not needed where --train holds both.")
    images: str | None = setting(None, "Pictures of known people: a table, or a folder (LFW's, one per person ..).")
    pairs: str | None = setting(
        None, "Pairs of --images: a table of a, b, same, or LFW's pairs.txt; drawn by person by default."
    )
    embeddings: str | None = setting(None, "A table that embed wrote, instead of pictures; with --labels.")
    labels: str | None = setting(
        None, "Its labels: video (and frame_index or pts_seconds, track_id), label or angles or person, split."
    )
    model: str = setting(DEFAULT_MODEL, "A shipped model's name, a model folder, or a hub name.")
    features: str | None = setting(
        None,
        "Comma-separated: expression, identity, map, identity-map, hog, lbp, pixels, imagenet, moco, moco-map.",
    )
    moco: str | None = setting(None, "Folder of a MoCo encoder, for the features moco and moco-map.")
    imagenet_weights: str | None = setting(None, "ResNet-18 weights from this file instead of torchvision's download.")
    solver: Literal["lbfgs", "sgd"] = setting(
        "lbfgs", "Linear probe: converged on standardised features, or the paper's schedule."
    )
    seeds: int = setting(3, "Number of seeds of the probes; the spread over them is given.", minimum=1)
    faces: Literal["auto", "ready", "detect"] = setting(
        "auto", "Take pictures as face crops, or find the face first; auto goes by the data set's form."
    )
    crop_factor: float | None = setting(
        None,
        "Side of ready crops in heights of the detector's box, to cut them to the model's framing; "
        "as they are by default.",
        minimum=0.5,
    )
    mirror: bool = setting(True, "Pose: train on every picture's mirror image too, as 300W-LP does.")
    out: str | None = setting(None, "Folder for evaluation.json and the pictures; evaluation/TASK by default.")
    json: bool = setting(False, "No table: the JSON object on stdout alone.")
    report: bool = setting(False, "Also write report.html, one page with everything in it.")
    gpus: int | None = setting(None, "1 or 0, the CPU; a GPU by default where there is one.", minimum=0, maximum=1)
    batch_size: int = setting(64, "Pictures per batch.", minimum=1)
    limit: int | None = setting(None, "Take N pictures of each split (or N pairs), drawn by a fixed seed.", minimum=1)


@dataclass(frozen=True)
class RenderSettings(RunSettings):
    """What every job takes that makes pictures."""

    help_panel: ClassVar[str | None] = "Rendering"

    model: str = setting(DEFAULT_MODEL, "A shipped model's name, a model folder, or a hub name.")
    gpus: int | None = setting(None, "GPUs to use; all there are by default, 0 for the CPU.", minimum=0)
    compose: Compose | None = setting(
        None,
        "The square face (frontalize's default), a labelled panel of all steps, or the face pasted into its picture.",
    )
    size: int | None = setting(
        None,
        "Side of the square face in pixels; 256 by default, or as large as in the picture that it is pasted into.",
        minimum=64,
        maximum=512,
    )
    face: int | None = setting(
        None,
        "Number of the source's track to render (embed writes them); by default the main face, and every face where "
        "deidentify pastes.",
    )
    at: str | None = setting(
        None, "Render the source's face at this point instead, 'x,y' in pixels of the upright picture."
    )
    smooth_codes: float = setting(0.0, "Smooth expression over this many seconds; 0 leaves it.", minimum=0)
    audio: Literal["copy", "none"] = setting("copy", "Copy the sound, or leave it out.")
    codec: Codec = setting("h264", "Video codec of the result.")
    crf: int | None = setting(
        None, "Quality of the video: lower is better and larger; 18 by default.", minimum=0, maximum=63
    )
    lossless: bool = setting(False, "Encode without any loss (large, and not for browsers).")
    start: float | None = setting(None, "Begin at this presentation time, in seconds.")
    duration: float | None = setting(None, "Render this many seconds from the start.", minimum=0)
    min_face: int = setting(40, "Smallest face to look for, in pixels of the upright picture.", minimum=8)
    score: float = setting(0.7, "Detection score below which a face is dropped, 0 to 1.", minimum=0, maximum=1)
    precision: Precision = setting("auto", "Number format of the networks; auto is float32 on CPU, float16 on GPU.")
    workers: int | None = setting(
        None, "Processes that read and render; by default what CPU cores or GPUs allow.", minimum=1
    )
    engine: Literal["auto", "local", "ray"] = setting(
        "auto", "This machine's processes, or Ray's actor pools; auto chooses by the plan's size."
    )


@dataclass(frozen=True)
class ReenactSettings(RenderSettings):
    help_panel: ClassVar[str | None] = None

    source: tuple[str, ...] = setting(
        (), "Whose motion: a video, an image, a folder, a list file, or a table that embed wrote (which has no sound)."
    )
    target: tuple[str, ...] = setting((), "Whose face: an image, a video, or a folder of them; may be repeated.")
    pairs: str | None = setting(
        None, "A table (.csv) of source, target, naming files of --source and --target; every pair by default."
    )
    out: str | None = setting(None, "File, or folder where there are several; by default named after both.")
    target_time: float | None = setting(
        None, "The target video's frame at this time, in seconds; its best frontal one by default."
    )
    target_face: int | None = setting(
        None,
        "The target's face of this number in its picture (`fcvideo faces` shows them); the largest by default. In a "
        "video, in its frame at --target-time.",
        minimum=0,
    )
    target_at: str | None = setting(None, "The target's face at this point instead, 'x,y' in pixels of its picture.")
    force: bool = setting(False, "Take a face that cannot be driven well, too: turned far, lying, covered or tiny.")
    neutral: Neutral = setting(
        "de-expression", "How the target's neutral face is made: from its picture alone, or through the mean face."
    )
    motion: Literal["absolute", "relative"] = setting(
        "absolute", "The source's motion as it is, or its change against the source's own most neutral frame."
    )


@dataclass(frozen=True)
class FacesSettings(JobSettings):
    help_panel: ClassVar[str | None] = None

    inputs: tuple[str, ...] = setting((), "A picture, or a video.", is_flag=False)
    out: str = setting("faces.png", "The picture to write: every face boxed, with its number.")
    time: float | None = setting(None, "The video's frame at this time, in seconds; its first one by default.")
    tracks: bool = setting(True, "In a video also find the tracks, the numbers for --face: looks at all of it.")
    model: str = setting(DEFAULT_MODEL, "Model whose codes tell the tracks of a video apart.")
    gpus: int | None = setting(None, "GPUs to use for it; all there are by default, 0 for the CPU.", minimum=0)
    min_face: int = setting(40, "Smallest face to look for, in pixels of the upright picture.", minimum=8)
    score: float = setting(0.7, "Detection score below which a face is dropped, 0 to 1.", minimum=0, maximum=1)


@dataclass(frozen=True)
class AlterSettings(RenderSettings):
    """What every job takes that renders its inputs one by one."""

    inputs: tuple[str, ...] = setting(
        (), "Videos and images, folders, globs, or a list file (.txt, one input a line).", is_flag=False
    )


@dataclass(frozen=True)
class FrontalizeSettings(AlterSettings):
    help_panel: ClassVar[str | None] = None

    out: str = setting("frontal/", "Folder for the results; a file name where there is one input.")
    neutral: Neutral = setting(
        "de-expression", "How the neutral face is made: from the picture alone, or through the mean face."
    )


@dataclass(frozen=True)
class DeidentifySettings(AlterSettings):
    help_panel: ClassVar[str | None] = None

    out: str = setting("deidentified/", "Folder for the results; a file name where there is one input.")
    identity: str | None = setting(None, "An image or video of the face to show; the model's mean face by default.")
    mask: Mask = setting("face", "What covers a face: another face in its motion, a blur of few averages, a black box.")
    min_face: int = setting(24, "Smallest face to look for, in pixels of the upright picture.", minimum=8)
    score: float = setting(0.5, "Score a face must once come to in its shot; less at borders.", minimum=0, maximum=1)
    force: bool = setting(False, "Take a face that cannot be driven well, too: turned far, lying, covered or tiny.")
