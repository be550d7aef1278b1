"""Cron on people's clocks, plans that can't be, and how long a retraining will still take."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import BadInput
from backend.domain.retraining import RetrainingStage, seconds_left
from backend.services.schedules import next_time, plan_of

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 2 * * *", "UTC", "2026-01-01T02:00", "2026-01-02T02:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-01-01T00:00", "2026-01-01T01:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-07-01T00:00", "2026-07-02T00:00"),
        # On 29 March 2026 clocks there go from 2:00 to 3:00: 2:30 is 3:30 of that day, and 2:30 on the next.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:30", "2026-03-30T00:30"),
        # On 25 October 2:30 comes twice; once is enough.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T23:00", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("0 22 * * MON-FRI", "America/New_York", "2026-11-20T12:00", "2026-11-21T03:00"),
        ("0 22 * * MON-FRI", "America/New_York", "2026-11-21T03:00", "2026-11-24T03:00"),
    ],
)
def test_next_time(cron: str, zone: str, after: str, expected: str) -> None:
    assert next_time(cron, zone, utc(after)) == utc(expected)


@given(
    after=st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)), zone=st.sampled_from(ZONES),
    minute=st.integers(0, 59), hour=st.integers(0, 23),
)  # fmt: skip
def test_every_day_has_one(after: datetime, zone: str, minute: int, hour: int) -> None:
    """Later than asked for, within a day and a clock's change, and at that time of day but where clocks leap."""
    moment = after.replace(tzinfo=UTC)
    found = next_time(f"{minute} {hour} * * *", zone, moment)
    assert moment < found <= moment + timedelta(hours=26)
    shown = found.astimezone(ZoneInfo(zone))
    leaps = shown.utcoffset() != (found - timedelta(hours=2)).astimezone(ZoneInfo(zone)).utcoffset()
    assert (shown.hour, shown.minute) == (hour, minute) or leaps


@pytest.mark.parametrize(
    ("cron", "zone", "word"),
    [
        ("0 2 * *", "UTC", "five fields"),
        ("0 2 * * * *", "UTC", "five fields"),
        ("61 2 * * *", "UTC", "61"),
        ("0 2 30 2 *", "UTC", "names no time"),
        ("0 2 * * *", "Europe/Nowhere", "Europe/Nowhere"),
        ("0 2 * * *", "../etc", "time zone"),
        ("0 2 * * *", "", "time zone"),
    ],
)
def test_what_is_no_schedule_is_said(cron: str, zone: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        next_time(cron, zone, utc("2026-01-01T00:00"))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"config": "[training]\nstepz = 3"}, "stepz"),
        ({"config": "[gate]\nepsilon = 1"}, "gate"),
        ({"config": "not toml"}, "TOML"),
        ({"notify": ("ftp://example.org",)}, "mailto"),
        ({"notify": ("mailto:nobody",)}, "mailto"),
        ({"regression": ()}, "regression"),
        ({"min_corrections": 0}, "min_corrections"),
        ({"budget_h": 0}, "budget_h"),
    ],
)
def test_what_is_no_plan_is_said(values: dict[str, object], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        plan_of(values)


def test_seconds_left() -> None:
    train, gate = RetrainingStage.TRAIN, RetrainingStage.GATE
    assert seconds_left(train, 0.0, 10, []) is None, "nothing says how long it takes"
    assert seconds_left(train, 0.25, 100, []) == 300
    before = [{"gate": 60.0, "register": 5.0}, {"train": 500.0, "gate": 1000.0}]
    assert seconds_left(train, 0.25, 100, before) == 300 + 5 + 60
    assert seconds_left(train, 0.0, 100, before) == 400 + 5 + 60
    assert seconds_left(gate, 0.0, 100, before) == 0, "longer than last time"
