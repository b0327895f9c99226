"""How much memory a device has left, and how torch says that there is none."""

import torch


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated, or None when nobody can say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "cpu":
        return _available()
    return None


def _available() -> int | None:
    """MemAvailable of Linux: beyond it the kernel ends a process instead of refusing an allocation."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        return None
    return int(sizes[0]) * 1024 if sizes else None


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether torch failed to allocate; on a CPU it says so only in words."""
    words = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def in_words(nbytes: int) -> str:
    """12.3 GB."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"
