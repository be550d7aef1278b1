"""The segmenter's recipe: what is learned in which order, for how many steps."""

from workers.shapeworld.training.trainee import Phase

#: A quarter of the work of large pictures; no weight depends on the size.
_SMALL_PX = 128


def recipe(side_px: int) -> tuple[Phase, ...]:
    """The phases for a model that looks at `side_px` pixels a side. "pictures" and "masks" are of a step, whether they
    are of many scenes or of several frames of a few."""
    fill = {"side_px": _SMALL_PX, "prompts": 32, "fill": 1}
    small = {"side_px": _SMALL_PX, "pictures": 8, "masks": 24}
    large = {"side_px": side_px, "pictures": 4, "masks": 12}
    pairs = {"side_px": side_px, "pictures": 6, "masks": 18, "frames_min": 2, "frames_max": 2}
    clips = {"side_px": side_px, "pictures": 8, "masks": 24, "frames_min": 1, "frames_max": 5}
    apart = {"far_share": 0.4, "wide_share": 0.35}
    passings = clips | {"pictures": 12, "frames_min": 3, "frames_max": 6}
    hidden = {"far_share": 0.15, "wide_share": 0.15, "passing_share": 0.6}
    leavings = {"far_share": 0.1, "wide_share": 0.15, "passing_share": 0.2, "leaving_share": 0.4}
    returns = {"far_share": 0.1, "wide_share": 0.2, "passing_share": 0.45, "leaving_share": 0.15}
    crowds = {"side_px": side_px, "pictures": 18, "masks": 54, "frames_min": 5, "frames_max": 9, "crowd_share": 0.35}
    hidings = {"far_share": 0.35, "wide_share": 0.2, "passing_share": 0.5, "leaving_share": 0.15}
    comings = {"far_share": 0.15, "wide_share": 0.15, "passing_share": 0.25, "leaving_share": 0.4, "crowd_share": 0.15}
    shorter = {"pictures": 16, "masks": 48, "frames_min": 4, "frames_max": 8}
    sharp = {"loss_scale": 4, "auxiliary": 0}
    return (
        Phase("fill", 500, 1e-3, warmup=50, decay=0, options=fill),
        Phase("pictures-small", 1000, 1e-3, decay=0.2, options=small),
        Phase("pictures", 400, 7e-4, decay=0.2, options=large),
        Phase("pairs", 350, 7e-4, decay=0.2, options=pairs),
        Phase("clips", 1750, 6e-4, decay=0.86, options=clips | apart),
        Phase("longer-clips", 1000, 3e-4, warmup=50, decay=1, options=clips | apart | {"frames_max": 6}),
        Phase("passings", 450, 4e-4, warmup=50, decay=1, options=passings | hidden),
        Phase("leavings", 700, 4e-4, warmup=50, decay=1, options=passings | leavings),
        Phase("returns", 500, 3e-4, warmup=50, decay=1, options=passings | returns | {"frames_min": 4}),
        Phase("hidings", 1900, 4e-4, warmup=50, decay=1, options=crowds | hidings | sharp),
        Phase("comings", 650, 3e-4, warmup=30, decay=1, options=crowds | shorter | comings | sharp),
    )
