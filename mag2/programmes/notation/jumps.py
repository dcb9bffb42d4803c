"""Jump elements: solo jumps, combinations and sequences; and the throw jumps of pairs."""

import re
from dataclasses import replace

from mag2.programmes.notation.element_code import (
    MARKS,
    ROTATIONS,
    SINGLES_AND_PAIRS,
    ElementCode,
    Jump,
    UnknownCodeError,
    allowed_signs,
    described,
    marks_of,
    split_signs,
)

__all__ = ["read_jumps", "read_throw"]

NAMES = {"A": "Axel", "T": "toe loop", "S": "Salchow", "Lo": "loop", "F": "flip", "Lz": "Lutz"}
_JUMP = re.compile(r"([1-4]?)(A|T|S|Lo|F|Lz)((?:<<|[e!<*])*)")
_THROW = re.compile(r"([1-4]?)(A|T|S|Lo|F|Lz)Th((?:<<|[<*])*)")
_EDGE = frozenset("e!")
_ROTATION = frozenset({"<", "<<"})
_EDGE_JUMPS = ("flip", "Lutz")  # the two whose take-off edge the panel calls
_AFTER_HALF_LOOP = ("Salchow", "flip")  # those that start from the edge that a half-loop lands on
# What stands between jumps: no second jump followed, a sequence, a jump that was done before.
_COMBO, _SEQ, _REP = "COMBO", "SEQ", "REP"


def read_jumps(code: str, flags: str) -> ElementCode | None:
    """A jump element, or None if the code does not begin like one.

    A description has the order of the code. A mark is placed before its jump, the mark of the last jump at the end. A
    flag of the column that the code does not show is that of the only jump that can have it; where several can, the
    description has "one jump".

    Raises:
        UnknownCodeError: it begins as a jump element, but its rest is not in the notation.
    """
    if not _JUMP.fullmatch(code.partition("+")[0]):
        return None
    counted, words, after = _parts(code)
    jumps = [
        _jump(token, following, inside=i > 0, code=code)
        for i, (token, following) in enumerate(zip(counted, [*counted[1:], ""], strict=True))
    ]
    extra = [_jump(token, "", inside=False, code=code) for token in after]
    loose: list[str] = []
    for sign in sorted(split_signs(flags, code)):
        _attach(sign, jumps, extra, loose, code)
    everything = (*jumps, *extra)
    marks = {mark for jump in everything for mark in jump.marks} | {MARKS[sign] for sign in loose}
    return ElementCode(
        "jump",
        _description(jumps, words, extra, loose),
        tuple(map(_name, everything)),
        SINGLES_AND_PAIRS,
        rotations=tuple(jump.rotations for jump in everything),
        jumps=everything,
        marks=tuple(mark for mark in MARKS.values() if mark in marks),
    )


def read_throw(code: str, flags: str) -> ElementCode | None:
    """A throw jump, or None for another code."""
    found = _THROW.fullmatch(code)
    if found is None:
        return None
    number, name, inline = found.groups()
    marks = allowed_signs(inline, flags, "< << *", code)
    action = f"throw {ROTATIONS[number]} {NAMES[name]}"
    description = described(action, *marks)
    return ElementCode("throw jump", description, (action,), ("pairs",), rotations=(int(number or 0),), marks=marks)


def _parts(code: str) -> tuple[list[str], list[str], list[str]]:
    """The jumps that count as the element, the words SEQ, COMBO and REP, and the invalid jumps after these."""
    counted: list[str] = []
    words: list[str] = []
    after: list[str] = []
    for token in code.split("+"):
        if token in (_COMBO, _SEQ, _REP) and token not in words and not after:
            words.append(token)
        elif not _JUMP.fullmatch(token):
            raise UnknownCodeError(f"unknown part {token!r} of element {code!r}")
        elif not words:
            counted.append(token)
        elif "*" in token:
            after.append(token)
        else:
            raise UnknownCodeError(f"jump {token!r} of element {code!r} follows {words[-1]} and is not invalid (*)")
    if {_COMBO, _SEQ} <= set(words):
        raise UnknownCodeError(f"element {code!r} is both a combination (COMBO) and a sequence (SEQ)")
    return counted, words, after


def _jump(token: str, following: str, *, inside: bool, code: str) -> Jump:
    """The jump of a token; `following` is the token of the next jump or empty, `inside` says that a jump precedes."""
    number, letters, inline = _jump_parts(token)
    name, signs = NAMES[letters], split_signs(inline, code)
    if signs & _EDGE and name not in _EDGE_JUMPS:
        raise UnknownCodeError(f"element {code!r} has an edge call on a {name}; only flip and Lutz have one")
    leads_to = NAMES[_jump_parts(following)[1]] if following else ""
    half_loop = inside and (number, name) == ("1", "loop") and leads_to in _AFTER_HALF_LOOP
    return Jump(name, int(number or 0), marks_of(signs), half_loop)


def _jump_parts(token: str) -> tuple[str, str, str]:
    """Number, letters and signs of a token that is a jump."""
    number, letters, inline = _JUMP.findall(token)[0]
    return number, letters, inline


def _attach(sign: str, jumps: list[Jump], extra: list[Jump], loose: list[str], code: str) -> None:
    """Give a flag of the column to its jump, unless the code shows it already."""
    mark = MARKS[sign]
    if any(mark in jump.marks for jump in (*jumps, *extra)):
        return
    able = [i for i, jump in enumerate(jumps) if _can_have(sign, jump)]
    if not able:
        raise UnknownCodeError(f"no jump of element {code!r} can be marked {sign} ({mark})")
    if len(able) > 1:
        loose.append(sign)
        return
    jump = jumps[able[0]]
    marks = tuple(known for known in MARKS.values() if known in {*jump.marks, mark})
    jumps[able[0]] = replace(jump, marks=marks)


def _can_have(sign: str, jump: Jump) -> bool:
    rivals = _EDGE if sign in _EDGE else _ROTATION if sign in _ROTATION else frozenset()
    free = not any(MARKS[rival] in jump.marks for rival in rivals)
    return free and sign != ">" and (sign not in _EDGE or jump.name in _EDGE_JUMPS)


def _description(jumps: list[Jump], words: list[str], extra: list[Jump], loose: list[str]) -> str:
    *first, last = jumps
    link = "sequence" if _SEQ in words else "combination"
    names = ", ".join([*map(_with_marks, first), _name(last)])
    unfinished = ""
    if first:
        names = f"{names} {link}"
        unfinished = "unfinished" if _COMBO in words else ""
    elif {_COMBO, _SEQ} & set(words):
        unfinished = f"unfinished {link}"
    return described(
        names,
        *last.marks,
        *(f"one jump {_loose_words(MARKS[sign])}" for sign in loose),
        unfinished,
        "repeated" if _REP in words else "",
        *(f"then {_with_marks(jump)}" for jump in extra),
    )


def _loose_words(mark: str) -> str:
    return f"with {mark}" if mark.endswith("edge") else mark


def _name(jump: Jump) -> str:
    rotations = ROTATIONS[str(jump.rotations or "")]
    return "half-loop" if jump.half_loop else f"{rotations} {jump.name}"


def _with_marks(jump: Jump) -> str:
    """Marks in front, the last of `MARKS` first: "invalid wrong-edge triple flip"."""
    return " ".join([*(mark.replace(" ", "-") for mark in reversed(jump.marks)), _name(jump)])
