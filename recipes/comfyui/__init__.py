"""The nodes of AToken, where ComfyUI looks for them: copy this folder to ``ComfyUI/custom_nodes/atoken``."""

from atoken.adapters.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
