"""The actions of real figure skating programmes, as the ISU's notation names them; no part of the paper's Table 7.

They are what the programmes that the library ships and those of Fis-V are made of (`mag2.programmes`): jumps one by
one, spins, step sequences, lifts and the rest, without levels and marks.
"""

__all__ = ["SKATING_ELEMENTS"]

_JUMPS = {
    "popped": ("Axel", "Lutz", "Salchow", "loop", "toe loop"),
    "single": ("Axel", "Lutz", "Salchow", "flip", "loop", "toe loop"),
    "double": ("Axel", "Lutz", "Salchow", "flip", "loop", "toe loop"),
    "triple": ("Axel", "Lutz", "Salchow", "flip", "loop", "toe loop"),
    "quadruple": ("Lutz", "Salchow", "flip", "loop", "toe loop"),
}
_THROWS = {
    "double": ("Axel", "flip", "loop"),
    "triple": ("Axel", "Lutz", "Salchow", "flip", "loop", "toe loop"),
    "quadruple": ("Salchow",),
}

SKATING_ELEMENTS: tuple[str, ...] = (
    *(f"{rotations} {name}" for rotations, names in _JUMPS.items() for name in names),
    "half-loop",
    *(f"throw {rotations} {name}" for rotations, names in _THROWS.items() for name in names),
    *(f"{rotations} twist lift" for rotations in ("popped", "single", "double", "triple", "quadruple")),
    "group three hand-to-hip lift",
    "group four press lift",
    *(f"group five {way} lasso lift" for way in ("Axel", "backward", "reverse", "step-in", "toe")),
    "backward inside death spiral",
    "backward outside death spiral",
    "forward inside death spiral",
    "forward outside death spiral",
    "camel spin",
    "change-foot camel spin",
    "change-foot combination spin",
    "change-foot sit spin",
    "combination spin",
    "flying camel spin",
    "flying change-foot combination spin",
    "flying change-foot sit spin",
    "flying change-foot upright spin",
    "flying combination spin",
    "flying sit spin",
    "flying upright spin",
    "layback spin",
    "sit spin",
    "spin",
    "upright spin",
    "pair combination spin",
    "step sequence",
    "circular step sequence",
    "diagonal step sequence",
    "midline step sequence",
    "serpentine step sequence",
    "straight-line step sequence",
    "not-touching circular step sequence",
    "not-touching diagonal step sequence",
    "not-touching midline step sequence",
    "pattern dance type step sequence",
    "choreographic sequence",
    "choreographic lift",
    "choreographic spinning movement",
    "choreographic twizzling movement",
    *(f"{dance} pattern dance" for dance in ("Blues", "Cha Cha Congelado", "Midnight Blues", "Rhumba")),
    "synchronized twizzles",
    "curve lift",
    "rotational lift",
    "stationary lift",
    "straight-line lift",
    "lift of no type",
)
