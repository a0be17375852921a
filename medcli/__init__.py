"""med: one command suite that carries a Chinese medical language model through its life."""

__version__ = "0.1.0"
