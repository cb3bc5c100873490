"""A GGUF file written once as a folder in Hugging Face format: float16 safetensors, tokenizer.

``python -m tokenscope.library.convert FILE FOLDER``. The weights are the file's own numbers, taken
out of their blocks; transformers does it, and needs the package ``gguf`` for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def convert(gguf: Path, folder: Path) -> None:
    """Write ``folder``. Raises what transformers raises for a file that it cannot read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    config = AutoConfig.from_pretrained(**where)
    read: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    plain: Any = type(read)(
        config
    )  # the one that was read refuses to be saved: it counts as packed
    plain.load_state_dict(read.state_dict())
    plain.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
