"""How busy the GPU of this process is, from NVIDIA's management library, where nvidia-ml-py is installed."""

import logging
from typing import Any

import torch


__all__ = ["GpuReader"]


logger = logging.getLogger(__name__)


class GpuReader:
    """Reads one GPU's utilisation and memory, all processes on it taken together."""

    def __init__(self, library: Any, handle: Any):
        """Use `open` instead.

        Args:
            library: The module pynvml, initialised.
            handle: Of the GPU.
        """
        self._library = library
        self._handle = handle

    @classmethod
    def open(cls, device: torch.device) -> "GpuReader | None":
        """Return a reader of a device, or `None` where there is no NVIDIA GPU, no nvidia-ml-py, or no driver for it.

        The GPU is found by its UUID: the library counts all GPUs of the machine, torch those in CUDA_VISIBLE_DEVICES,
        and each in an order of its own.
        """
        if device.type != "cuda" or torch.version.hip:
            return None
        try:
            import pynvml
        except ImportError:
            logger.info("GPU utilisation is not read: nvidia-ml-py is not installed")
            return None
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        try:
            pynvml.nvmlInit()
            # A part of a GPU (MIG) has a UUID with a word of its own.
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        except pynvml.NVMLError as error:
            logger.warning("GPU utilisation is not read: %s", error)
            return None
        return cls(pynvml, handle)

    def utilisation_percent(self) -> float | None:
        """Share of the last sample period, up to 1 s, in which a kernel ran; `None` where the driver does not tell."""
        try:
            return float(self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except self._library.NVMLError:
            return None

    def used_bytes(self) -> int | None:
        """Memory that is taken on the GPU; `None` where the driver does not tell."""
        try:
            return int(self._library.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._library.NVMLError:
            return None
