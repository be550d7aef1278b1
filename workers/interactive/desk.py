"""Pictures and segmenters in memory, and masks drawn with them: one at a time, for whoever still waits."""

import logging
import time
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from backend.bootstrap import Container
from backend.db.repositories import models as rows
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.ports.pipeline import SuggestedMask
from backend.ports.storage import ObjectVersion
from backend.profiles import ModelProfile, SegmenterProfile
from integrations.masks.wire import Asked
from workers import models, process
from workers.pipeline.pages import Page, PageCache, PageSegmenter
from workers.pipeline.segmenter import Segmenter

log = logging.getLogger(__name__)

#: Of different weights: a promoted model's and the one before, or a pinned one's.
_SEGMENTERS = 2


class MaskDesk:
    """Thread-safe."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._pages = PageCache(container.settings.interactive.cache_mib * 2**20)
        self._segmenters: OrderedDict[Hashable, PageSegmenter] = OrderedDict()
        #: By model version: the profile, and what tells its segmenter from others.
        self._profiles: dict[str, tuple[ModelProfile, Hashable]] = {}
        self._turn = Lock()

    def preload(self) -> None:
        """Have the segmenter of the version ready that answers now."""
        profile = models.present_profile(self._container)
        with self._turn:
            self._segmenter(profile.digest)

    def draw(self, asked: Asked) -> list[SuggestedMask | None]:
        """As `MaskService.draw`. Raises `ServiceUnavailable` when its turn comes too late, `ObjectGone`, `NotFound`,
        `BadInput`."""
        began = time.monotonic()
        stored = self._container.store.head(asked.bucket, asked.key)
        if not self._turn.acquire(timeout=max(0.0, asked.patience_s - (time.monotonic() - began))):
            raise ServiceUnavailable(f"others' masks were drawn for {asked.patience_s:g} s; ask again")
        try:
            known, segmenter = self._segmenter(asked.model_digest)
            # The entity tag stands for the picture's bytes: another picture at the same place is another page.
            key = (stored.bucket, stored.key, stored.etag, known)
            is_new = key not in self._pages
            page = self._pages.get(key, lambda: self._look(segmenter, stored, asked.size))
            drawn = segmenter.draw(page, asked.prompts)
        finally:
            self._turn.release()
        spent_ms = 1000 * (time.monotonic() - began)
        log.info("%d masks on s3://%s/%s in %.0f ms%s", len(drawn), asked.bucket, asked.key, spent_ms,
                 ", seen for the first time" if is_new else "")  # fmt: skip
        return drawn

    def _look(self, segmenter: PageSegmenter, stored: ObjectVersion, size: tuple[int, int]) -> Page:
        picture = self._picture(stored)
        if (picture.shape[1], picture.shape[0]) != size:
            raise BadInput(
                f"s3://{stored.bucket}/{stored.key} has {picture.shape[1]}×{picture.shape[0]} pixels, not "
                f"{size[0]}×{size[1]} as its video"
            )
        return segmenter.look(picture)

    def _picture(self, stored: ObjectVersion) -> NDArray[np.uint8]:
        with process.scratch(self._container.settings.worker) as folder:
            path = folder / "page"
            self._container.store.download(stored, path)
            try:
                with Image.open(path) as image:
                    return np.asarray(image.convert("RGB"))
            except (UnidentifiedImageError, OSError) as error:
                raise BadInput(f"s3://{stored.bucket}/{stored.key} is no picture: {error}") from error

    def _segmenter(self, model_digest: str) -> tuple[Hashable, PageSegmenter]:
        """The version's segmenter and what tells it from others; loaded if it isn't. The lock is held."""
        profile, known = self._profile(model_digest)
        if known not in self._segmenters:
            while len(self._segmenters) >= _SEGMENTERS:
                self._segmenters.popitem(last=False)
            self._segmenters[known] = self._load(profile)
        self._segmenters.move_to_end(known)
        return known, self._segmenters[known]

    def _profile(self, model_digest: str) -> tuple[ModelProfile, Hashable]:
        if model_digest not in self._profiles:
            with self._container.transaction() as session:
                version = rows.by_digest(session, model_digest)
                profile = models.profile_of(self._container, version.digest, version.profile)
            # Versions that differ in System 1 alone have one segmenter; its weights are read once to know them.
            self._profiles[model_digest] = profile, (profile.segmenter.weights.digest(), _settings(profile.segmenter))
        return self._profiles[model_digest]

    def _load(self, profile: ModelProfile) -> PageSegmenter:
        began = time.monotonic()
        with models.on_this_machine(self._container, profile) as here:
            segmenter = Segmenter(here.segmenter, here.device)
        log.info("segmenter %s loaded in %.1f s", profile.segmenter.weights.name, time.monotonic() - began)
        return PageSegmenter(segmenter, profile.segmenter.clicks_as, profile.segmenter.fill_hole_area)


def _settings(profile: SegmenterProfile) -> str:
    return profile.model_dump_json(exclude={"weights"})
