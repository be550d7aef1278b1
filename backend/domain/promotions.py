"""Aliases of model versions, and what can be done with them."""

import hashlib
from enum import StrEnum


class Alias(StrEnum):
    """The champion answers; the challenger runs in its shadow."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class Action(StrEnum):
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    CHALLENGE = "challenge"
    WITHDRAW = "withdraw"


def in_shadow(challenger_digest: str, object_name: str, share: float) -> bool:
    """Whether the challenger runs on that object, too: always the same answer, for about `share` of all objects.

    `object_name`: bucket, key and version. Which objects those are changes with the challenger.
    """
    hashed = hashlib.sha256(f"{challenger_digest}\0{object_name}".encode()).digest()
    return int.from_bytes(hashed[:8]) < share * 2**64
