"""Arrays from PyTorch files, read without running code in them."""

import pathlib

import numpy as np


def read_torch(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Read a torch state dict (zip or legacy pickle) as arrays, without running code in it.

    The checkpoint of a training, which holds it as "state_dict" or "model", is read as well. Names
    lose the prefix "module.", which DataParallel adds.

    Raises ImportError without torch, FileNotFoundError, or ValueError for other content.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights not found: {path}.")
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"reading {path} needs torch, an extra of this project: `pip install torch`."
        ) from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            if isinstance(loaded.get(key), dict):
                loaded = loaded[key]
        found = {str(n).removeprefix("module."): value.detach() for n, value in loaded.items()}
        if len(found) < max(len(loaded), 1):
            raise ValueError("it is empty, or has a name with and without the prefix")
        # A single number can be stored as a tensor of any size, and a copy would fill the memory.
        if any(value.nbytes > path.stat().st_size for value in found.values()):
            raise ValueError("a tensor claims to be larger than the file")
        arrays = {name: value.numpy() for name, value in found.items()}
    except Exception as error:
        # Not torch's message, which suggests loading the file in a way that runs code in it.
        raise ValueError(
            f"{path} is not a plain torch state dict: fetch it again, or save its tensors alone."
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{path} holds values that are not finite: fetch it again ({name}).")
    return arrays
