"""The fixed split by competition: test competitions are later than training competitions."""

from collections.abc import Iterable

from mag2.programmes.performances import Performance

__all__ = ["TEST_COMPETITIONS", "train_and_test"]

# The last four competitions of autumn 2017, in their order: 10 to 12, 17 to 19 and 24 to 26 November, 7 to 10 December.
# With them, every test competition is later than every training one, and no performance of a competition is on both
# sides. They have 335 of the 1,726 performances. Skaters compete several times a season and are on both sides.
TEST_COMPETITIONS = (
    "ISU GP NHK Trophy 2017",
    "ISU GP Internationaux de France de Patinage 2017",
    "ISU GP 2017 Bridgestone Skate America",
    "Grand Prix Final 2017 Senior and Junior",
)


def train_and_test(performances: Iterable[Performance]) -> tuple[tuple[Performance, ...], tuple[Performance, ...]]:
    """Split performances into training and testing: those of `TEST_COMPETITIONS` are for testing. Orders are kept."""
    train: list[Performance] = []
    test: list[Performance] = []
    for each in performances:
        (test if each.competition in TEST_COMPETITIONS else train).append(each)
    return tuple(train), tuple(test)
