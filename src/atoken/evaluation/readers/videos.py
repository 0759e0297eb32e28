"""Video data: a folder (DAVIS, TokenBench), MSRVTT and MSVD with their captions."""

from __future__ import annotations

import csv
from pathlib import Path

from ...media.image import IMAGE_SUFFIXES
from ...media.kinds import VIDEO_SUFFIXES
from .items import Item, files_below, first_file, name_below, read_json


def video_folder(folder: Path) -> list[Item]:
    """Every video below ``folder``; where there are no video files, every folder of frames.

    TokenBench comes as files; DAVIS as folders of numbered JPEGs (``JPEGImages/1080p/bear/00000.jpg``), which are read
    in the order of their names.
    """
    try:
        return [Item(name_below(folder, path), path) for path in files_below(folder, VIDEO_SUFFIXES)]
    except FileNotFoundError:
        frames = files_below(folder, IMAGE_SUFFIXES)
        return [
            Item(name_below(folder, path) if path != folder else path.name, path)
            for path in sorted({frame.parent for frame in frames})
        ]


def msrvtt(folder: Path) -> list[Item]:
    """MSRVTT's test videos with their captions.

    Annotations are the 1k-A split as CSV (columns ``video_id``, ``sentence``: ``MSRVTT_JSFUSION_test.csv``, one
    caption a video) or the original JSON (``videos`` with their ``split``, ``sentences``: ``test_videodatainfo.json``,
    twenty). Videos are ``video123.mp4`` anywhere below ``folder``. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    file = first_file(
        folder, "*JSFUSION*.csv", "*test*.csv", "*videodatainfo*.json", "*/*JSFUSION*.csv", "*/*videodatainfo*.json"
    )
    captions: dict[str, list[str]] = {}
    try:
        if file.suffix == ".csv":
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    captions.setdefault(row["video_id"], []).append(row["sentence"])
        else:
            values = read_json(file)
            wanted = {video["video_id"] for video in values["videos"] if video["split"] == "test"}
            for sentence in values["sentences"]:
                if sentence["video_id"] in wanted:
                    captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
    except (KeyError, TypeError):
        raise ValueError(f"{file} is not an annotation file of MSRVTT") from None
    return _captioned(folder, captions, file)


def msvd(folder: Path) -> list[Item]:
    """MSVD's test videos with all their captions.

    ``test_list.txt`` (one video a line), captions in ``raw-captions.pkl``'s open form ``raw-captions.json`` (video to
    list of captions, or of lists of words) or in the corpus' own ``video_corpus.csv`` (columns ``VideoID``, ``Start``,
    ``End``, ``Language``, ``Description``; English ones are taken). Pickles are not read: they run code. Videos are
    ``VIDEOID_START_END.avi`` anywhere below ``folder``. Raises ``FileNotFoundError`` or ``ValueError``.
    """
    listed = first_file(folder, "test_list.txt", "*/test_list.txt").read_text().split()
    file = first_file(folder, "raw-captions.json", "*/raw-captions.json", "*video_corpus*.csv", "*/*video_corpus*.csv")
    found: dict[str, list[str]] = {}
    try:
        if file.suffix == ".json":
            for video, sentences in read_json(file).items():
                found[video] = [text if isinstance(text, str) else " ".join(text) for text in sentences]
        else:
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row["Language"] == "English" and row["Description"].strip():
                        video = f"{row['VideoID']}_{row['Start']}_{row['End']}"
                        found.setdefault(video, []).append(row["Description"].strip())
        captions = {video: found[video] for video in listed}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not an annotation file of MSVD, or lacks {error}") from None
    return _captioned(folder, captions, file)


def _captioned(folder: Path, captions: dict[str, list[str]], file: Path) -> list[Item]:
    paths = {path.stem: path for path in files_below(folder, VIDEO_SUFFIXES)}
    if missing := [video for video in captions if video not in paths]:
        raise FileNotFoundError(f"{len(missing)} videos of {file.name} are missing below {folder}, first {missing[0]}")
    return [
        Item(name_below(folder, paths[video]), paths[video], captions=tuple(texts)) for video, texts in captions.items()
    ]
