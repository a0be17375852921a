"""What torch says of this machine, as one line of JSON: `python -m medcli.engine.hardware`.

`med doctor` runs it as a process of its own. A broken torch raises when it is imported, or ends the whole process, and
a doctor must outlive both. transformers is imported after that line is out, which a second one tells.
"""

import json
import sys
from importlib import import_module
from typing import Any

_NEEDED = "transformers.modeling_utils"  # what every model is built on; `import transformers` alone loads nothing


def facts() -> dict[str, Any]:
    """The version and build of torch, and the GPUs that it can use: name, memory in bytes, bf16."""
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "rocm": torch.version.hip or "",
        "gpus": [_gpu(number) for number in range(seen)],
        "threads": torch.get_num_threads(),
    }


def _gpu(number: int) -> dict[str, Any]:
    import torch

    about = torch.cuda.get_device_properties(number)
    with torch.cuda.device(number):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return {
        "name": about.name,
        "memory": about.total_memory,
        "capability": f"{about.major}.{about.minor}",
        "bf16": bf16,
    }


def main() -> None:
    """Print a line as soon as torch has told its facts, and one when transformers could be imported."""
    _tell(facts())
    import_module(_NEEDED)
    _tell({"imported": _NEEDED})


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
