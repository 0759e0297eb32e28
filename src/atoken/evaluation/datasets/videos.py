"""Video data: a folder (DAVIS, TokenBench), MSRVTT and MSVD with their captions."""

from __future__ import annotations

from pathlib import Path

from ...media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .items import Item, files_below, first_file, name_below, read_csv, read_json, read_text


def video_folder(folder: Path) -> list[Item]:
    """Every video below ``folder``; where there are no video files, every folder of frames.

    TokenBench comes as files; DAVIS as folders of numbered JPEGs (``JPEGImages/1080p/bear/00000.jpg``), which are read
    in the order of their names; its masks beside ``JPEGImages`` are no videos. Raises ``FileNotFoundError``, and
    ``ValueError`` where ``JPEGImages`` holds the videos in several sizes.
    """
    try:
        return [Item(name_below(folder, path), path) for path in files_below(folder, VIDEO_SUFFIXES)]
    except FileNotFoundError:
        davis = folder / "JPEGImages"
        root = davis if davis.is_dir() else folder
        places = sorted({frame.parent for frame in files_below(root, IMAGE_SUFFIXES)})
        sizes = sorted({place.parent for place in places})
        if root == davis and len(sizes) > 1:
            raise ValueError(f"{davis} holds {len(sizes)} sizes: give one of them, such as {sizes[0]}") from None
        return [Item(name_below(folder, path) if path != folder else path.name, path) for path in places]


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
    if file.suffix == ".csv":
        for video, text in read_csv(file, "video_id", "sentence"):
            captions.setdefault(video, []).append(text.strip())
        return _captioned(folder, captions, file)
    values = read_json(file)
    try:
        captions = {video["video_id"]: [] for video in values["videos"] if video["split"] == "test"}
        for sentence in values["sentences"]:
            if sentence["video_id"] in captions:
                captions[sentence["video_id"]].append(sentence["caption"].strip())
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not an annotation file of MSRVTT: it needs videos and sentences") from None
    return _captioned(folder, captions, file)


def msvd(folder: Path) -> list[Item]:
    """MSVD's test videos with all their captions.

    ``test_list.txt`` (one video a line), captions in ``raw-captions.pkl``'s open form ``raw-captions.json`` (video to
    list of captions, or of lists of words) or in the corpus' own ``MSR Video Description Corpus.csv``, also called
    ``video_corpus.csv`` (columns ``VideoID``, ``Start``, ``End``, ``Language``, ``Description``; English ones are
    taken). Pickles are not read: they run code. Videos are ``VIDEOID_START_END.avi`` anywhere below ``folder``. Raises
    ``FileNotFoundError`` or ``ValueError``.
    """
    listed = read_text(first_file(folder, "test_list.txt", "*/test_list.txt")).split()
    names = ("raw-captions.json", "*video_corpus*.csv", "MSR Video Description Corpus.csv")
    file = first_file(folder, *(place + name for name in names for place in ("", "*/")))
    found: dict[str, list[str]] = {}
    if file.suffix == ".json":
        values = read_json(file)
        if not isinstance(values, dict) or not all(isinstance(texts, list) for texts in values.values()):
            raise ValueError(f"{file} is not a caption file of MSVD: it needs a list of captions for each video")
        try:
            found = {v: [t if isinstance(t, str) else " ".join(t) for t in texts] for v, texts in values.items()}
        except TypeError:
            raise ValueError(f"{file} has a caption that is neither a text nor a list of words") from None
    else:
        columns = ("VideoID", "Start", "End", "Language", "Description")
        for video, start, end, language, text in read_csv(file, *columns, strict=False):  # typed by many hands
            if language == "English" and text.strip():
                found.setdefault(f"{video}_{start}_{end}", []).append(text.strip())
    if missing := [video for video in listed if video not in found]:
        raise ValueError(f"{file} has no captions of {len(missing)} listed videos, first {missing[0]}")
    return _captioned(folder, {video: found[video] for video in listed}, file)


def _captioned(folder: Path, captions: dict[str, list[str]], file: Path) -> list[Item]:
    paths: dict[str, list[Path]] = {}
    for path in files_below(folder, VIDEO_SUFFIXES):
        paths.setdefault(path.stem, []).append(path)
    if missing := [video for video in captions if video not in paths]:
        raise FileNotFoundError(f"{len(missing)} videos of {file.name} are missing below {folder}, first {missing[0]}")
    if twice := [paths[video] for video in captions if len(paths[video]) > 1]:
        raise ValueError(f"{twice[0][0]} and {twice[0][1]} are both {twice[0][0].stem}: keep one of them")
    return [
        Item(name_below(folder, paths[video][0]), paths[video][0], captions=tuple(texts))
        for video, texts in captions.items()
    ]
