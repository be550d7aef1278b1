"""The embedded Label Studio: a server in a virtual environment of its own, on SQLite, offline, with a generated login.

Its first start spends half a minute on migrations; the bootstrap has done them once into a template, copied here.
"""

import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from backend.domain.errors import Misconfigured
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir

EMAIL = "premask@localhost"
DATABASE_FILE = "label_studio.sqlite3"
#: Written by scripts/bootstrap.py beside the installation it belongs to.
TEMPLATE = Path("share") / "premask" / DATABASE_FILE


#: What Label Studio 1.23 refuses as a webhook's address (reserved networks), but for the loopback that we use.
BANNED_SUBNETS = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "233.252.0.0/24", "240.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "::ffff:0:0/96",
    "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001:0000::/32", "2001:20::/28", "2001:db8::/32",
    "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelStudio:
    venv: Path
    data: Path
    port: int
    password: str
    token: str
    s3_endpoint_url: str | None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def prepare(state: StateDir, venv: Path, *, s3_endpoint_url: str | None = None) -> LabelStudio:
    """Raises `Misconfigured` when the virtual environment is not there."""
    venv = venv.absolute()
    if not (venv / "bin" / "label-studio").exists():
        raise Misconfigured(
            f"Label Studio is not installed in {venv}; run `python scripts/bootstrap.py --label-studio`"
        )
    data = state.folder("label-studio")
    database, template = data / DATABASE_FILE, venv / TEMPLATE
    if not database.exists() and template.exists():
        draft = database.with_suffix(".draft")
        shutil.copyfile(template, draft)
        draft.rename(database)
    return LabelStudio(
        venv=venv,
        data=data,
        port=state.port("label-studio", 8080),
        password=state.secret("label-studio-password"),
        # A legacy token: 40 hexadecimal digits.
        token=state.secret("label-studio-token"),
        s3_endpoint_url=s3_endpoint_url,
    )


def service(label_studio: LabelStudio, log: Path) -> Service:
    return Service(
        name="label-studio",
        command=command(label_studio),
        log=log,
        # With our token: an answer by somebody else's server is no answer.
        probe=lambda: answers(f"{label_studio.url}/api/current-user/whoami", token=label_studio.token),
        environment=environment(label_studio),
        folder=label_studio.data,
        # The first start migrates for half a minute where there is no template; twice that on a loaded machine.
        ready_timeout_s=180.0,
        restarts=True,
    )


def command(label_studio: LabelStudio) -> tuple[str, ...]:
    binaries = label_studio.venv / "bin"
    # -I: a PYTHONPATH of ours must not reach its environment.
    return (
        str(binaries / "python"), "-I", "-u", str(binaries / "label-studio"),
        "start", "--no-browser", "--internal-host", LOOPBACK, "-p", str(label_studio.port),
    )  # fmt: skip


def environment(label_studio: LabelStudio) -> dict[str, str]:
    variables = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(label_studio.data),
        "LABEL_STUDIO_HOST": label_studio.url,
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_PASSWORD": label_studio.password,
        "LABEL_STUDIO_USER_TOKEN": label_studio.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "DJANGO_DB": "sqlite",
        # Nothing goes out: no crash reports, no usage statistics, no version check.
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    # Our API is its webhook's address, on loopback, which it refuses by default; all others it refuses stay refused.
    variables["USE_DEFAULT_BANNED_SUBNETS"] = "false"
    variables["USER_ADDITIONAL_BANNED_SUBNETS"] = ",".join(BANNED_SUBNETS)
    if label_studio.s3_endpoint_url is not None:
        # Loopback endpoints are refused, except for the one that the environment names.
        variables["S3_ENDPOINT"] = label_studio.s3_endpoint_url
    return variables


def answers(url: str, *, token: str | None = None) -> bool:
    """Whether a GET is answered with 200."""
    request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
