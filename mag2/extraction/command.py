"""The command `mag2 extract`: from videos to files of features."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from mag2 import interrupts
from mag2.extraction.encoder import PRECISIONS
from mag2.extraction.extracting import DTYPES, NO_SOUND, Extracted, extract
from mag2.extraction.loading import FORMS
from mag2.extraction.manifest import FOLDERS, MANIFEST
from mag2.extraction.timing import LAST, MOST_FRAMES, RATES
from mag2.saving.arguments import given_path, real_number, whole_number
from mag2.saving.sentences import error_sentence, one_line, printable

__all__ = ["main"]

_ABOUT = f"""Turn videos into features: <out>/video/NAME.npy, <out>/audio/NAME.npy, <out>/vision_language/NAME.npy.

The name of a video is that of its file without the ending. The same command continues a stopped extraction.
{MANIFEST} in the folder records how the features were made; one folder has features of one setting."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    The status is 0; 1 if a video could not be read; 2 for an error in the input; 130 if it was stopped.
    """
    interrupts.end()
    parser = _parser()
    options = parser.parse_args(arguments)
    missing = [path for path in options.videos if not path.exists()]
    if missing:  # before any weights are loaded
        parser.error(f"there is no video or folder {missing[0]}; give the path of a video, or of a folder of videos")
    chosen = {key: None if getattr(options, key) == "none" else getattr(options, key) for key in FOLDERS}
    try:
        with tqdm(unit="clip", leave=False, disable=not sys.stderr.isatty()) as bar:

            def show(done: int, expected: int) -> None:
                bar.total, bar.n = expected, done
                bar.refresh()

            results = extract(
                options.videos,
                options.out,
                **chosen,
                frames=options.frames,
                fps=options.fps,
                last=options.last,
                image_frames=options.image_frames,
                no_sound=options.no_sound,
                dtype=options.dtype,
                device=options.device,
                precision=options.precision,
                batch=options.batch,
                stop_at_fault=False,
                report=lambda sentence: tqdm.write(one_line(sentence), file=sys.stderr),
                progress=show,
            )
    except (ValueError, OSError) as error:
        parser.error(error_sentence(error))
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {options.out}", file=sys.stderr)
        return 130
    return _summary(results, options.out)


def _summary(results: Sequence[Extracted], out: Path) -> int:
    faulty = [result for result in results if result.fault is not None]
    made = [result for result in results if result.made]
    done = len(results) - len(faulty) - len(made)
    earlier = f", {done} were done already" if done else ""
    clips, place = sum(r.clips for r in made), printable(shlex.quote(str(out)))
    print(f"Made: features of {len(made)} videos, {clips} clips, in {place}{earlier}")
    if faulty:
        print(f"{len(faulty)} of {len(results)} videos could not be read; the lines above say why", file=sys.stderr)
    return 1 if faulty else 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


def _parser() -> _Parser:
    parser = _Parser(prog="mag2 extract", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("videos", nargs="+", type=given_path, metavar="VIDEO", help="a video, or a folder of videos")
    add("--out", type=given_path, required=True, metavar="FOLDER", help="folder to write to")
    add("--visual", default="swin3d_b", metavar="ENCODER", help=f"(swin3d_b) {FORMS['visual']}, or none")
    add("--audio", default="ast", metavar="ENCODER", help=f"(ast) {FORMS['audio']}, or none")
    add(
        "--vision-language",
        default="none",
        metavar="ENCODER",
        help=f"(none) {FORMS['vision_language']}; for other encoders ENCODER:WEIGHTS selects the weights: a tag, a "
        f"local file or random:SEED",
    )
    add("--frames", type=whole_number(1, MOST_FRAMES), default=32, help="number of frames of a clip (32)")
    add("--fps", type=real_number(*RATES), default=25, help="frames of a clip per second (25)")
    add("--last", choices=LAST, default="drop", help="drop or pad the end of a video that does not fill a clip (drop)")
    add(
        "--image-frames",
        type=whole_number(1, MOST_FRAMES),
        metavar="N",
        help="number of frames of a clip for an image tower (all)",
    )
    add(
        "--no-sound",
        choices=NO_SOUND,
        default="skip",
        help="write no audio features without sound, or of silence (skip)",
    )
    add("--dtype", choices=DTYPES, default="float32", help="number format of the files (float32)")
    add("--device", default="cpu", help="device of the encoders: cpu, cuda, cuda:1, ... (cpu)")
    add("--precision", choices=list(PRECISIONS), default="float32", help="precision of the encoders (float32)")
    add("--batch", type=whole_number(1), default=4, help="number of clips that are encoded together (4)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
