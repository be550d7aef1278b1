"""SAM2 as it is loaded gives what Meta's own gives, with less of it made anew for every picture."""

import torch

from backend.profiles import load_profile
from workers.pipeline.sam2_model import build_model, load_model


def test_places_are_made_once_for_each_size_and_are_metas() -> None:
    profile = load_profile("shapeworld").segmenter
    assert profile is not None
    loaded, metas = load_model(profile, "cpu").eval(), build_model(profile, "cpu").eval()
    metas.load_state_dict(loaded.state_dict())
    for side in (224, 160, 224):
        picture = torch.randn(1, 3, side, side)
        with torch.inference_mode():
            mine, real = loaded.image_encoder(picture), metas.image_encoder(picture)
        for name in ("vision_features", "backbone_fpn", "vision_pos_enc"):
            ours, theirs = (each if isinstance(each, list) else [each] for each in (mine[name], real[name]))
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    kept = [loaded.image_encoder.trunk._get_pos_embed((side // 4, side // 4)) for side in (224, 160, 224)]
    assert kept[0] is kept[2]
    assert kept[0].shape != kept[1].shape
