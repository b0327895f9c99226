"""What goes to a device and back."""

from types import SimpleNamespace

import pytest
import torch

from mistral_local.kernels.transfer import HostCopy


def test_the_device_is_waited_for_even_where_nothing_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that samples nothing has read its numbers from pinned memory, which is written again when it has ended."""
    waits: list[str] = []
    event = SimpleNamespace(synchronize=lambda: waits.append("waited"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(record_event=lambda: event))
    copy = HostCopy([], torch.device("cuda", 0))
    assert not waits
    assert copy.wait() == []
    assert waits == ["waited"]


def test_tensors_of_the_host_are_there_at_once() -> None:
    tensor = torch.arange(3)
    assert HostCopy([tensor, None], torch.device("cpu")).wait() == [tensor, None]
