"""Answers of the world have margins: what fits, what clearly doesn't, and what is left unasked between the two."""

from dataclasses import replace

import pytest

from workers.shapeworld.world.answers import Answer, answer
from workers.shapeworld.world.motion import Motion, Point
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind, Query
from workers.shapeworld.world.scene import Camera, Light, Scene, Sound
from workers.shapeworld.world.things import Look, Thing

DURATION_S = 4.0
BLUE = Look("blue", "square")


def thing(start: Point, end: Point | None = None, appears_s: float = 0.0, look: Look = BLUE) -> Thing:
    """A small thing that moves evenly during the whole clip."""
    motion = Motion(start, end or start, 0, DURATION_S)
    return Thing(look.shape or "", look.color or "", "plain", 1, 0.1, 0, 0, 0, appears_s, motion)


def asked(query: Query, *things: Thing, pan: Point = (0, 0), sound: Sound | None = None) -> Answer:
    camera = Camera((0, 0), (pan[0] / DURATION_S, pan[1] / DURATION_S))
    scene = Scene(0, "easy", things, (1, 1), DURATION_S, 12, camera, Light(0, 1, 0), 0, sound)
    return answer(query, scene, observe(scene))


@pytest.mark.parametrize(("way", "expected"), [(0.6, (1,)), (0.35, None), (0.2, None)])
def test_the_fastest_is_faster_by_a_factor(way: float, expected: Answer) -> None:
    others = thing((0.2, 0.2), (0.5, 0.2))
    assert asked(Query(Kind.FASTEST), others, thing((0.2, 0.7), (0.2 + way, 0.7))) == expected


def test_nothing_is_fastest_where_nothing_moves_and_a_camera_doesnt_count() -> None:
    still = thing((0.3, 0.3)), thing((0.7, 0.7))
    assert asked(Query(Kind.FASTEST), *still) == ()
    assert asked(Query(Kind.FASTEST), *still, pan=(0.2, 0)) is None
    # The one that the camera follows is fast in the world and still on the screen.
    followed = thing((0.3, 0.3), (0.6, 0.3))
    assert asked(Query(Kind.FASTEST), followed, still[1], pan=(0.3, 0)) is None
    assert asked(Query(Kind.FASTEST), still[0]) is None


@pytest.mark.parametrize(("appears_s", "expected"), [(0, ()), (0.25, None), (2, (1,)), (2.5, (1,))])
def test_the_last_comes_by_a_margin(appears_s: float, expected: Answer) -> None:
    assert asked(Query(Kind.APPEARS_LAST), thing((0.3, 0.3)), thing((0.7, 0.7), appears_s=appears_s)) == expected


def test_two_that_come_together_are_both_last() -> None:
    assert asked(Query(Kind.APPEARS_LAST), thing((0.3, 0.3), None, 2), thing((0.7, 0.7), None, 2.5)) is None


@pytest.mark.parametrize(("end_x", "expected"), [(0.8, ()), (0.99, None), (1.05, None), (1.5, (0,))])
def test_what_leaves_is_wholly_out(end_x: float, expected: Answer) -> None:
    assert asked(Query(Kind.LEAVES), thing((0.3, 0.3), (end_x, 0.3)), thing((0.5, 0.7))) == expected


@pytest.mark.parametrize(("end_x", "expected"), [(0.25, ()), (0.3, ()), (0.45, None), (0.8, (0,)), (0.1, ())])
def test_a_direction_is_a_good_part_of_the_view(end_x: float, expected: Answer) -> None:
    query = Query(Kind.DIRECTION, toward="right")
    assert asked(query, thing((0.2, 0.3), (end_x, 0.3)), thing((0.5, 0.7))) == expected
    assert asked(replace(query, toward="up"), thing((0.2, 0.3), (end_x, 0.3)), thing((0.5, 0.7))) == ()


def test_a_slanting_way_has_no_direction() -> None:
    assert asked(Query(Kind.DIRECTION, toward="right"), thing((0.2, 0.2), (0.8, 0.8))) is None


@pytest.mark.parametrize(
    ("place", "expected"), [((0.2, 0.5), (0,)), ((0.6, 0.9), ()), ((0.48, 0.8), None), ((0.4, 0.9), None)]
)
def test_a_side_is_clearly_that_side(place: Point, expected: Answer) -> None:
    anchor = thing((0.55, 0.5), look=Look("green", "star"))
    query = Query(Kind.RELATION, Look("green", "star"), "left")
    assert asked(query, thing(place), anchor) == expected
    assert asked(replace(query, look=Look("red", "star")), thing(place), anchor) == ()
    assert asked(query, thing(place), anchor, anchor) is None


BEHIND = Query(Kind.PASSES_BEHIND, Look("green", "star"))


def test_behind_is_not_in_front_nor_beside() -> None:
    star = thing((0.5, 0.5), look=Look("green", "star"))
    passer = thing((0.2, 0.5), (0.8, 0.5))
    assert asked(BEHIND, passer, star) == (0,)
    assert asked(BEHIND, star, passer) == ()
    assert asked(BEHIND, thing((0.2, 0.8), (0.8, 0.8)), star) == ()
    assert asked(BEHIND, thing((0.2, 0.6), (0.8, 0.65)), star) is None  # only partly hidden
    assert asked(BEHIND, thing((0.2, 0.5), (0.5, 0.5)), star) is None  # it never comes out
    # The star passes in front of a thing that stands still.
    assert asked(BEHIND, thing((0.5, 0.5)), thing((0.2, 0.5), (0.8, 0.5), look=Look("green", "star"))) is None


def test_looks_and_sounds_point_at_one_thing_or_at_none() -> None:
    circle, square = thing((0.3, 0.3), look=Look("red", "circle")), thing((0.7, 0.7))
    assert asked(Query(Kind.ATTRIBUTE, Look("red")), circle, square) == (0,)
    assert asked(Query(Kind.ATTRIBUTE, Look("red", "square")), circle, square) == ()
    assert asked(Query(Kind.ATTRIBUTE, BLUE), square, square) is None
    assert asked(Query(Kind.PLURAL, Look("blue")), square, circle, square) == (0, 2)
    assert asked(Query(Kind.PLURAL, Look("blue")), square, circle) is None
    heard = Sound("circle", 0, 1)
    assert asked(Query(Kind.SOUND), square, circle, sound=heard) == (1,)
    assert asked(Query(Kind.SOUND), square, sound=heard) == asked(Query(Kind.SOUND), circle) == ()
    assert asked(Query(Kind.SOUND), circle, circle, sound=heard) is None
