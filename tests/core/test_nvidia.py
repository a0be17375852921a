"""The texts of nvidia-smi, of drivers old and new."""

from medcli.core.nvidia import Driver, NvidiaCard, Program, cards_in, driver_in, programs_in

PAGE = """Sun Nov 29 08:00:00 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
"""


def test_the_driver_tells_its_version_and_its_newest_cuda():
    assert driver_in(PAGE) == Driver(version="550.54.15", cuda=(12, 4))


def test_a_page_that_says_which_cuda_it_means_is_read_too():
    assert driver_in("Driver Version: 590.10   CUDA UMD Version: 13.1") == Driver(version="590.10", cuda=(13, 1))


def test_an_error_is_no_driver():
    assert driver_in("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") is None


def test_a_driver_that_knows_no_cuda():
    assert driver_in("Driver Version: 570.1   CUDA Version: N/A") == Driver(version="570.1", cuda=None)


def test_cards_are_read_with_commas_in_their_names():
    listing = "0, NVIDIA H200, 143771, 143360, 9.0\n1, Quadro, special, 16384, 512, 7.5\n"
    one, other = cards_in(listing)
    assert (one.name, round(one.total, 1), one.has_bf16) == ("NVIDIA H200", 140.4, True)
    assert other == NvidiaCard(index=1, name="Quadro, special", total=16.0, free=0.5, capability="7.5")
    assert not other.has_bf16


def test_an_old_driver_that_does_not_know_the_capability():
    (card,) = cards_in("0, Tesla K80, 11441, 11441, [N/A]")
    assert (card.capability, card.has_bf16) == ("", False)


def test_lines_that_are_no_cards_are_left_out():
    assert cards_in("No devices were found\n0, NVIDIA A100, [N/A], [N/A], 8.0\n\n") == ()


def test_programs_that_hold_memory():
    listing = "1234, /usr/bin/python3, train.py, 20480\n77, [Not Found], [N/A]\n"
    assert programs_in(listing) == (Program(process=1234, name="/usr/bin/python3, train.py", memory=20.0),)
