"""The quick part of the campaign holds; the long part, with kills, is slow."""

import pytest

from tests.campaign.__main__ import COUNTS, KILLS, campaign, report


def test_the_quick_part():
    tallies = campaign()
    print(report(tallies))
    assert {name: tally.tried for name, tally in tallies.items()} == {
        name: quick for name, (quick, _) in COUNTS.items()
    }
    assert not [fault for tally in tallies.values() for fault in tally.faults], report(tallies)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_long_part():
    tallies = campaign(long=True, seed=1)
    print(report(tallies))
    assert [tallies[f"kills {workers}"].tried for workers in KILLS] == list(KILLS.values())
    assert not [fault for tally in tallies.values() for fault in tally.faults], report(tallies)


def test_a_case_is_the_same_again():
    from tests.campaign.running import run_cases

    once, again = (run_cases([("pickles", 3), ("headers", 5)], seed=4) for _ in range(2))
    assert {name: tally.faults for name, tally in once.items()} == {name: t.faults for name, t in again.items()}


def test_the_judge():
    """A fault that is planted is found: the campaign can fail."""
    from mag2.data import DataError, read_clips
    from tests.campaign.judging import bad_ending, complaint

    def caught(call):
        try:
            call()
        except BaseException as error:
            return complaint(error)
        return "nothing was raised"

    def raises(error):
        raise error

    sentence = "table4.py: error: out/table4.md is a folder; give another --out"
    assert bad_ending(0, "") is bad_ending(1, "1 of 2 trainings failed; the page says why\n") is None
    assert bad_ending(2, sentence) is bad_ending(2, f"1 of 1 trainings are done already in out\n{sentence}\n") is None
    for status, err in (
        (2, ""),
        (2, "1 of 1 trainings are done already in out\n"),
        (2, f"{sentence}\nTraceback (most recent call last):\n"),
        (2, f"{sentence}\n{sentence}\n"),
        (2, f"Traceback (most recent call last):\n{sentence}\n"),
        (0, sentence),
        (3, sentence),
        (2, sentence + "x" * 1000),
    ):
        assert str(status) in (bad_ending(status, err) or ""), err
    assert caught(lambda: read_clips("missing.npy")) is None
    assert "not a sentence of ours" in caught(lambda: [][0])
    assert "raised outside the library" in caught(lambda: raises(DataError("one sentence")))
    assert "raised outside the library" in caught(lambda: int("x"))
