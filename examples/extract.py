"""Turn videos into features that the loaders read, as `mag2 extract` does.

    python examples/extract.py performance.mp4 --out features
    python examples/extract.py videos/ --out data/mine --visual swin3d_t --device cuda --precision bfloat16
    python examples/extract.py performance.mp4 --out trial --visual s3d:random:0 --audio none    # without a download

docs/from-video.md explains the options.
"""

import sys

import interrupts

from mag2.extraction.command import main

if __name__ == "__main__":
    sys.exit(interrupts.run(main))
