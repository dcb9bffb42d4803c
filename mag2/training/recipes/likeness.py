"""For datasets without a script in a repository: the dataset of the repository that is most similar."""

from collections.abc import Iterable

from mag2.data import DATASETS

__all__ = ["most_alike"]

WHY = {
    "Fis-V": "figure skating with the same targets, TES and PCS",
    "RG": "the settings of Ball, which its scripts name first",
}


def most_alike(dataset: str, known: Iterable[str]) -> tuple[str, str]:
    """The dataset whose settings are taken, of those that a repository has a script for, and a sentence that says so.

    Figure skating is like Fis-V where that is known; everything else is like RG.

    Returns:
        The name, which is `dataset` itself where that is known, and the sentence, "" then.
    """
    known = list(known)
    if dataset in known:
        return dataset, ""
    skating = dataset in DATASETS and DATASETS[dataset].sport.startswith("figure_skating")
    like = "Fis-V" if skating and "Fis-V" in known else "RG"
    return like, f"as {like}, since no script has this dataset: {WHY[like]}"
