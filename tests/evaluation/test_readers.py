"""Readers, each on a small set in the layout of the real one."""

import json

import pytest
from evaluation_pictures import smooth

from atoken import write_image
from atoken.evaluation.readers import read_layout
from atoken.evaluation.videos import read_video_frames


def test_a_folder_of_pictures(tmp_path):
    for name in ("b.png", "a/c.jpg", ".hidden/d.png"):
        write_image(tmp_path / name, smooth(name, 16, 16))
    (tmp_path / "notes.txt").write_text("no picture")
    assert [item.name for item in read_layout(tmp_path, None, "image")] == ["a/c.jpg", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no file in"):
        read_layout(tmp_path / "empty", "folder", "image")
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_layout(tmp_path / "nowhere", "folder", "image")


SYNSETS = "n01443537 goldfish, Carassius auratus\nn01440764 tench, Tinca tinca\nn02123045 tabby, tabby cat\n"


def test_imagenet_by_synset_folders(tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text(SYNSETS)
    for name in ("n01440764/ILSVRC2012_val_00000293.JPEG", "n02123045/ILSVRC2012_val_00000004.JPEG"):
        (tmp_path / "val" / name).parent.mkdir(parents=True)
        write_image(tmp_path / "x.jpeg", smooth(name, 16, 16))
        (tmp_path / "x.jpeg").rename(tmp_path / "val" / name)
    items = read_layout(tmp_path / "val", "imagenet", "image")
    assert [(item.label, item.class_name) for item in items] == [(0, "tench"), (2, "tabby")]


def test_imagenet_flat_with_its_solution(tmp_path):
    (tmp_path / "synset_words.txt").write_text(SYNSETS)
    rows = ["ImageId,PredictionString"]
    for index, synset in ((2, "n01443537"), (1, "n02123045")):
        name = f"ILSVRC2012_val_{index:08d}"
        (tmp_path / f"{name}.JPEG").write_bytes(b"not opened")
        rows.append(f"{name},{synset} 1 2 3 4 ")
    with pytest.raises(FileNotFoundError, match="classes are not known"):
        read_layout(tmp_path, "imagenet", "image")
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(rows))
    items = read_layout(tmp_path, "imagenet", "image")
    assert [(item.name, item.label, item.class_name) for item in items] == [
        ("ILSVRC2012_val_00000001.JPEG", 2, "tabby"),
        ("ILSVRC2012_val_00000002.JPEG", 1, "goldfish"),
    ]


def test_coco_captions(tmp_path):
    images = [{"id": 139, "file_name": "000000000139.jpg"}, {"id": 7, "file_name": "000000000007.jpg"}]
    captions = [(7, "A cat. "), (139, "A dog."), (7, "Another cat.")]
    annotations = [{"id": i, "image_id": image, "caption": text} for i, (image, text) in enumerate(captions)]
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/captions_val2017.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    for image in images:
        write_image(tmp_path / "val2017" / image["file_name"], smooth("c", 16, 16))
    items = read_layout(tmp_path, "coco", "image")
    assert [(item.name, item.captions) for item in items] == [
        ("000000000139.jpg", ("A dog.",)),
        ("000000000007.jpg", ("A cat.", "Another cat.")),
    ]
    assert items[0].path.is_file()
    items[0].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 pictures of captions_val2017.json are missing"):
        read_layout(tmp_path, "coco", "image")
    file.write_text("{}")
    with pytest.raises(ValueError, match="not a COCO caption file"):
        read_layout(tmp_path, "coco", "image")


def test_davis_frames(tmp_path):
    for video in ("bear", "camel"):
        for index in range(3):
            write_image(tmp_path / f"JPEGImages/1080p/{video}/{index:05d}.jpg", smooth(f"{video}{index}", 20, 30))
    items = read_layout(tmp_path, None, "video")
    assert [item.name for item in items] == ["JPEGImages/1080p/bear", "JPEGImages/1080p/camel"]
    assert read_video_frames(items[0].path).shape == (3, 20, 30, 3)
    write_image(items[0].path / "00003.jpg", smooth("z", 10, 10))
    with pytest.raises(ValueError, match="one size"):
        read_video_frames(items[0].path)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_video_files_come_before_frames(tmp_path):
    touch(tmp_path, "b.mp4", "a/c.webm", "thumbnail.jpg")
    assert [item.name for item in read_layout(tmp_path, "videos", "video")] == ["a/c.webm", "b.mp4"]


def test_msrvtt_1k_a_and_original(tmp_path):
    touch(tmp_path, "videos/all/video7020.mp4", "videos/all/video7021.mp4", "videos/all/video1.mp4")
    original = {
        "videos": [
            {"video_id": "video7020", "split": "test"},
            {"video_id": "video7021", "split": "test"},
            {"video_id": "video1", "split": "train"},
        ],
        "sentences": [
            {"video_id": "video7021", "caption": "a man sings"},
            {"video_id": "video1", "caption": "a dog runs"},
            {"video_id": "video7020", "caption": "a woman"},
            {"video_id": "video7021", "caption": "someone sings"},
        ],
    }
    (tmp_path / "test_videodatainfo.json").write_text(json.dumps(original))
    items = {item.name: item.captions for item in read_layout(tmp_path, "msrvtt", "video")}
    assert items == {
        "videos/all/video7021.mp4": ("a man sings", "someone sings"),
        "videos/all/video7020.mp4": ("a woman",),
    }
    csv = 'key,vid_key,video_id,sentence\nret0,msr7020,video7020,"a woman, smiling"\n'
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(csv)
    items = read_layout(tmp_path, "msrvtt", "video")
    assert [(item.name, item.captions) for item in items] == [("videos/all/video7020.mp4", ("a woman, smiling",))]
    (tmp_path / "videos/all/video7020.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="first video7020"):
        read_layout(tmp_path, "msrvtt", "video")


def test_msvd_with_either_caption_file(tmp_path):
    touch(tmp_path, "YouTubeClips/mv89psg6zh4_33_46.avi", "YouTubeClips/4wsuPCjDBh0_5_15.avi")
    (tmp_path / "test_list.txt").write_text("mv89psg6zh4_33_46\n")
    (tmp_path / "video_corpus.csv").write_text(
        "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
        "mv89psg6zh4,33,46,588702,unverified,55,Slovene,Papagaj.\n"
        "mv89psg6zh4,33,46,362812,unverified,33,English,A bird bathes.\n"
        "4wsuPCjDBh0,5,15,1,clean,3,English,A squirrel.\n"
    )
    expected = [("YouTubeClips/mv89psg6zh4_33_46.avi", ("A bird bathes.",))]
    assert [(item.name, item.captions) for item in read_layout(tmp_path, "msvd", "video")] == expected
    (tmp_path / "raw-captions.json").write_text(json.dumps({"mv89psg6zh4_33_46": [["a", "bird"], "a parakeet"]}))
    items = read_layout(tmp_path, "msvd", "video")
    assert items[0].captions == ("a bird", "a parakeet")
    (tmp_path / "test_list.txt").write_text("mv89psg6zh4_33_46\nother_1_2\n")
    with pytest.raises(ValueError, match="other_1_2"):
        read_layout(tmp_path, "msvd", "video")


def test_toys4k_class_folders(tmp_path):
    touch(tmp_path, "airplane/airplane_000/mesh.obj", "fire_truck/t_1/mesh.glb", "airplane/airplane_001/mesh.obj")
    items = read_layout(tmp_path, "assets", "3d")
    assert [(item.label, item.class_name) for item in items] == [(0, "airplane"), (0, "airplane"), (1, "fire truck")]
    touch(tmp_path, "stray.obj")
    with pytest.raises(ValueError, match="no class folder"):
        read_layout(tmp_path, "assets", "3d")


def test_layouts_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="no layout 'imagnet'"):
        read_layout(tmp_path, "imagnet", "image")
    with pytest.raises(ValueError, match="these do: videos, msrvtt, msvd"):
        read_layout(tmp_path, "coco", "video")
