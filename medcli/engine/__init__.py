"""Everything that touches torch, and the only folder with heavy imports at the top of a file."""

import logging

import transformers

# transformers' own bars and advice would tear ours apart; what matters of it is raised as an error.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it warns of a kernel nobody here needs
