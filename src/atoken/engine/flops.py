"""What a device could do at most: the arithmetic of a step over it is the MFU."""

from __future__ import annotations

import torch

from ..core.machine import matmul_peak

H100_PEAK = 989.4e12
PEAKS = (
    ("B200", 2250e12),
    ("H200", H100_PEAK),
    ("GH200", H100_PEAK),
    ("H100 NVL", 835.5e12),
    ("H100 PCIe", 756.5e12),
    ("H100", H100_PEAK),
    ("L40S", 362.0e12),
    ("L4", 121.0e12),
    ("A100", 312.0e12),
    ("A10G", 70.0e12),
    ("A10", 125.0e12),
    ("RTX 4090", 165.2e12),
    ("V100", 125.0e12),
)
"""Dense bf16 (V100: fp16) operations a second by the vendor's data sheets, for the first name that a device's holds."""


def device_peak(device: str, autocast: bool) -> float:
    """Operations a second that MFU is reckoned with: the data sheet's of bf16 for a known GPU, whatever ``autocast``
    says; else the fastest matrix product of the dtype in use, measured here.
    """
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := next((peak for part, peak in PEAKS if part in name), None):
            return known
    return matmul_peak(device, torch.bfloat16 if autocast else torch.float32)
