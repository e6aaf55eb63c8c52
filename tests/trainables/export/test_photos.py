"""Files as inputs of an exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import BadInputError
from trainables.export.photos import UnreadablePhotoError, find_photos, read_photo
from trainables.export.preprocessing import Preprocessing


def preprocessing(channels: int = 3, **changes: object) -> Preprocessing:
    """Return the description of a model for images of 4 rows and 6 columns."""
    fields: dict[str, object] = {
        "input": "images",
        "pixels": "uint8",
        "range": (0, 255),
        "channels": channels,
        "size": (4, 6),
        "mean": [[0.5]],
        "std": [[0.5]],
        "flip": False,
        "background": "white",
        "value_range": None,
        "max_megapixels": 1.0,
    }
    return Preprocessing.model_validate(fields | changes)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)
DEEP = (GREY.astype(np.uint16) * 100)[:, :]


def test_folders_give_their_images_once_and_in_order(tmp_path: Path) -> None:
    second = save(tmp_path / "b.png", GREY)
    first = save(tmp_path / "a" / "z.jpg", GREY)
    save(tmp_path / ".hidden" / "x.png", GREY)
    bare = save(tmp_path / "c.png", GREY).rename(tmp_path / "c")
    raw = tmp_path / "d.nef"
    for path in (raw, tmp_path / "notes.txt"):
        path.write_text("text")
    assert find_photos([tmp_path, second]) == [second, bare, raw, first]
    assert find_photos([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    with pytest.raises(BadInputError, match="does not exist; name an image or a folder"):
        find_photos([tmp_path / "missing"])


def test_images_get_the_channels_of_the_model(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", GREY)
    assert (read_photo(grey, preprocessing(3)) == GREY).all()
    assert read_photo(grey, preprocessing(3)).shape == (3, 4, 6)
    red = np.zeros((4, 6, 3), dtype=np.uint8)
    red[..., 0] = 200
    colour = save(tmp_path / "colour.png", red)
    assert read_photo(colour, preprocessing(1)).tolist() == np.full((1, 4, 6), 60).tolist()


def test_transparent_pixels_get_the_background_of_the_data(tmp_path: Path) -> None:
    path = save(tmp_path / "clear.png", np.zeros((4, 6, 4), dtype=np.uint8))
    assert (read_photo(path, preprocessing(background="white")) == 255).all()
    assert (read_photo(path, preprocessing(background="black")) == 0).all()


def test_deep_images_are_scaled_by_the_range_of_the_data(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.png", DEEP)
    found = read_photo(path, preprocessing(1, value_range=(0, 2300)))
    assert found.ravel()[[0, -1]].tolist() == [0, 255]
    with pytest.raises(UnreadablePhotoError, match="the range of such values in the data is unkno"):
        read_photo(path, preprocessing(1))


def test_unreadable_files_name_the_cause(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(UnreadablePhotoError, match="not in a known image format"):
        read_photo(text, preprocessing())
    with pytest.raises(UnreadablePhotoError, match="No such file"):
        read_photo(tmp_path / "missing.png", preprocessing())
    large = save(tmp_path / "large.png", np.zeros((40, 50), dtype=np.uint8))
    with pytest.raises(UnreadablePhotoError, match=r"0\.0 megapixels, more than 0\.001"):
        read_photo(large, preprocessing(max_megapixels=0.001))
