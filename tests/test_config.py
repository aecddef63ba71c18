"""Settings: what `resolve` refuses, from flags and from files alike."""

from pathlib import Path

import pytest

from fcvideo.config import EmbedSettings, JobSettings, ReenactSettings
from fcvideo.errors import SettingsError
from fcvideo.settings import resolve


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EmbedSettings, "score"),
        (EmbedSettings, "fps"),
        (EmbedSettings, "start"),
        (ReenactSettings, "target_time"),
        (ReenactSettings, "smooth_codes"),
    ],
)
def test_a_float_that_is_not_finite_is_refused(kind: type[JobSettings], name: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{name} = {value}\n")
    expected = f"{name}: found {value}, expected a finite number"
    with pytest.raises(SettingsError, match=expected):
        resolve(kind, {name: float(value)})
    with pytest.raises(SettingsError, match=expected):
        resolve(kind, {}, file)
