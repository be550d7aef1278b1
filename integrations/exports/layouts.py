"""The layouts a data set can be written in."""

from enum import StrEnum


class Layout(StrEnum):
    MEVIS = "mevis"
    REF_YOUTUBE_VOS = "ref-youtube-vos"
    DAVIS = "davis"
    SA_V = "sa-v"
    YOUTUBE_VIS = "youtube-vis"
    COCO = "coco"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"
    PARQUET = "parquet"
