"""Readers, each on a small set in the layout of the real one."""

import json

from evaluation_pictures import smooth

from atoken import write_image
from atoken.evaluation.datasets import Item, read_layout
from atoken.evaluation.understand import check_items
from atoken.evaluation.videos import read_video_frames
from refusals import refused


def test_a_folder_of_pictures(tmp_path):
    for name in ("b.png", "a/c.jpg", ".hidden/d.png"):
        write_image(tmp_path / name, smooth(name, 16, 16))
    (tmp_path / "notes.txt").write_text("no picture")
    assert [item.name for item in read_layout(tmp_path, None, "image")] == ["a/c.jpg", "b.png"]
    (tmp_path / "empty").mkdir()
    with refused(tmp_path / "empty", error=FileNotFoundError):
        read_layout(tmp_path / "empty", "folder", "image")
    with refused(tmp_path / "nowhere", error=FileNotFoundError):
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
    with refused(tmp_path, error=FileNotFoundError):
        read_layout(tmp_path, "imagenet", "image")
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(rows))
    items = read_layout(tmp_path, "imagenet", "image")
    assert [(item.name, item.label, item.class_name) for item in items] == [
        ("ILSVRC2012_val_00000001.JPEG", 2, "tabby"),
        ("ILSVRC2012_val_00000002.JPEG", 1, "goldfish"),
    ]


def test_imagenet_as_kaggle_has_it(tmp_path):
    """Files of classes four levels above the pictures, with Windows' line ends, a byte order mark and several boxes."""
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"\xef\xbb\xbf" + SYNSETS.replace("\n", "\r\n").encode())
    rows = "ImageId,PredictionString\r\nv_2,n02123045 1 2 3 4 n02123045 5 6 7 8 \r\nv_3,n01443537 1 2 3 4\r\n"
    (tmp_path / "LOC_val_solution.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode() + b"v_1,n01440764 1 2 3 4 \r\n")
    val = tmp_path / "ILSVRC/Data/CLS-LOC/val"
    touch(val, "v_1.JPEG", "v_2.JPEG", "v_3.JPEG")
    touch(tmp_path / "ILSVRC/Data/CLS-LOC", "train/n01440764/n01440764_1.JPEG", "test/t_1.JPEG")
    expected = [("v_1.JPEG", 0, "tench"), ("v_2.JPEG", 2, "tabby"), ("v_3.JPEG", 1, "goldfish")]
    for folder in (val, tmp_path):
        items = read_layout(folder, "imagenet", "image")
        assert [(item.path.name, item.label, item.class_name) for item in items] == expected


def test_imagenet_pairs_pictures_with_their_own_classes(tmp_path):
    (tmp_path / "synset_words.txt").write_text(SYNSETS)
    touch(tmp_path, "v_2.JPEG", "v_3.JPEG")
    solution = tmp_path / "LOC_val_solution.csv"
    head = "ImageId,PredictionString\n"
    solution.write_text(f"{head}v_1,n01440764 1\nv_2,n01443537 1\nv_3,n02123045 1\n")  # more than there are
    assert [item.label for item in read_layout(tmp_path, "imagenet", "image")] == [1, 2]
    for text, *named in (
        (f"{head}v_1,n01440764 1\nv_2,n01443537 1\n", "1 of 2", "v_3.JPEG"),  # as many as there are
        (f"{head}v_2,\nv_3,n01440764\n", "v_2.JPEG"),
        (f"{head}v_2,n09 1\nv_3,n01440764\n", "'n09'"),
        ("image,class\nv_2,n01440764\n", solution, "'ImageId'"),
        (f'{head}v_2,"n01440764\nv_3,n01440764\n', f"{solution}, line"),
    ):
        solution.write_text(text)
        with refused(*named):
            read_layout(tmp_path, "imagenet", "image")
    touch(tmp_path, "n01440764/v_1.JPEG")
    with refused("v_2.JPEG", "synset"):
        read_layout(tmp_path, "imagenet", "image")


def test_classes_of_one_first_name_are_told_apart(tmp_path):
    words = "n1 Cardigan, Cardigan Welsh corgi\nn2 cardigan\nn3 maillot\nn4 maillot, tank suit\nn5 tench, Tinca tinca\n"
    (tmp_path / "synset_words.txt").write_text(words)
    touch(tmp_path, *(f"n{i}/a.JPEG" for i in range(1, 6)))
    names = [item.class_name for item in read_layout(tmp_path, "imagenet", "image")]
    assert names == ["Cardigan, Cardigan Welsh corgi", "cardigan", "maillot", "maillot, tank suit", "tench"]


def test_links_to_folders_are_followed_and_end(tmp_path):
    touch(tmp_path, "elsewhere/b.png", "set/a.png", "set/frames.png/c.jpg")
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "set")
    names = [item.name for item in read_layout(tmp_path / "set", "folder", "image")]
    assert names == ["a.png", "frames.png/c.jpg", "link/b.png"]


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
    with refused("captions_val2017.json", items[0].path.name, error=FileNotFoundError):
        read_layout(tmp_path, "coco", "image")
    file.write_text("{}")
    with refused(file, "COCO"):
        read_layout(tmp_path, "coco", "image")


def test_davis_frames(tmp_path):
    for video in ("bear", "camel"):
        for index in range(3):
            write_image(tmp_path / f"JPEGImages/1080p/{video}/{index:05d}.jpg", smooth(f"{video}{index}", 20, 30))
    items = read_layout(tmp_path, None, "video")
    assert [item.name for item in items] == ["JPEGImages/1080p/bear", "JPEGImages/1080p/camel"]
    assert read_video_frames(items[0].path).shape == (3, 20, 30, 3)
    write_image(items[0].path / "00003.jpg", smooth("z", 10, 10))
    with refused(items[0].path):
        read_video_frames(items[0].path)


def test_davis_masks_and_other_sizes_are_no_videos(tmp_path):
    touch(tmp_path, "JPEGImages/480p/bear/00000.jpg", "Annotations/480p/bear/00000.png", "ImageSets/2017/val.txt")
    assert [item.name for item in read_layout(tmp_path, None, "video")] == ["JPEGImages/480p/bear"]
    touch(tmp_path, "JPEGImages/Full-Resolution/bear/00000.jpg")
    with refused("480p"):
        read_layout(tmp_path, None, "video")
    assert [item.name for item in read_layout(tmp_path / "JPEGImages/480p", None, "video")] == ["bear"]


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
    with refused("video7020", error=FileNotFoundError):
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
    with refused("other_1_2"):
        read_layout(tmp_path, "msvd", "video")


def test_annotations_that_are_damaged_name_the_file(tmp_path):
    touch(tmp_path, "v1.mp4", "v1_1_2.avi", "low/v1.webm")
    (tmp_path / "test_list.txt").write_bytes(b"\xef\xbb\xbfv1_1_2\r\n")
    corpus = "VideoID,Start,End,Language,Description\r\nv1,1,2,English,A bird.\r\n\r\nv1,1,2\r\nv1,1,2,English,\r\n"
    (tmp_path / "MSR Video Description Corpus.csv").write_bytes(b"\xef\xbb\xbf" + corpus.encode())
    (item,) = read_layout(tmp_path, "msvd", "video")
    assert item.captions == ("A bird.",)
    csv = "MSRVTT_JSFUSION_test.csv"
    for name, content, layout, *named in (
        ("raw-captions.json", b'{"v1_1_2": "a bird"}', "msvd", "raw-captions.json"),
        ("raw-captions.json", b'{"v1_1_2": [3]}', "msvd", "raw-captions.json"),
        ("raw-captions.json", b"[1]", "msvd", "raw-captions.json", "MSVD"),
        ("raw-captions.json", b'{"v1_1_2"', "msvd", "raw-captions.json", "JSON"),
        ("test_list.txt", b"", "msvd", "'msvd'"),
        (csv, b"video_id,sentence\nv1,a bird\n", "msrvtt", "v1.mp4", "low/v1.webm"),
        (csv, b"id,sentence\nv1,a bird\n", "msrvtt", csv, "'video_id'"),
        (csv, b'video_id,sentence\nv1,"a bird\nv2,a dog\n', "msrvtt", f"{csv}, line 3"),
        (csv, b"video_id,sentence\nv1,a b\xefrd\n", "msrvtt", csv, "UTF-8"),
        (csv, b"", "msrvtt", csv),
        ("captions_x.json", b"\xff", "coco", "captions_x.json", "UTF-8"),
        ("captions_x.json", b'{"images": [], "annotations": []}', "coco", "'coco'"),
        (
            "captions_x.json",
            b'{"images": [{"id": 1}], "annotations": []}',
            "coco",
            "captions_x.json",
            "images",
            "annotations",
        ),
        (
            "captions_x.json",
            b'{"images": [{"id": 1, "file_name": "../v1.mp4"}], "annotations": []}',
            "coco",
            "captions_x.json",
            "../v1.mp4",
        ),
        ("captions_x.json", b"[" * 100_000, "coco", "captions_x.json", "JSON"),
        ("index.json", b'[{"id": "a"}]', "furniture", "index.json", "id, name"),
        (
            "index.json",
            b'[{"id": "../a", "name": "a", "category": "b", "split": "test"}]',
            "furniture",
            "index.json",
            "../a.npz",
        ),
        ("index.json", b"[]", "furniture", "'furniture'"),
    ):
        (tmp_path / name).write_bytes(content)
        with refused(*named):
            read_layout(tmp_path, layout, None)
        if name == "raw-captions.json":
            (tmp_path / name).unlink()


def test_a_listed_video_without_captions_is_not_left_out(tmp_path):
    touch(tmp_path, "video1.mp4", "video2.mp4")
    videos = [{"video_id": f"video{i}", "split": "test"} for i in (1, 2)]
    values = {"videos": videos, "sentences": [{"video_id": "video1", "caption": "a bird"}]}
    (tmp_path / "test_videodatainfo.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(values).encode())
    items = read_layout(tmp_path, "msrvtt", "video")
    assert [item.captions for item in items] == [("a bird",), ()]
    with refused("video2.mp4"):
        check_items("retrieval", items)
    with refused("a has"):
        check_items("retrieval", [Item("a", tmp_path, captions=("a bird", " "))])


def test_toys4k_class_folders(tmp_path):
    touch(tmp_path, "airplane/airplane_000/mesh.obj", "fire_truck/t_1/mesh.glb", "airplane/airplane_001/mesh.obj")
    items = read_layout(tmp_path, "assets", "3d")
    assert [(item.label, item.class_name) for item in items] == [(0, "airplane"), (0, "airplane"), (1, "fire truck")]
    touch(tmp_path, "stray.obj")
    with refused("stray.obj"):
        read_layout(tmp_path, "assets", "3d")
    touch(tmp_path, "toys4k_obj_files/apple/apple_000/mesh.obj", "toys4k_point_clouds/apple/apple_000/pc10K.npz")
    items = read_layout(tmp_path, "assets", "3d")  # as its archives lie beside each other
    assert [item.class_name for item in items] == ["apple"]
    with refused("apple"):
        check_items("zero-shot", items)


def test_layouts_that_do_not_fit(tmp_path):
    with refused("imagnet", "imagenet"):
        read_layout(tmp_path, "imagnet", "image")
    with refused("coco", "videos, msrvtt, msvd"):
        read_layout(tmp_path, "coco", "video")
