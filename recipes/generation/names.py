"""Plain English names of the things in draw_data.py, and their colours."""

from __future__ import annotations

import re

import numpy as np
from captions import Emoji
from PIL import Image

PERSON, PEOPLE, SIGNS = "\U0001f9d1", "\U0001f468\U0001f469", "\u2640\u2642"
"""Unicode's person, man and woman, and the female and male signs that end a sequence."""
LONGEST_NAME = 40
MISSPELT = {
    "trunck": "trunk",
    "teck": "teak",
    "hashtray": "ashtray",
    "mocassin": "moccasin",
    "gaz": "gas",
    "bended": "bent",
    "dreydl": "dreidel",
}
STAMPS = {
    "pengwin": "penguins with a trophy",
    "tux": "penguin",
    "bluegroper": "blue groper",
    "edward_bear": "teddy bear",
    "wildboar": "two wild boars",
    "cheese": "cheese",
    "tomato": "red tomato",
    "corn": "yellow corn",
    "digitalthermometer": "digital thermometer",
    "compact_disc": "compact disc",
    "explosion": "explosion",
    "hair_manga": "silver pigtails",
    "grannysmith": "rag doll",
    "chuvanna_plastic_poo": "red plastic flower",
    "grave-h": "tombstone",
    "moon_3qt": "moon",
    "moon_crescent": "crescent moon",
    "cityhouse": "two city houses",
    "arrow": "arrow sign",
    "blankroadsign": "empty road sign",
    "crossroads": "crossroads sign",
    "hospital": "hospital sign",
    "no_entry_sign": "no entry sign",
    "no_uturn": "no u-turn sign",
    "roundabout": "roundabout sign",
    "school_sign": "school sign",
    "stoplight_01_red": "red traffic light",
    "stoplight_02_yellow": "yellow traffic light",
    "stoplight_03_green": "green traffic light",
    "t-junction": "t-intersection sign",
    "toilets": "toilets sign",
    "xing_ped": "pedestrian crossing sign",
    "xing_school": "school crossing sign",
    "yield": "yield sign",
    "eddieCopter": "helicopter",
    "plane": "airplane",
    "tux_tractor": "penguin in a tractor",
}
"""Names of stamps, by file, whose text and file name are none."""
COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"}
COLOURS |= {"grey", "white", "black", "golden", "silver"}
"""Words that say a colour already."""
HUES = ((14, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (260, "blue"), (292, "purple"), (338, "pink"))
"""Upper ends in degrees; red again above the last."""
WHOLE, HALF = 0.7, 0.36
"""Share of the visible pixels that one colour needs to be said alone, and each of two to be said together."""

ALIKE = ({"orange", "yellow", "brown", "red"}, {"grey", "white", "black"})
"""Colours that shade into one another: two of them are no two colours."""


def plain(text: str) -> str:
    """Lower-case words: no brackets and quotation marks, at most commas, hyphens and apostrophes between them."""
    text = text.lower().replace("\u2019", "'").replace("&", " and ").replace("\\u20ac", " euros")
    text = re.sub(r"[:;\u2014]", ",", text)
    text = re.sub(r"[^\w\s,'%°/-]", " ", text)
    text = re.sub(r"\s+", " ", text).replace(" ,", ",").strip(" ,-")
    return " ".join(MISSPELT.get(word, word) for word in text.split(" "))


def stamp_name(line: str, stem: str) -> str:
    """What a stamp shows: the first line beside it where that is a name, else the file's name.

    Of "A wheel! Put the brake calipers toward the rear." it is the wheel; "Eat your broccoli" is no name.
    """
    if stem in STAMPS:
        return STAMPS[stem]
    first = plain(re.split(r"[.!?,(\u2014\u2013;]|--|, ", line.strip())[0])
    named = re.match(r"(?:an?|the|some) (?!.* (?:is|means|lets|gets|are|carries|last) )(.+)", first)
    if named and len(named[1]) <= LONGEST_NAME:
        name = named[1]
    elif 0 < len(first.split()) <= 2:
        name = first
    else:
        name = plain(re.sub(r"[_\d-]+|photo|mirror", " ", stem))
    return re.sub(r"^pair of ", "", name)


def emoji_bases(emoji: list[Emoji]) -> dict[str, str]:
    """The name of each emoji's base, by its own: a man, woman or person that does the same has one."""
    first: dict[str, str] = {}
    bases: dict[str, str] = {}
    for each in emoji:
        codes = "".join(PERSON if code in PEOPLE else code for code in each.text if code not in "\ufe0f\u200d" + SIGNS)
        name = plain(each.name)
        bases[name] = first.setdefault(codes, name)
    return bases


def base_of(name: str, bases: dict[str, str]) -> str:
    """The base of a stamp or a piece of furniture: its name without colours and final numbers, or that emoji's base."""
    words = [word for word in re.sub(r"[ \d]+$", "", name).split() if word not in COLOURS]
    base = " ".join(words) or name
    return bases.get(base, base)


def colour_words(picture: Image.Image) -> str:
    """The colour of what is visible of an RGBA picture, or two unlike ones ("red and white"); "" where none is sure."""
    pixels = np.asarray(picture.resize((48, 48), Image.Resampling.BOX), np.float32)
    rgb = pixels[pixels[:, :, 3] > 128][:, :3] / 255
    if not len(rgb):
        return ""
    found, counts = np.unique(_colours(rgb), return_counts=True)
    shares = sorted(zip((counts / len(rgb)).tolist(), found.tolist(), strict=True), reverse=True)
    words = [word for share, word in shares if share >= HALF]
    alone = len(words) == 1 and shares[0][0] >= WHOLE
    unlike = len(words) == 2 and not any(set(words) <= kin for kin in ALIKE)
    return " and ".join(words) if (alone or unlike) and "?" not in words else ""


def _colours(rgb: np.ndarray) -> np.ndarray:
    """The name of each colour, [n, 3] in 0 ... 1; "?" where people would differ."""
    high = rgb.max(1)
    chroma = high - rgb.min(1)
    saturation = chroma / np.maximum(high, 1e-6)
    r, g, b = rgb.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(high == r, (g - b) / safe % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    words = np.array([word for _, word in HUES] + ["red"])
    name = words[np.searchsorted([end for end, _ in HUES], hue)].astype("<U6")
    name[(name == "red") & (high > 0.8) & (saturation < 0.5)] = "pink"
    name[(name == "red") & (saturation < 0.65)] = "?"
    name[(name == "orange") & ((saturation < 0.7) | (high < 0.85))] = "?"  # skin, sand, cream
    name[(name == "yellow") & ((saturation < 0.5) | (high < 0.75))] = "?"
    name[(hue > 8) & (hue < 45) & (high < 0.72)] = "brown"
    name[saturation < 0.25] = "?"
    name[chroma < 0.1] = np.select([high > 0.88, high > 0.65, high > 0.3], ["white", "?", "grey"], "black")[
        chroma < 0.1
    ]
    name[(high < 0.3) & (chroma < 0.15)] = "black"
    return name
