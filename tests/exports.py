"""What tests of exports share: runs written by hand, and converters of a few lines."""

import shutil
import textwrap
from pathlib import Path

from medcli.core.run_folder import RunFolder

CONVERTER = """
import os, sys
model, target = sys.argv[1], sys.argv[3]
with open(target, "wb") as file:
    file.write(b"GGUF" + " ".join(sorted(os.listdir(model))).encode())
"""


def converter(folder, text=CONVERTER):
    path = Path(folder) / "convert_hf_to_gguf.py"
    path.write_text(textwrap.dedent(text), "utf-8")
    return str(path)


def run(path, *, base="med-tiny", adapters=(), method="lora", data=None, settings=None, result=None):
    """A finished run's folder with its run.toml alone."""
    folder = RunFolder(Path(path))
    folder.path.mkdir(parents=True, exist_ok=True)
    given = {"dataset": list(data or {}), "epochs": 3} | (settings or {})
    folder.write_table(
        {
            "run": {"method": method, "status": "finished", "started": "2026-01-01T00:00:00", "med": "0"},
            "settings": given,
            "origins": {name: "default" if name == "epochs" else "flag" for name in given},
            "model": {"base": str(base), "adapters": [str(one) for one in adapters], "template": "chatml"},
            "data": data or {},
            "result": {"steps": 7, "loss": 0.5, **(result or {})},
            "versions": {"torch": "2", "transformers": "5", "peft": "0"},
        }
    )
    return folder


def whole_run(path, model, template=None):
    """A run that trained every weight: its model is a copy of `model`."""
    folder = run(path, method="full")
    shutil.copytree(model, folder.model)
    if template:
        folder.template_file.write_text(template, "utf-8")
    return folder
