"""Short ways to a promotion: a verdict as the gate writes it, without measuring."""

import json
from hashlib import sha256

from backend.bootstrap import Container
from backend.services import promotions
from backend.services.promotions import Verdict


def judged(container: Container, candidate: str, champion: str, passed: bool = True) -> Verdict:
    """A verdict as the gate writes it, in the database."""
    checks = [{"name": "better", "passed": passed, "said": "J&F changes by -0.1"}]
    body = {"candidate": candidate, "champion": champion, "passed": passed, "checks": checks}
    digest = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    verdict = Verdict(digest, candidate, champion, passed, body)
    with container.transaction() as session:
        promotions.record_verdict(session, verdict)
    return verdict


def promote(container: Container, digest: str) -> None:
    with container.transaction() as session:
        promotions.promote(session, digest, base=container.profile, who="ada", why="it is better")
