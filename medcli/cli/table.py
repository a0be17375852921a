"""The command table: name -> (module with an `app`, one line of help)."""

TABLE = {
    "quickstart": ("medcli.cli.quickstart", "the whole life of a small model, with no download"),
    "init": ("medcli.cli.init", "set up a project: a few questions, a med.toml, three commands"),
    "doctor": ("medcli.cli.doctor", "what stands in the way of work, and how to mend it"),
    "clean": ("medcli.cli.clean", "show and free what med can do without"),
    "data": ("medcli.cli.data", "build, list and look at data sets"),
    "train": ("medcli.cli.train", "fine-tune a model on a data set"),
    "runs": ("medcli.cli.runs", "list, compare and remove training runs"),
    "eval": ("medcli.cli.eval", "let models sit exams, and compare them"),
    "chat": ("medcli.cli.chat", "talk with a model or a run"),
    "predict": ("medcli.cli.predict", "answer every prompt of a file"),
    "serve": ("medcli.cli.serve", "models over HTTP, as OpenAI's API, and on a page"),
    "kb": ("medcli.cli.kb", "build knowledge bases that answers rest on"),
    "merge": ("medcli.cli.merge", "turn a run into a plain model folder, and prove it equal"),
    "export": ("medcli.cli.export", "write a model for other programs, with its card, or push it"),
}
