"""Read a folder that was made with defects, and compare all of it with how it was made."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
from data_defects import GREY, MadeFolder

from sparsesearch.data.content import Contents
from sparsesearch.data.folders import open_folder
from sparsesearch.data.samples import Splits
from sparsesearch.study.spec import DataSpec


def opened(made: MadeFolder | Path, cache: Path, **options: object) -> Splits:
    path = made if isinstance(made, Path) else made.root
    data = DataSpec.model_validate({"source": f"folder:{path}", **options})
    return open_folder(path, data, mode="RGB", contents=Contents(cache))


def check(made: MadeFolder, splits: Splits) -> None:
    """Counts, class names, the label and the pixels of every image, and what is said about the rest."""
    assert splits.class_names == made.class_names
    total = sum((count for count in made.images.values()), Counter())
    read: Counter[str] = Counter()
    for samples, order in (splits.train, splits.val, splits.test):
        for index in order:
            image, label = samples[index]
            name = splits.class_names[label]
            read[name] += 1
            assert np.abs(np.asarray(image).astype(int) - GREY[name]).max() <= 2, name
    assert read == total
    if len(made.folders) > 1:
        assert len(splits.test[1]) == made.images["test" if "test" in made.folders else "val"].total()
    if len(made.folders) == 3:
        assert (len(splits.train[1]), len(splits.val[1])) == (made.images["train"].total(), made.images["val"].total())
    left_out = dict(splits.account.left_out)
    no_images = [count for reason, count in left_out.items() if reason.startswith("files of no image type")]
    assert sum(no_images) == made.no_images
    assert {r: n for r, n in left_out.items() if not r.startswith("files of no")} == dict(sorted(made.left_out.items()))
    said = "\n".join(splits.account.lines(num_val=len(splits.val[1]) // 2))
    for note in made.notes:
        assert re.search(note, said), said
