"""Model profiles: what ships loads, what identifies a model version, and what is said of a broken one."""

from pathlib import Path

import pytest

from backend.domain.errors import Misconfigured
from backend.profiles import PROFILES_DIR, REPOSITORY_ROOT, load_profile
from backend.settings import Settings

SHIPPED = sorted(p.stem for p in PROFILES_DIR.glob("*.toml"))


def test_shapeworld_is_the_default_and_the_released_weights_are_one_setting_away() -> None:
    assert Settings().model.profile == "shapeworld"
    assert {"shapeworld", "omni-r1-7b"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_with_prompts_and_licences(name: str) -> None:
    profile = load_profile(name)
    assert len(profile.digest) == 64
    for part, templates in ((profile.system1, ["system1_vos", "system1_avs"]), (profile.system2, ["system2"])):
        for template in templates:
            assert (REPOSITORY_ROOT / part.prompts / f"{template}.txt").is_file()
    assert profile.system1.weights.license
    assert profile.segmenter.weights.license


def test_the_papers_sizes_stand_in_the_full_size_profile() -> None:
    profile = load_profile("omni-r1-7b")
    assert profile.system1.max_frames == 24
    assert profile.system1.max_pixels == 128 * 28 * 28
    assert profile.system1.nominal_fps == 2.0
    assert profile.system2.max_pixels == 900 * 28 * 28
    assert profile.system1.weights.name == "Haoz0206/Omni-R1"
    assert profile.segmenter.weights.name == "facebook/sam2.1-hiera-large"


def test_the_digest_follows_what_shapes_the_output_and_nothing_else() -> None:
    profile = load_profile("shapeworld")
    same = profile.model_copy(update={"summary": "other words"})
    other = profile.model_copy(update={"system1": profile.system1.model_copy(update={"max_new_tokens": 7})})
    assert same.digest == profile.digest
    assert other.digest != profile.digest


def test_an_unknown_or_broken_profile_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="shapeworld"):
        load_profile("no-such-profile")
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "x"\n')
    with pytest.raises(Misconfigured, match="summary"):
        load_profile(str(broken))
