"""Manifests: the items of a data set as Parquet, one file a split, one row an item. Any Parquet reader reads them, the
`datasets` library among them."""

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from backend.domain.datasets import DatasetItem
from backend.domain.errors import BadInput

_FRAMES = pa.list_(pa.int32())
_BOX = pa.struct([("frame_index", pa.int32()), *((name, pa.float64()) for name in ("x1", "y1", "x2", "y2"))])
_MASK = pa.struct([("frame_index", pa.int32()), ("size", _FRAMES), ("counts", pa.string())])
_TEXTS = ("origin", "source_uri", "source_version", "project", "model_digest", "target")
_PROVENANCE = pa.struct(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("annotation_id", pa.int64()),
        *((name, pa.string()) for name in ("annotator", "review_digest", "changed_at")),
    ]
)
#: Stated and not inferred, so that a manifest without any masks has the same columns as one with.
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("media_sha256", pa.string()),
        ("media_key", pa.string()),
        ("media_size_bytes", pa.int64()),
        ("instruction", pa.string()),
        ("mode", pa.string()),
        ("frame_count", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_deg", pa.int32()),
        ("duration_s", pa.float64()),
        ("has_audio", pa.bool_()),
        ("codec", pa.string()),
        ("time_base_num", pa.int64()),
        ("time_base_den", pa.int64()),
        ("pts", pa.list_(pa.int64())),
        (
            "objects",
            pa.list_(pa.struct([("label", pa.string()), ("boxes", pa.list_(_BOX)), ("masks", pa.list_(_MASK))])),
        ),
        ("box_frames", _FRAMES),
        ("mask_frames", _FRAMES),
        ("propagated_frames", _FRAMES),
        ("split", pa.string()),
        ("fresh", pa.bool_()),
        ("provenance", _PROVENANCE),
    ]
)
#: Rows a group: readers hold one in memory at a time.
_ROWS_AT_ONCE = 64


def write_manifest(items: Sequence[DatasetItem]) -> bytes:
    """The Parquet file, rows in the order given."""
    rows = [{"item_id": item.item_id, **item.to_row()} for item in items]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd", row_group_size=_ROWS_AT_ONCE)
    return buffer.getvalue()


def read_manifest(body: bytes) -> Iterator[DatasetItem]:
    """The items of a manifest. Raises `BadInput` where it is no manifest, or an item isn't what its id says."""
    try:
        for batch in pq.ParquetFile(io.BytesIO(body)).iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                item = DatasetItem.from_row(row)
                if item.item_id != row["item_id"]:
                    raise BadInput(f"item {row['item_id'][:12]} of the manifest was changed", code="manifest_changed")
                yield item
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the manifest can't be read: {error}", code="invalid_manifest") from error
