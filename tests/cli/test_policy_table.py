"""A policy's steps are rows under a head that comes again; other figures are no policy's."""

from medcli.cli.policy_table import PolicyTable

FIGURES = {"reward": 1.25, "kl": 0.5, "clip_fraction": 0.03, "value_loss": 0.7, "response_length": 12.0}


def test_columns_stand_under_their_titles_and_the_head_comes_again():
    table = PolicyTable()
    pages = [table.lines(step, FIGURES) for step in range(1, 22)]
    head, row = pages[0]
    assert " ".join(head.split()) == "step reward KL entropy clipped value loss length ended held out tok/s"
    for title, cell in (("reward", "1.250"), ("KL", "0.500"), ("clipped", "3.0%"), ("value loss", "0.7000")):
        assert head.index(title) + len(title) == row.index(cell) + len(cell)
    assert [len(lines) for lines in pages] == [2, *[1] * 19, 2]


def test_figures_of_other_runs_make_no_row():
    table = PolicyTable()
    assert table.lines(1, {"loss": 0.5, "accuracy": 0.9}) == []
    assert table.lines(1, {"reward": 0.1, "accuracy": 0.9}) == []  # a reward model's
