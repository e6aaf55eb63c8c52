"""The source ``module:function``: images that a function of the user returns."""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset, TensorDataset

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.images.functions.image_function import ImageFunction
from trainables.specs import DataSpec

SHADES = np.arange(12, dtype=np.uint8) * 20
GREY = np.broadcast_to(SHADES[:, None, None], (12, 4, 5))
LABELS = np.arange(12) % 2


@pytest.fixture
def returning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Dataset]:
    """Load what a user's function returns."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text("def dataset():\n    return held\n")
    held: list[object] = []
    spec = DataSpec("mine:dataset", folders=(str(tmp_path),))

    def read(value: object) -> Dataset:
        held.append(value)
        function = ImageFunction(spec.source, spec.folders)
        function._function.__globals__["held"] = value
        return load(spec, cache=tmp_path / f"cache{len(held)}")

    return read


def refusal(returning: Callable[[object], Dataset], value: object) -> BadInputError:
    with pytest.raises(BadInputError) as raised:
        returning(value)
    assert raised.value.field == "data"
    return raised.value


def pairs(labels: object = LABELS) -> list[tuple[Image.Image, object]]:
    return [(Image.fromarray(image), label) for image, label in zip(GREY, labels, strict=True)]


class Columns(list):
    """What a data set of Hugging Face offers."""

    column_names = ("img", "label")

    def __init__(self, items: list, names: tuple[str, ...]) -> None:
        super().__init__(items)
        self.features = {"img": None, "label": type("ClassLabel", (), {"names": names})()}

    def __getitem__(self, key):
        if key == "label":
            return [label for _, label in list(self)]
        image, label = super().__getitem__(key)
        return {"img": image, "label": label}


class Photos(TorchDataset):
    """What a data set of torchvision offers."""

    classes = ("cat", "dog")
    targets = LABELS.tolist()

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 12

    def __getitem__(self, position):
        self.read.append(position)
        return Image.fromarray(GREY[position]), int(LABELS[position])


@pytest.mark.parametrize(
    "value",
    [
        (GREY, LABELS),
        (GREY[..., None], LABELS.tolist()),
        (list(GREY), torch.from_numpy(LABELS)),
        (GREY, LABELS[:, None]),
        pairs(),
        Photos(),
        Columns(pairs(), ("cat", "dog")),
        [{"image": image, "label": label} for image, label in pairs()],
        TensorDataset(torch.from_numpy(GREY.copy())[:, None], torch.from_numpy(LABELS)),
        TensorDataset(torch.from_numpy(GREY / 255)[:, None].float(), torch.from_numpy(LABELS)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_usual_kind_of_data_set_is_read(returning, value):
    data = returning(value)
    assert data.images.shape == (12, 4, 5, 1)
    assert data.images[:, 0, 0, 0].tolist() == SHADES.tolist()
    assert data.labels.tolist() == LABELS.tolist()
    named = isinstance(value, Photos | Columns)
    assert data.classes == (("cat", "dog") if named else ("0", "1"))


def test_colour_has_channels_last_in_arrays_and_first_in_tensors(returning):
    colour = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), dtype=np.uint8)
    assert np.array_equal(returning((colour, LABELS)).images, colour)
    tensors = torch.from_numpy(colour).permute(0, 3, 1, 2)
    assert np.array_equal(returning((tensors, LABELS)).images, colour)


def test_images_may_be_paths_or_content_of_files(returning, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path(f"{number}.png") for number in range(12)]
    for path, image in zip(paths, GREY, strict=True):
        Image.fromarray(image).save(path)
    contents = [path.read_bytes() for path in paths]
    for images in (paths, [str(path) for path in paths], contents):
        assert returning((images, LABELS)).images[:, 0, 0, 0].tolist() == SHADES.tolist()
    paths[3] = Path("none.png")
    assert refusal(returning, (paths, LABELS)).problem.startswith(
        "the image item 3 cannot be read ([Errno 2] No such file or directory"
    )


def test_splits_of_a_mapping_are_kept(returning):
    parts = {"test": (GREY[8:], LABELS[8:]), "train": (GREY[:6], LABELS[:6])}
    data = returning(parts | {"validation": pairs()[6:8]})
    for rows, expected in ((data.train, SHADES[:6]), (data.validation, SHADES[6:8])):
        assert data.images[rows, 0, 0, 0].tolist() == expected.tolist()
    assert data.images[data.test, 0, 0, 0].tolist() == SHADES[8:].tolist()
    assert data.notes[0] == (
        "12 images of 2 classes (0 6, 1 6): train from train (6), validation from validation (2), "
        "test from test (4)"
    )


def test_first_note_on_a_function_says_which_splits_are_drawn(returning):
    photos = Photos()
    data = returning({"train": Subset(photos, range(8)), "test": Subset(photos, range(8, 12))})
    assert data.notes[0] == (
        "12 images of 2 classes (cat 6, dog 6): train from train (8), test from test (4), "
        "validation is drawn from train"
    )


def test_subset_of_torch_keeps_the_class_names(returning):
    photos = Photos()
    data = returning({"train": Subset(photos, range(8)), "test": Subset(photos, range(8, 12))})
    assert data.classes == ("cat", "dog")
    assert len(data.test) == 4


def test_labels_may_be_names(returning):
    data = returning(pairs(["owl", "cat"] * 6))
    assert data.classes == ("cat", "owl")
    assert data.labels.tolist() == [1, 0] * 6


def test_number_labels_need_not_start_at_zero(returning):
    data = returning((GREY, np.where(LABELS, 10, 9)))
    assert data.classes == ("9", "10")
    assert data.labels.tolist() == LABELS.tolist()


def test_classes_without_images_are_left_out_with_a_note(returning):
    data = returning(Columns(pairs(LABELS * 2), ("cat", "dog", "owl")))
    assert data.classes == ("cat", "owl")
    assert data.labels.tolist() == LABELS.tolist()
    assert "classes without images are left out: dog" in data.notes


def test_images_are_read_once_if_targets_are_known(returning):
    photos = Photos()
    returning(photos)
    assert photos.read == list(range(12))


def test_targets_that_differ_from_the_labels_are_refused(returning):
    photos = Photos()
    photos.targets = [0, 1, 1, *photos.targets[3:]]
    assert refusal(returning, photos).problem == "the label of item 2 changed from 1 to 0"


def test_pillow_images_of_any_mode_keep_their_look(returning):
    palette = Image.new("P", (5, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    upright = Image.new("L", (4, 5), 7)
    upright.getexif()[0x0112] = 6
    images = [palette, Image.new("1", (5, 4), 1), Image.new("CMYK", (5, 4)), upright]
    data = returning((images * 2, [0, 1] * 4))
    assert data.images[0, 0, 0].tolist() == [10, 200, 30]
    assert data.images[1, 0, 0].tolist() == [255] * 3
    assert data.images[3, 0, 0].tolist() == [7] * 3


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (1, 2, 3)), ("P", 3)])
def test_clear_colour_of_a_pillow_image_shows_the_background(returning, mode, clear):
    image = Image.new(mode, (5, 4), clear)
    image.info["transparency"] = clear
    data = returning(([image] * 8, [0, 1] * 4))
    assert np.all(data.images == 255)


def test_bilevel_images_of_pillow_stay_greyscale(returning):
    images = [Image.fromarray(np.full((4, 5), bool(label))) for label in LABELS]
    assert images[0].mode == "1"
    data = returning((images, LABELS))
    assert data.images.shape == (12, 4, 5, 1)
    assert data.images[:, 0, 0, 0].tolist() == (LABELS * 255).tolist()


def test_deep_and_transparent_arrays_are_decoded_as_files_are(returning):
    deep = returning((GREY.astype(np.uint16) * 100, LABELS))
    assert deep.images[[0, -1], 0, 0, 0].tolist() == [0, 255]
    assert any("16 or 32 bits" in note for note in deep.notes)
    clear = np.zeros((12, 4, 5, 4), dtype=np.uint8)
    assert np.all(returning((clear, LABELS)).images == 255)


@pytest.mark.parametrize(
    ("value", "problem", "remedy"),
    [
        (
            7,
            "the result is int, which has no length or no items",
            "return (images, labels), or a data set with len(data) and data[i]",
        ),
        (
            (GREY, LABELS[:3]),
            "the result has 12 images and 3 labels",
            "return one label per image",
        ),
        ({}, "the function returned no splits", "return at least train"),
        (
            {"trian": pairs()},
            'there is no split "trian"',
            "did you mean train? Otherwise use train, validation (or val) and test",
        ),
        (
            {"val": pairs(), "validation": pairs()},
            "val and validation are both the validation split",
            "return one of them",
        ),
        (
            [1, 2],
            "item 0 is int, not an image and its label",
            "return items (image, label), or mappings with image and label",
        ),
        (
            pairs([*[0, 1] * 5, 0, None]),
            "the label of item 11 is None",
            "return the number or the name of one class",
        ),
        (
            pairs([*["cat", "dog"] * 5, "cat", "nan"]),
            "the label of item 11 is 'nan', which stands for a missing label",
            "leave out images without a label, or rename the class if it is one",
        ),
        (
            (LABELS, GREY),
            "the label of item 0 has the shape (4, 5) of an image",
            "return images before labels: (images, labels), or items (image, label)",
        ),
        (
            [(label, image) for image, label in pairs()],
            "the label of item 0 has the shape (4, 5) of an image",
            "return images before labels: (images, labels), or items (image, label)",
        ),
        (
            ((GREY, LABELS), (GREY, LABELS)),
            "the result is two pairs ((images, labels), (images, labels))",
            'name the splits: return {"train": (images, labels), "test": (images, labels)}',
        ),
        (
            (GREY, np.ma.masked_equal(np.arange(12), 3)),
            "the label of item 3 is masked",
            "leave out images without a label",
        ),
        (
            {"train": pairs([*[0, 1] * 5, 0, -1])},
            "the label of item 11 of train is -1",
            "leave out images without a label",
        ),
        (
            pairs([*[0, 1] * 5, 0, "cat"]),
            "some labels are numbers and some are names",
            "return labels of one kind",
        ),
        (
            pairs([0] * 12),
            "there are images of only one class, 0",
            "give at least two classes",
        ),
        (
            Columns(pairs(LABELS + 1), ("cat", "dog")),
            "the label 2 is none of the 2 classes (cat, dog)",
            "correct the labels or the class names",
        ),
        (
            (np.zeros((12, 3, 4, 5), np.uint8), LABELS),
            "the image of item 0 has the shape (3, 4, 5)",
            "return [h, w] or [h, w, c] with 1 to 4 channels",
        ),
        (
            (GREY / 64 - 1, LABELS),
            "the pixels of item 0 are float64 from -1 to -1",
            "return uint8 from 0 to 255 or floats from 0 to 1, without normalisation",
        ),
        (
            (GREY.astype(int) + 250, LABELS),
            "the pixels of item 1 are int64 from 270 to 270",
            "return uint8 from 0 to 255 or floats from 0 to 1, without normalisation",
        ),
        (
            [(7, label) for label in LABELS],
            "the image of item 0 is int",
            "return an image of Pillow, an array, a tensor, or the path of a file",
        ),
        (
            [{"picture": image, "label": label} for image, label in pairs()],
            "there is no column image or img, only picture, label",
            "rename the column to image",
        ),
    ],
)
def test_data_set_that_cannot_be_used_is_refused(returning, value, problem, remedy):
    error = refusal(returning, value)
    assert (error.problem, error.remedy) == (problem, remedy)


def spec_of(folder: Path, code: str, name: str = "dataset") -> DataSpec:
    (folder / "mine.py").write_text(dedent(code))
    return DataSpec(f"mine:{name}", folders=(str(folder),))


def problem_of(spec: DataSpec, cache: Path) -> str:
    with pytest.raises(BadInputError) as raised:
        load(spec, cache=cache)
    return raised.value.problem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_error_of_the_function_is_reported_with_file_and_line(folder):
    spec = spec_of(folder, "def dataset():\n    return open('none')\n")
    assert problem_of(spec, folder) == (
        "the function raised FileNotFoundError: [Errno 2] No such file or directory: 'none' in "
        f"{folder / 'mine.py'}, line 2"
    )


def test_error_of_an_item_is_reported_with_its_number(folder):
    code = """\
        class Images:
            def __len__(self):
                return 3
            def __getitem__(self, position):
                return 1 // (2 - position), 0
        def dataset():
            return {"train": Images()}
        """
    assert problem_of(spec_of(folder, code), folder) == (
        "reading item 2 of train raised ZeroDivisionError: integer division or modulo by zero in "
        f"{folder / 'mine.py'}, line 5"
    )


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("import sys; sys.exit(3)", "the function raised SystemExit: 3"),
        ("return type('D', (), {'__len__': lambda s: 1 // 0, '__getitem__': None})()",
         "the data set raised ZeroDivisionError"),
        ("return type('D', (list,), {'classes': 2})([(0, 0)] * 9)",
         "the classes of the data set are 2"),
        ("return [(type('T', (), {'detach': lambda s: 1 // 0})(), n % 2) for n in range(12)]",
         "the image of item 0 raised ZeroDivisionError"),
    ],
)  # fmt: skip
def test_every_error_of_the_data_set_is_one_line(folder, body, problem):
    assert problem_of(spec_of(folder, f"def dataset(): {body}"), folder).startswith(problem)


def test_function_that_parses_arguments_is_refused(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search.py", "run", "mine.yaml"])
    body = "import argparse; argparse.ArgumentParser().parse_args()"
    with pytest.raises(BadInputError) as raised:
        load(spec_of(folder, f"def dataset(): {body}"), cache=folder)
    assert raised.value.problem == (
        f"the function raised SystemExit: 2 in {folder / 'mine.py'}, line 1"
    )
    assert raised.value.remedy == "call neither sys.exit nor argparse in it"
    assert "unrecognized arguments: run mine.yaml" in capsys.readouterr().err


def test_name_that_is_no_function_is_refused(folder):
    spec = spec_of(folder, "dataset = 7")
    assert problem_of(spec, folder) == "it is int, not a function"


def test_unknown_function_is_refused_with_the_nearest_name(folder):
    spec = spec_of(folder, "def dataset(): pass", name="datset")
    with pytest.raises(BadInputError, match=r"has no datset; did you mean mine:dataset\?"):
        load(spec, cache=folder)


CODE = """\
    import numpy as np
    calls = []
    def dataset():
        calls.append(1)
        return np.zeros((12, 4, 4), np.uint8), [0, 1] * 6
    """


def test_function_is_called_once_until_it_changes(folder):
    spec = spec_of(folder, CODE)
    calls = ImageFunction(spec.source, spec.folders)._function.__globals__["calls"]
    function = ImageFunction(spec.source, spec.folders)._function
    first = load(spec, cache=folder)
    assert load(spec, cache=folder).version == first.version
    assert len(calls) == 1
    function.version = 2
    assert load(spec, cache=folder).version != first.version
    function.version = lambda: 3
    load(spec, cache=folder)
    assert len(calls) == 3
    (folder / "mine.py").write_text("# changed\n" + (folder / "mine.py").read_text())
    load(spec, cache=folder)
    assert len(calls) == 4


def test_equal_module_in_another_folder_is_read_there(folder):
    code = """\
        import pathlib
        import numpy as np
        def dataset():
            level = int(pathlib.Path(__file__).with_name("level.txt").read_text())
            return np.full((12, 4, 4), level, np.uint8), [0, 1] * 6
        """
    for level in (7, 9):
        project = folder / str(level)
        project.mkdir()
        (project / "level.txt").write_text(str(level))
        assert load(spec_of(project, code), cache=folder).images.max() == level


def test_version_that_never_stays_the_same_is_refused(folder):
    code = f"{dedent(CODE)}import itertools\ndataset.version = itertools.count().__next__\n"
    assert problem_of(spec_of(folder, code), folder) == (
        "the images have changed while they were opened"
    )


def test_workers_use_the_pinned_images_without_the_function(folder):
    spec = spec_of(folder, CODE)
    version = load(spec, cache=folder).version
    (folder / "mine.py").unlink()
    pinned = DataSpec(spec.source, version=version, folders=spec.folders)
    assert len(load(pinned, cache=folder).images) == 12


def test_classes_that_look_alike_are_one_or_are_said(returning):
    names = ["Ka\u0308se", "K\u00e4se", "DOG", "dog"] * 3
    data = returning(pairs(names))
    assert data.classes == ("DOG", "K\u00e4se", "dog")
    assert any("the classes DOG, dog differ only in case" in note for note in data.notes)


@pytest.mark.parametrize(
    ("images", "noted"),
    [
        (LABELS[:, None, None].astype(np.uint8) * np.ones((12, 4, 5), np.uint8), True),
        (GREY / 255 / 255, True),
        (GREY, False),
        (np.full((12, 4, 5), 255, np.uint8), False),
    ],
    ids=["mask", "divided twice", "usual", "white"],
)
def test_pixels_that_are_almost_black_are_said(returning, images, noted):
    notes = returning((images, LABELS)).notes
    assert any(note.startswith("pixels span 0 to 1 of 255; ") for note in notes) == noted


def test_masks_of_arrays_are_ignored_with_a_note(returning):
    note = "images are masked arrays; their masks are ignored"
    masked = np.ma.masked_less(GREY, 30)
    assert note in returning((masked, LABELS)).notes
    assert note in returning((list(masked), LABELS)).notes
    assert note not in returning((GREY, LABELS)).notes


def test_reuse_of_the_images_is_said(folder):
    spec = spec_of(folder, CODE)
    kept = "decoded images of mine:dataset are reused until mine.py "
    assert load(spec, cache=folder).notes[1] == (
        f"{kept}changes; set dataset.version to a text that changes with its data"
    )
    ImageFunction(spec.source, spec.folders)._function.version = "2026"
    assert load(spec, cache=folder).notes[1] == f"{kept}or dataset.version changes"


def test_misspelt_kind_of_an_existing_path_is_named(folder):
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(f"image:{folder}"), cache=folder)
    assert raised.value.remedy == f"did you mean images:{folder}?"
