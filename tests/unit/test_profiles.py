"""Model profiles: what ships loads, what identifies a model version, and what is said of a broken one."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from backend.domain.errors import Misconfigured
from backend.profiles import PROFILES_DIR, REPOSITORY_ROOT, ModelProfile, ServerProfile, load_profile
from backend.settings import Settings

SHIPPED = sorted(p.stem for p in PROFILES_DIR.glob("*.toml"))


def test_shapeworld_is_the_default_and_the_released_weights_are_one_setting_away() -> None:
    assert Settings().model.profile == "shapeworld"
    assert {"shapeworld", "omni-r1-7b"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_with_prompts_and_licences(name: str) -> None:
    profile = load_profile(name)
    assert len(profile.digest) == 64
    for part, templates in (
        (profile.system1, ["system1_vos", "system1_avs", "system1_aid"]),
        (profile.system2, ["system2"]),
    ):
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


def test_a_profile_with_another_segmenter_is_another_profile() -> None:
    own, other = load_profile("omni-r1-7b"), load_profile("omni-r1-7b+sam2.1-small")
    assert other.name == "omni-r1-7b+sam2.1-small"
    assert other.segmenter.weights.name == "facebook/sam2.1-hiera-small"
    assert (other.system1, other.system2) == (own.system1, own.system2)
    assert other.digest != own.digest
    assert load_profile("omni-r1-7b+sam2.1-large") == own


def test_a_file_of_ones_own_takes_shipped_segmenters(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((PROFILES_DIR / "omni-r1-7b.toml").read_text().replace("sam2.1-large", "sam2.1-tiny"))
    assert load_profile(str(path)).segmenter.config.endswith("_t.yaml")
    assert load_profile(f"{path}+sam2.1-large").digest == load_profile("omni-r1-7b").digest
    path.write_text(path.read_text().replace("sam2.1-tiny", "sam3"))
    for name in (str(path), "omni-r1-7b+sam3"):
        with pytest.raises(Misconfigured, match=r"no segmenter 'sam3'; known: sam2\.1-base-plus"):
            load_profile(name)
    with pytest.raises(Misconfigured, match="no model profile 'omni-r2"):
        load_profile("omni-r2+sam2.1-tiny")


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


SERVED = """
[system1.server]
base_url = "https://gpu-1.example.org:8000/v1/"
model = "omni-r1"
api_key_env = "OMNI_R1_KEY"
"""


def with_server(tmp_path: Path, table: str) -> ModelProfile:
    path = tmp_path / "served.toml"
    path.write_text((PROFILES_DIR / "omni-r1-7b.toml").read_text() + table)
    return load_profile(str(path))


def test_a_table_puts_a_system_on_a_server(tmp_path: Path) -> None:
    server = with_server(tmp_path, SERVED).system1.server
    assert server is not None
    assert server.base_url == "https://gpu-1.example.org:8000/v1"
    assert server.size_multiple_px == 28
    assert load_profile("omni-r1-7b").system1.server is None


def test_the_table_that_the_documentation_shows_is_right(tmp_path: Path) -> None:
    text = (REPOSITORY_ROOT / "docs/operations.md").read_text()
    [table] = re.findall(r"```toml\n(\[system1\.server\].*?)```", text, re.DOTALL)
    server = with_server(tmp_path, "\n" + table).system1.server
    assert server is not None
    assert set(server.model_fields_set) == set(ServerProfile.model_fields)
    shown_as_default = server.model_fields_set - {"base_url", "model", "api_key_env"}
    for name in shown_as_default:
        assert getattr(server, name) == ServerProfile.model_fields[name].default


def test_the_digest_follows_the_engine_and_the_model_there_but_not_its_address(tmp_path: Path) -> None:
    served = with_server(tmp_path, SERVED)
    moved = SERVED.replace("gpu-1", "gpu-2") + "timeout_s = 5\nretries = 0\nmax_in_flight = 1\n"
    renamed = SERVED.replace('"omni-r1"', '"omni-r2"')
    assert served.digest != load_profile("omni-r1-7b").digest
    assert with_server(tmp_path, moved).digest == served.digest
    assert with_server(tmp_path, renamed).digest != served.digest
    assert with_server(tmp_path, SERVED + "size_multiple_px = 32\n").digest != served.digest


def test_versions_from_before_there_were_servers_are_the_same_still() -> None:
    """A run's identity hangs on it: with another digest every video would be annotated again."""
    profile = load_profile("omni-r1-7b")
    settings = profile.model_dump(mode="json", exclude={"name", "summary", "device", "cpu_threads"})
    del settings["system1"]["server"], settings["system2"]["server"], settings["segmenter"]["clicks_as"]
    del settings["system1"]["attention"], settings["system2"]["attention"], settings["confidence"]
    del settings["segmenter"]["torch_compile"]
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for weights in (profile.system1.weights, profile.system1.weights, profile.segmenter.weights):
        sha.update(weights.digest().encode())
    assert profile.digest == sha.hexdigest()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (SERVED.replace("https://", ""), "system1.server.base_url(.|\n)*http"),
        (SERVED.replace("https://", "https://me:sesame@"), "system1.server.base_url(.|\n)*bare"),
        (SERVED.replace("/v1/", "/v1?key=sesame"), "system1.server.base_url(.|\n)*bare"),
        (SERVED.replace("OMNI_R1_KEY", "sk-sesame"), "system1.server.api_key_env"),
        (SERVED + 'api_key = "sesame"', "system1.server.api_key"),
        (SERVED.replace("omni-r1", ""), "system1.server.model"),
        (SERVED + "max_in_flight = 0", "system1.server.max_in_flight"),
        (SERVED + "timeout_s = 0", "system1.server.timeout_s"),
        (SERVED.replace("system1", "system2"), r"\[system2.weights\]"),
    ],
)
def test_a_wrong_server_is_said_without_its_secrets(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as error:
        with_server(tmp_path, wrong)
    assert "sesame" not in str(error.value)


def test_another_attention_is_another_version(tmp_path: Path) -> None:
    text, path = (PROFILES_DIR / "omni-r1-7b.toml").read_text(), tmp_path / "flash.toml"
    path.write_text(text.replace("[system1]", '[system1]\nattention = "flash_attention_2"', 1))
    flash = load_profile(str(path))
    assert (flash.system1.attention, flash.system2.attention) == ("flash_attention_2", "sdpa")
    assert flash.digest != load_profile("omni-r1-7b").digest
    path.write_text(text.replace("[system1]", '[system1]\nattention = "eager"', 1))
    with pytest.raises(Misconfigured, match=r"system1\.attention"):
        load_profile(str(path))
