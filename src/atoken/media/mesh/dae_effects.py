"""The effects of a COLLADA file, rewritten so that trimesh takes what they mean: it reads ``diffuse`` and an alpha."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from .source import Source

LIBRARY = re.compile(rb"<library_effects\b.*?</library_effects\s*>", re.DOTALL)
SHADERS = ("constant", "lambert", "phong", "blinn")
LUMINANCE = np.array([0.212671, 0.715160, 0.072169])
"""Of linear RGB, as COLLADA 1.4.1 has it for ``RGB_ZERO``."""


def rewritten(source: Source) -> bytes:
    """The file with effects of diffuse colour and opacity alone; as it is where that is no XML, which trimesh says.

    A ``constant`` effect has its colour as emission. Light that others give off is left out, with a note.
    """
    return LIBRARY.sub(lambda found: _library(source, found[0]), source.data)


def _library(source: Source, text: bytes) -> bytes:
    try:
        library = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return text
    for shader in (element for element in library.iter() if element.tag in SHADERS):
        if shader.tag == "constant" and shader.find("diffuse") is None:
            for emission in shader.findall("emission"):
                emission.tag = "diffuse"
        _without_emission(source, shader)
        opacity = _opacity(source, shader)
        for element in [*shader.findall("transparent"), *shader.findall("transparency")]:
            shader.remove(element)
        for colour in shader.iterfind("diffuse/color"):
            colour.text = " ".join([*(colour.text or "").split()[:3], "1"])  # its alpha means nothing
        if opacity < 1:
            ElementTree.SubElement(ElementTree.SubElement(shader, "transparent"), "color").text = f"1 1 1 {opacity}"
    return ElementTree.tostring(library)


def _without_emission(source: Source, shader: ElementTree.Element) -> None:
    for emission in shader.findall("emission"):
        if emission.find("texture") is not None or (_numbers(emission)[:3] > 0).any():
            source.note("light that materials give off (emission) is left out")
        shader.remove(emission)


def _opacity(source: Source, shader: ElementTree.Element) -> float:
    """Of COLLADA 1.4.1, chapter 7, "Determining Transparency"; 1 where nothing says it."""
    colour, amount = shader.find("transparent"), shader.find("transparency")
    if colour is None and amount is None:
        return 1.0
    if colour is not None and colour.find("texture") is not None:
        source.note("a texture of transparency is left out")
        return 1.0
    mode = "A_ONE" if colour is None else colour.get("opaque", "A_ONE")
    *rgb, alpha = [*(np.ones(4) if colour is None else _numbers(colour)), 1.0, 1.0, 1.0, 1.0][:4]
    share = float(LUMINANCE @ rgb) if mode.startswith("RGB") else alpha
    share *= float([*_numbers(amount), 1.0][0]) if amount is not None else 1.0
    opacity = float(np.clip(1 - share if mode.endswith("ZERO") else share, 0, 1))
    if opacity == 0:
        source.note("a material has an opacity of 0, which some writers mean as opaque: it is taken so")
        return 1.0
    return opacity


def _numbers(element: ElementTree.Element) -> np.ndarray:
    """The finite numbers of a ``color`` or ``float`` in an element."""
    for child in element:
        try:
            return np.nan_to_num(np.array([float(word) for word in (child.text or "").split()]))
        except ValueError:
            continue
    return np.zeros(0)
