"""The GPU's utilisation: absent where there is no GPU, the driver's figure where there is one."""

import pytest
import torch

from modeling_astrobio.training.monitoring.gpu_use import GpuReader


def test_there_is_no_reader_of_a_cpu():
    assert GpuReader.open(torch.device("cpu")) is None


@pytest.mark.gpu
def test_a_gpu_is_found_by_its_uuid_and_read():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: pip install nvidia-ml-py")
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    reader = GpuReader.open(device)
    assert reader is not None
    before = reader.used_bytes()
    held = torch.ones(2**28, device=device)
    torch.cuda.synchronize(device)
    # Another process on the same GPU could free as much in this moment; a wrong GPU would show no change at all.
    assert reader.used_bytes() - before >= held.nbytes
    assert 0.0 <= reader.utilisation_percent() <= 100.0
