"""Everything that touches torch, and the only folder with heavy imports at the top of a file.

What follows is read by transformers and huggingface_hub when they are imported; importing them here would cost each
command of `med data` a second.
"""

import logging
import os

# transformers' own bars and advice would tear ours apart; what matters of it is raised as an error.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of loading and saving weights know no other switch
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it warns of a kernel nobody here needs
