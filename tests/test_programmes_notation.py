"""The notation of figure skating's protocols: every code reads as English, and says what the panel's prices say."""

import itertools
import re
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mag2.programmes import Jump, UnknownCodeError, read_code, read_performances
from mag2.programmes.notation import DISCIPLINES, KINDS, MARKS
from mag2.programmes.notation.reading import READERS

CODES = sorted({(element.code, element.flags) for each in read_performances() for element in each.elements})

ENGLISH = [
    # jumps
    ("3Lz", "", "triple Lutz"),
    ("2A", "", "double Axel"),
    ("4S<", "<", "quadruple Salchow, under-rotated"),
    ("3F<<", "<<", "triple flip, downgraded"),
    ("3Fe", "e", "triple flip, wrong edge"),
    ("3Lz", "!", "triple Lutz, unclear edge"),
    ("3Lz!", "!", "triple Lutz, unclear edge"),
    ("3F<", "!", "triple flip, unclear edge, under-rotated"),
    ("1Lo*", "*", "single loop, invalid"),
    ("A", "", "popped Axel"),
    ("3Lz+3T<", "<", "triple Lutz, triple toe loop combination, under-rotated"),
    ("3Lz<+3T", "<", "under-rotated triple Lutz, triple toe loop combination"),
    ("3Lze<+1Lo<+3S", "e", "under-rotated wrong-edge triple Lutz, under-rotated half-loop, triple Salchow combination"),
    ("3F!+2T+2Lo", "!", "unclear-edge triple flip, double toe loop, double loop combination"),
    ("3Lz+1Lo+3F", "", "triple Lutz, half-loop, triple flip combination"),
    ("2A+2T+1Lo", "", "double Axel, double toe loop, single loop combination"),
    ("2A+1Lo", "", "double Axel, single loop combination"),
    ("3T+1Lo+3T+SEQ", "", "triple toe loop, single loop, triple toe loop sequence"),
    ("3S+2A+SEQ", "", "triple Salchow, double Axel sequence"),
    ("3T+SEQ", "", "triple toe loop, unfinished sequence"),
    ("3A<+REP", "<", "triple Axel, under-rotated, repeated"),
    ("2A+3T*+REP", "*", "double Axel, triple toe loop combination, invalid, repeated"),
    ("3Lz+COMBO", "!", "triple Lutz, unclear edge, unfinished combination"),
    ("4S+COMBO+2T*", "*", "quadruple Salchow, unfinished combination, then invalid double toe loop"),
    ("3Lz+1Lo<+2F", "!", "triple Lutz, under-rotated half-loop, double flip combination, one jump with unclear edge"),
    # pairs
    ("3LzTh", "", "throw triple Lutz"),
    ("3ATh<", "<", "throw triple Axel, under-rotated"),
    ("3Tw2", "", "triple twist lift, level 2"),
    ("3TwB<<", "<<", "triple twist lift, basic level, downgraded"),
    ("Tw", "", "popped twist lift, no level"),
    ("3Li4", "", "group three hand-to-hip lift, level 4"),
    ("4Li3", "", "group four press lift, level 3"),
    ("5ALi4", "", "group five Axel lasso lift, level 4"),
    ("5RLiB", "", "group five reverse lasso lift, basic level"),
    ("5SLi4", "", "group five step-in lasso lift, level 4"),
    ("BiDs4", "", "backward inside death spiral, level 4"),
    ("FoDs3", "", "forward outside death spiral, level 3"),
    ("PCoSp3V", "", "pair combination spin, level 3, reduced value"),
    # spins
    ("FCCoSp4", "", "flying change-foot combination spin, level 4"),
    ("CCoSp2V", "", "change-foot combination spin, level 2, reduced value"),
    ("FCSp4", "", "flying camel spin, level 4"),
    ("FCSSp4", "", "flying change-foot sit spin, level 4"),
    ("CCSp", "", "change-foot camel spin, no level"),
    ("CSp3", "", "camel spin, level 3"),
    ("LSp4", "", "layback spin, level 4"),
    ("FCoSp1*", "*", "flying combination spin, level 1, invalid"),
    ("Sp4", "", "spin, level 4"),
    ("CoSp4", "", "combination spin, level 4"),
    # steps and choreography
    ("StSq3", "", "step sequence, level 3"),
    ("StSqB", "", "step sequence, basic level"),
    ("ChSq1", "", "choreographic sequence, level 1"),
    ("NtMiSt3", "", "not-touching midline step sequence, level 3"),
    ("DiSt2", "", "diagonal step sequence, level 2"),
    ("SeSt4", "", "serpentine step sequence, level 4"),
    ("PSt4", "", "pattern dance type step sequence, level 4"),
    ("STw4", "", "synchronized twizzles, level 4"),
    ("ChTw1", "", "choreographic twizzling movement, level 1"),
    ("ChSp1", "", "choreographic spinning movement, level 1"),
    # ice dance
    ("SlLi4", "", "straight-line lift, level 4"),
    ("CuLi4", ">", "curve lift, level 4, extended"),
    ("RoLi*", "", "rotational lift, no level, invalid"),
    ("Li*", "*", "lift of no type, no level, invalid"),
    (
        "RoLi4+StaLi4",
        ">",
        "combination lift of rotational lift, level 4, and stationary lift, level 4, extended",
    ),
    ("1MB3+kpYNT", "", "Midnight Blues pattern dance, section one, level 3, key points correct, missed, mistimed"),
    ("2CC4+kpYYY", "", "Cha Cha Congelado pattern dance, section two, level 4, key points correct, correct, correct"),
    ("1RH2", "", "Rhumba pattern dance, section one, level 2"),
]


@pytest.mark.parametrize(("code", "flags", "english"), ENGLISH)
def test_a_code_reads_as_english(code, flags, english):
    assert read_code(code, flags).description == english


def test_every_element_of_the_protocols_is_read_in_its_discipline():
    assert len(CODES) == 699
    assert len({code for code, _ in CODES}) == 670
    for each in read_performances():
        for element in each.elements:
            assert each.discipline in element.notation.disciplines, element
            assert element.notation.kind in KINDS


def test_one_reader_at_most_knows_a_code():
    for code, flags in [*CODES, *((code, flags) for code, flags, _ in ENGLISH)]:
        assert sum(read(code, flags) is not None for read in READERS) == 1, code


NAMES = {"Axel", "Lutz", "Salchow", "Midnight", "Blues", "Rhumba", "Cha", "Congelado"}


def test_descriptions_are_english_words_without_code_letters():
    for code in CODES:
        description = read_code(*code).description
        assert description.isascii()
        assert re.fullmatch(r"(?:[A-Za-z-]+|level [1-4])(?:,? (?:[A-Za-z-]+|level [1-4]))*", description), description
        for word in re.findall("[A-Za-z-]+", description):
            assert word in NAMES or word.islower(), f"{word!r} in {description!r}"
            assert word in {"no", "of"} or len(word) > 2, f"{word!r} in {description!r}"


def meaning(code: str, flags: str) -> tuple:
    """What a code says, without the order of its signs and without saying it twice: worked out from its text alone."""
    parts = []
    for part in code.split("+"):
        bare = re.sub(r"<<|<|!|\*|>|(?<=[Fz])e", "", part)
        signs = frozenset(re.findall(r"<<|<|!|\*|>|(?<=[Fz])e", part))
        parts.append((bare, signs))
    if flags and not any(flags in signs for _, signs in parts):
        edge = [i for i, (bare, _) in enumerate(parts) if re.fullmatch("[1-4]?(F|Lz)", bare)]
        if flags in ("e", "!") and len(edge) == 1:
            bare, signs = parts[edge[0]]
            parts[edge[0]] = (bare, signs | {flags})
        else:
            parts.append(("whole element", frozenset({flags})))
    return tuple(parts)


def test_codes_read_alike_just_where_they_mean_the_same():
    by_description = defaultdict(set)
    for code, flags in CODES:
        by_description[read_code(code, flags).description].add(meaning(code, flags))
    assert all(len(meanings) == 1 for meanings in by_description.values())
    assert len(by_description) == len({meaning(*code) for code in CODES}) == 690


def test_fields_say_what_the_description_says():
    for code in CODES:
        read = read_code(*code)
        levels = re.findall(r"level \d|basic level|no level", read.description)
        numbers = [{"basic level": 0, "no level": None}.get(level, level[-1]) for level in levels]
        lowest = None if None in numbers or not numbers else min(map(int, numbers))
        assert read.level == lowest
        assert read.reduced == ("reduced value" in read.description)
        assert read.n_jumps == len(read.jumps) == (len(read.rotations) if read.kind == "jump" else 0)
        words = read.description.replace("-edge", " edge")
        assert set(read.marks) == {mark for mark in MARKS.values() if mark in words}
        for jump in read.jumps:
            assert set(jump.marks) <= set(read.marks)


def test_elements_that_read_alike_have_one_price():
    """The judges' scale of values says whether the reader merges what is different."""
    prices = defaultdict(set)
    for each in read_performances():
        for element in each.elements:
            prices[element.description, element.second_half].add(element.base_value)
    several = {description for (description, _), values in prices.items() if len(values) > 1}
    assert several == {
        # These rose between the two seasons.
        "choreographic lift, level 1",
        "choreographic spinning movement, level 1",
        "choreographic twizzling movement, level 1",
        # One of the second half is printed without its x.
        "group five Axel lasso lift, level 4",
    }


def test_jump_elements_cost_what_their_jumps_cost():
    """Jumps, marks, sequences and repetitions are read where the judges' computer reads them: in all that have prices.

    A sequence has 0.8 of its two best jumps, a repeated jump 0.7, the second half of the programme 1.1. An unclear
    edge costs nothing, an invalid jump counts for nothing.
    """
    elements = [each for performance in read_performances() for each in performance.elements]
    elements = [each for each in elements if each.notation.kind == "jump"]
    price: dict[tuple, float] = {}
    for each in elements:
        jumps = each.notation.jumps
        if "+" not in each.code and not each.second_half and "invalid" not in jumps[0].marks:
            price[priced(jumps[0])] = each.base_value
    compared, unknown = 0, 0
    for each in elements:
        jumps = [priced(jump) for jump in each.notation.jumps if "invalid" not in jump.marks]
        if not set(jumps) <= price.keys():
            unknown += 1
            continue
        values, words = sorted(price[jump] for jump in jumps), each.description
        factor = 0.7 if "repeated" in words else 1.0
        if "sequence" in words:
            values, factor = values[-2:], factor * 0.8
        expected = sum(values) * factor * (1.1 if each.second_half else 1)
        assert each.base_value == pytest.approx(expected, abs=0.0101), each
        compared += 1
    assert (compared, unknown) == (5426, 55)


def priced(jump: Jump) -> tuple:
    return jump.name, jump.rotations, frozenset(jump.marks) - {"unclear edge"}


def test_what_is_worth_nothing_is_read_so():
    for each in read_performances():
        for element in each.elements:
            read = element.notation
            jumps_or_levels = read.kind in ("jump", "throw jump") or read.level is not None
            popped = read.kind in ("jump", "throw jump") and not any(read.rotations)
            invalid = "invalid" in read.marks and all("invalid" in jump.marks for jump in read.jumps)
            assert (element.base_value == 0) == (popped or invalid or not jumps_or_levels), element


# One jump as a code, and what it says.
jumps = st.builds(
    lambda name, rotations, edge, rotation, invalid: (
        f"{rotations or ''}{name[0]}{edge if name[0] in ('F', 'Lz') else ''}{rotation}{invalid}",
        (
            name[1],
            rotations,
            tuple(MARKS[sign] for sign in (edge if name[0] in ("F", "Lz") else "", rotation, invalid) if sign),
        ),
    ),
    st.sampled_from(
        [("A", "Axel"), ("T", "toe loop"), ("S", "Salchow"), ("Lo", "loop"), ("F", "flip"), ("Lz", "Lutz")]
    ),
    st.integers(0, 4),
    st.sampled_from(["", "e", "!"]),
    st.sampled_from(["", "<", "<<"]),
    st.sampled_from(["", "*"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(jumps, min_size=1, max_size=4), st.sampled_from(["", "+SEQ", "+COMBO", "+REP", "+SEQ+REP"]))
def test_any_jump_element_is_read_jump_by_jump(drawn, end):
    code = "+".join(code for code, _ in drawn) + end
    read = read_code(code)
    assert [(jump.name, jump.rotations, jump.marks) for jump in read.jumps] == [jump for _, jump in drawn]
    assert read.rotations == tuple(jump.rotations for jump in read.jumps)
    for i, jump in enumerate(read.jumps):
        landed_like_a_half_loop = 0 < i < len(read.jumps) - 1 and read.jumps[i + 1].name in ("Salchow", "flip")
        assert jump.half_loop == (landed_like_a_half_loop and (jump.name, jump.rotations) == ("loop", 1))


def test_no_two_jump_elements_of_different_meaning_read_alike():
    one = [
        f"{number}{name}{edge}{rotation}{invalid}"
        for number, name in itertools.product(("", "3"), ("A", "T", "S", "Lo", "F", "Lz"))
        for edge in (("", "e", "!") if name in ("F", "Lz") else ("",))
        for rotation in ("", "<", "<<")
        for invalid in ("", "*")
    ]
    ends = ("", "+SEQ", "+COMBO", "+REP", "+COMBO+2T*")
    codes = [f"{jump}{end}" for jump in one for end in ends]
    codes += [f"{first}+{second}{end}" for first, second in itertools.product(one, one) for end in ends[:2]]
    assert len({read_code(code).description for code in codes}) == len(codes)


def test_no_two_codes_of_the_other_kinds_read_alike():
    level = ("", "B", "1", "2", "3", "4")
    names = {f"{fly}{change}{position}Sp" for fly in ("", "F") for change in ("", "C") for position in "ULCS"}
    names |= {"CoSp", "FCoSp", "CCoSp", "FCCoSp", "PSp", "PCoSp", "Sp"}
    codes = {f"{name}{each}{end}" for name in names for each in level for end in ("", "V", "*", "V*")}
    steps = ("StSq", "MiSt", "DiSt", "CiSt", "SeSt", "NtMiSt", "NtDiSt", "NtCiSt", "NtSeSt", "PSt", "STw", "SqTw")
    spirals = ("FiDs", "FoDs", "BiDs", "BoDs")
    codes |= {f"{name}{each}{end}" for name in (*steps, *spirals) for each in level for end in ("", "*")}
    codes |= {
        f"{name}{each}{end}" for name in ("ChSq", "ChLi", "ChSp", "ChTw") for each in ("", "1") for end in ("", "*")
    }
    groups = ("1Li", "2Li", "3Li", "4Li", "5ALi", "5BLi", "5RLi", "5SLi", "5TLi", "StaLi", "SlLi", "CuLi", "RoLi", "Li")
    codes |= {f"{name}{each}{end}" for name in groups for each in level for end in ("", ">", "*", ">*")}
    dance = [f"{name}{each}" for name in ("StaLi", "SlLi", "CuLi", "RoLi") for each in level]
    codes |= {f"{one}+{other}" for one in dance for other in dance}
    codes |= {f"{n}{name}Th{end}" for n in ("", *"1234") for name in ("T", "S", "Lo", "A") for end in ("", "<", "<<*")}
    codes |= {f"{n}Tw{each}{end}" for n in ("", *"1234") for each in level for end in ("", "<", "<<", "*")}
    codes |= {
        f"{section}{dance}{each}{points}"
        for section in "12"
        for dance in ("MB", "BL", "RH", "CC")
        for each in level
        for points in ("", *(f"+kp{''.join(three)}" for three in itertools.product("YTN", repeat=3)))
    }
    assert len({read_code(code).description for code in codes}) == len(codes)


@pytest.mark.parametrize(
    "code",
    [
        *("", "5T", "3X", "3lz", "T3", "3Lz+", "+3T", "3Lz+3Q", "3Lz 3T", " 3Lz", "3Lz\n"),
        *("3T+SEQ+3T", "3T+COMBO+SEQ", "3T+SEQ+SEQ", "SEQ", "COMBO+2T", "3T+REP+REP", "3Lz+StSq3", "3Lz+3STh"),
        *("2Ae", "3T!", "3Fe!", "3T<<<", "3T<<+3T<<<", "3T>", "3Lz+3T>"),
        *("CCoSp5", "CCoSpV4", "XSp4", "FSp4", "CSp4W", "CCoSp4VV", "CCoSp3p4", "PCoSp4+StSq3", "FPCoSp4"),
        *(
            "StSq5",
            "ChSq2",
            "ChSqB",
            "SlSt3",
            "NtStSq3",
            "STw5",
            "Tw5",
            "3Tw5",
            "5Tw3",
            "6Li4",
            "5Li4",
            "5XLi4",
            "1ALi3",
        ),
        *("ZiDs3", "BiDs5", "1XX4+kpYYY", "3MB4+kpYYY", "1MB4+kpYXY", "1MB4+kp", "1MB4+kpYYYYY", "MB4+kpYYY"),
        *("XxLi4", "CuLi5", "CuLi4+", "CuLi4+RoLi4+SlLi4", "CuLi4+3Lz", "3Lz+CuLi4", "lasso", "combination"),
    ],
)
def test_an_unknown_code_is_refused_by_name(code):
    with pytest.raises(UnknownCodeError) as caught:
        read_code(code)
    assert repr(code) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        *(("3Lz", "?"), ("3Lz", "q"), ("3T", "e"), ("2A+3T", "!"), ("3Fe", "!"), ("3T<", "<<"), ("3T", ">")),
        *(("CCoSp4", "<"), ("StSq3", "e"), ("BiDs3", ">"), ("3LzTh", "e"), ("3Tw2", ">"), ("3Tw2<", "<<")),
        *(("5ALi4", "<"), ("1MB4+kpYYY", ">"), ("CuLi4", "<"), ("ChSq1", ">"), ("3Lz", "<,"), ("3Lz", "<<<")),
    ],
)
def test_a_flag_that_an_element_cannot_have_is_refused(code, flags):
    with pytest.raises(UnknownCodeError, match=re.escape(repr(code))):
        read_code(code, flags)


def test_a_flag_belongs_to_the_one_jump_that_can_have_it():
    assert read_code("2T+3F+2T", "!") == read_code("2T+3F!+2T") == read_code("2T+3F!+2T", "!")
    assert read_code("3F<", "e<") == read_code("3Fe<")
    several = read_code("3Lz+2T", "<")
    assert several.description == "triple Lutz, double toe loop combination, one jump under-rotated"
    assert several.marks == ("under-rotated",)
    assert not any(jump.marks for jump in several.jumps)


def test_kinds_and_disciplines():
    assert read_code("CoSp4").disciplines == DISCIPLINES
    assert read_code("3Lz").disciplines == ("men", "ladies", "pairs")
    assert read_code("3LzTh").disciplines == read_code("5ALi4").disciplines == ("pairs",)
    assert read_code("Sp4").disciplines == read_code("STw4").disciplines == ("ice dance",)
    assert {read_code(code, flags).kind for code, flags, _ in ENGLISH} == set(KINDS)
