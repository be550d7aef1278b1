#!/usr/bin/env python3
"""Makes the virtual environments from the locks: `.venv` for Premask, `.venv-label-studio` for the Label Studio server.

Standard library only, Python 3.11 or newer. Run it as often as you like: a stamp says what the environment was made
from, an interrupted run is taken up where it stopped, and two at once wait for each other.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LABEL_STUDIO_VENV = ROOT / ".venv-label-studio"
LOCK = ROOT / "requirements.lock"
LABEL_STUDIO_LOCK = ROOT / "requirements-label-studio.lock"

UV = "uv==0.13.9"
TORCH = "torch==2.13.0"
SAM2 = "sam2==1.1.0"
LABEL_STUDIO = "label-studio==1.23.2"
#: Chosen per machine, not by the lock: torch's build, what only its CUDA build needs, and sam2 (built against it).
NOT_LOCKED = re.compile(r"(torch|sam2|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
#: The migrated database that integrations/local/label_studio.py copies at Label Studio's first start.
TEMPLATE = Path("share") / "premask" / "label_studio.sqlite3"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
APT_PACKAGES = ("chromium", "fonts-dejavu-core")

STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def stop(text: str) -> None:
    sys.exit(f"bootstrap: {text}")


def run(*command: object, env: Mapping[str, str] | None = None) -> None:
    """Run it, or end with its own words."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        stop(f"this failed with status {done.returncode}: {' '.join(words)}")


# ---------------------------------------------------------------- how pip is set up here, for uv, which ignores it


def pip_setting(name: str) -> str | None:
    """A setting from the environment (PIP_FIND_LINKS) or pip's configuration files; None where pip has none."""
    if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    for scope in ("install", "global"):
        command = [VENV / "bin" / "python", "-m", "pip", "config", "get", f"{scope}.{name}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return None


def wheel_folders() -> list[Path]:
    """The local folders among pip's find-links."""
    words = (pip_setting("find-links") or "").split()
    return [folder for word in words if (folder := Path(word.removeprefix("file://"))).is_dir()]


def uv_environment(folders: list[Path]) -> dict[str, str]:
    environment = {"UV_NO_PROGRESS": "1", "SAM2_BUILD_CUDA": "0"}
    if folders and "UV_FIND_LINKS" not in os.environ:
        environment["UV_FIND_LINKS"] = ",".join(map(str, folders))
    certificate = pip_setting("cert")
    if certificate and "SSL_CERT_FILE" not in os.environ:
        environment["SSL_CERT_FILE"] = certificate
    index = pip_setting("index-url")
    if index and "UV_DEFAULT_INDEX" not in os.environ:
        environment["UV_DEFAULT_INDEX"] = index
    return environment


# ---------------------------------------------------------------- is there anything to do?


def torch_choice() -> str:
    """`cuda` where an NVIDIA GPU is present, unless PREMASK_TORCH says otherwise."""
    wanted = os.environ.get("PREMASK_TORCH")
    if wanted is not None:
        if wanted not in ("cpu", "cuda"):
            stop(f"PREMASK_TORCH is '{wanted}'; it may be 'cpu' or 'cuda'")
        return wanted
    return "cuda" if shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists() else "cpu"


def fingerprint(*things: Path | str) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for thing in (Path(__file__), *things):
        digest.update(thing.read_bytes() if isinstance(thing, Path) else thing.encode())
    return digest.hexdigest()


def is_made(venv: Path, mark: str) -> bool:
    stamp = venv / "premask.stamp"
    return (venv / "bin" / "python").exists() and stamp.exists() and stamp.read_text() == mark


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One bootstrap at a time in this checkout: the folder itself is the lock."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bootstrap is at work here; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- the environments


def make_venv(venv: Path, *arguments: str) -> Path:
    """An environment of this Python's version; its interpreter. One of another Python is made anew."""
    python = venv / "bin" / "python"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not python.exists() or not (venv / "lib" / f"python{version}").is_dir():
        say(f"virtual environment {venv.name} (Python {version})")
        run(sys.executable, "-m", "venv", "--clear", *arguments, venv)
    return python


def make_uv() -> Path:
    """A pinned uv in `.venv`, put there by the pip that comes with Python."""
    python = make_venv(VENV)
    uv = VENV / "bin" / "uv"
    known = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout if uv.exists() else ""
    if UV.partition("==")[2] not in known.split():
        say(UV)
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
            run(python, "-m", "ensurepip")
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", UV)
    return uv


def install(uv: Path, venv: Path, *arguments: object, env: Mapping[str, str]) -> None:
    # Bytecode now: the first start of every process would pay for it, and where writing it is off, every start.
    run(uv, "pip", "install", "-q", "--compile-bytecode", "--python", venv / "bin" / "python", *arguments, env=env)


def install_torch(uv: Path, choice: str, folders: list[Path], env: Mapping[str, str]) -> None:
    version = TORCH.partition("==")[2]
    if choice == "cuda":
        say(f"{TORCH}, CUDA build (an NVIDIA GPU is present; several GB)")
        install(uv, VENV, TORCH, env=env)
        return
    if holder := next((folder for folder in folders if list(folder.glob(f"torch-{version}*.whl"))), None):
        say(f"{TORCH} from the folder of wheels {holder}")
        install(uv, VENV, "--no-deps", "--no-index", "--find-links", holder, TORCH, env=env)
        return
    say(f"{TORCH}, CPU build")
    command = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", VENV / "bin" / "python"]
    command += ["--no-deps", "--torch-backend", "cpu", TORCH]
    if subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False).returncode != 0:
        say("!! the index of CPU builds could not be reached: taking the package index's own build instead.")
        say("!! On Linux that is the CUDA build, several GB, which also runs without a GPU.")
        install(uv, VENV, TORCH, env=env)


def make_premask() -> None:
    choice = torch_choice()
    mark = fingerprint(LOCK, ROOT / "pyproject.toml", choice, str(ROOT))
    if is_made(VENV, mark):
        return
    with alone():
        if is_made(VENV, mark):
            return
        uv = make_uv()
        folders = wheel_folders()
        env = uv_environment(folders)
        install_torch(uv, choice, folders, env)
        say(f"{count(LOCK)} packages of {LOCK.name}")
        install(uv, VENV, "--no-deps", "-r", LOCK, env=env)
        say(f"{SAM2}, built here against this torch")
        install(uv, VENV, "--no-deps", "--no-build-isolation", SAM2, env=env)
        say("premask itself, editable")
        install(uv, VENV, "--no-deps", "--no-build-isolation", "-e", ".", env=env)
        (VENV / "premask.stamp").write_text(mark)
        say(f"{VENV.name} is ready")


def make_label_studio() -> None:
    mark = fingerprint(LABEL_STUDIO_LOCK)
    if is_made(LABEL_STUDIO_VENV, mark):
        return
    with alone():
        if is_made(LABEL_STUDIO_VENV, mark):
            return
        uv = make_uv()
        make_venv(LABEL_STUDIO_VENV, "--without-pip")
        say(f"{count(LABEL_STUDIO_LOCK)} packages of {LABEL_STUDIO_LOCK.name}: the Label Studio server")
        env = uv_environment(wheel_folders())
        install(uv, LABEL_STUDIO_VENV, "--no-deps", "-r", LABEL_STUDIO_LOCK, env=env)
        make_label_studio_template()
        (LABEL_STUDIO_VENV / "premask.stamp").write_text(mark)
        say(f"{LABEL_STUDIO_VENV.name} is ready")


def make_label_studio_template() -> None:
    """Run Label Studio's migrations once, into a database that every fresh state folder starts from."""
    template = LABEL_STUDIO_VENV / TEMPLATE
    source, made_from = template.with_suffix(".lock"), LABEL_STUDIO_LOCK.read_text()
    if template.exists() and source.exists() and source.read_text() == made_from:
        return
    say("Label Studio's empty database (its migrations take half a minute, here instead of at the first start)")
    manage = next(LABEL_STUDIO_VENV.glob("lib/python*/site-packages/label_studio/manage.py"))
    template.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="premask-setup-") as folder:
        offline = {
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
        }
        environment = {**os.environ, **offline, "LABEL_STUDIO_BASE_DATA_DIR": folder, "DJANGO_DB": "sqlite"}
        command = [LABEL_STUDIO_VENV / "bin" / "python", manage, "migrate", "--no-color", "-v0"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            stop(f"Label Studio's migrations failed:\n{done.stdout}{done.stderr}")
        shutil.move(Path(folder) / template.name, template)
    source.write_text(made_from)


def count(lock: Path) -> int:
    return sum("==" in line for line in lock.read_text().splitlines())


# ---------------------------------------------------------------- the rest


def make_browser() -> None:
    """The tests that look at the labeling page need Chromium. Debian's is installed where we may."""
    if any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"apt-get install {' '.join(APT_PACKAGES)}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "-qq", "update", env=quiet)
        run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *APT_PACKAGES, env=quiet)
        return
    say(f"no Chromium here: the browser tests are skipped. On Debian: apt-get install {' '.join(APT_PACKAGES)}")


def relock() -> None:
    """Resolve anew and write both locks, for every platform, without index addresses."""
    with alone():
        uv = make_uv()
        folders = wheel_folders()
        for lock, wanted in ((LOCK, ["pyproject.toml", "--extra", "dev"]), (LABEL_STUDIO_LOCK, ["-"])):
            say(f"resolving {lock.name}")
            command = [
                uv,
                "pip",
                "compile",
                "-q",
                "--universal",
                "-p",
                "3.11",
                "--upgrade",
                "--no-header",
                "--no-annotate",
            ]
            words = [str(word) for word in (*command, "--no-emit-index-url", "--no-emit-find-links", *wanted)]
            environment = {**os.environ, **uv_environment(folders)}
            done = subprocess.run(
                words, cwd=ROOT, env=environment, input=LABEL_STUDIO, stdout=subprocess.PIPE, text=True, check=False
            )
            if done.returncode != 0:
                stop(f"{lock.name} could not be resolved")
            kept = [line for line in done.stdout.splitlines() if not NOT_LOCKED.match(line)]
            lock.write_text("\n".join(kept) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-studio", action="store_true", help="also the environment of the Label Studio server")
    parser.add_argument("--browser", action="store_true", help="also Chromium, for the tests that look at a page")
    parser.add_argument("--lock", action="store_true", help="resolve anew and rewrite the locks, instead")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever python3 is
        stop(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    if arguments.lock:
        relock()
        return
    make_premask()
    if arguments.label_studio:
        make_label_studio()
    if arguments.browser:
        make_browser()


if __name__ == "__main__":
    main()
