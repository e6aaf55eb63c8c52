"""The source ``csv:PATH``: files, classes, splits and groups from a table."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.images.tables.label_table import open_table
from trainables.specs import DataSpec, Decoding
from trainables.table_columns import TableColumns

FILES = [f"{kind}{number}" for kind in ("cat", "dog") for number in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of six cats and six dogs, each file of its own shade."""
    for shade, name in enumerate(FILES):
        Image.new("L", (4, 4), 10 * shade).save(tmp_path / f"{name}.png")
    return tmp_path


def lines(delimiter: str = ",", header: str = "file,label") -> str:
    rows = [header, *(f"{name}.png,{name[:3]}" for name in FILES)]
    return "\n".join(rows).replace(",", delimiter)


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def read(path: Path, **fields: object) -> Dataset:
    columns = fields.pop("columns", {})
    return load(
        DataSpec(f"csv:{path}", table=TableColumns.model_validate(columns), **fields),
        cache=path.parent / "cache",
    )


def refusal(path: Path, **columns: str) -> BadInputError:
    with pytest.raises(BadInputError) as raised:
        read(path, columns=columns)
    return raised.value


def labels_by_shade(data: Dataset) -> dict[int, str]:
    shades = data.images[:, 0, 0, 0].tolist()
    return {
        shade // 10: data.classes[label] for shade, label in zip(shades, data.labels, strict=True)
    }


EXPECTED = {shade: name[:3] for shade, name in enumerate(FILES)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.txt"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_gives_each_file_its_class(folder, name, delimiter):
    if name.endswith(".tsv"):
        delimiter = "\t"
    data = read(table(folder, lines(delimiter), name))
    assert data.classes == ("cat", "dog")
    assert labels_by_shade(data) == EXPECTED


def test_byte_order_mark_and_windows_line_ends_are_accepted(folder):
    text = "\ufeff" + lines().replace("\n", "\r\n") + "\r\n,\r\n"
    assert labels_by_shade(read(table(folder, text))) == EXPECTED


def test_backslashes_of_windows_separate_folders(folder):
    (folder / "deep").mkdir()
    for name in FILES:
        (folder / f"{name}.png").rename(folder / "deep" / f"{name}.png")
    text = lines().replace("\ncat", "\ndeep\\cat").replace("\ndog", "\ndeep\\dog")
    assert labels_by_shade(read(table(folder, text))) == EXPECTED


def test_columns_with_usual_names_are_found_and_said(folder):
    data = read(table(folder, lines(header="Image_Path,CLASS")))
    assert labels_by_shade(data) == EXPECTED
    assert data.notes[1] == "labels.csv has 12 lines: file from Image_Path, label from CLASS"


def test_named_columns_win_over_usual_names(folder):
    text = "file,label,photo,kind,age\n" + "\n".join(f"x,y,{n}.png,{n[:3]},3" for n in FILES)
    data = read(table(folder, text), columns={"file": "photo", "label": "Kind"})
    assert labels_by_shade(data) == EXPECTED
    assert data.notes[1].endswith("file from photo, label from kind; ignored: file, label, age")


def test_files_may_be_absolute_or_below_the_given_root(folder):
    (folder / "tables").mkdir()
    absolute = "file,label\n" + "\n".join(f"{folder}/{n}.png,{n[:3]}" for n in FILES)
    assert labels_by_shade(read(table(folder / "tables", absolute, "a.csv"))) == EXPECTED
    below = table(folder / "tables", lines(), "b.csv")
    assert labels_by_shade(read(below, columns={"root": str(folder)})) == EXPECTED


def test_splits_do_not_depend_on_the_order_of_lines(folder):
    data = read(table(folder, lines()))
    header, *rest = lines().splitlines()
    other = read(table(folder, "\n".join([header, *reversed(rest)]), "other.csv"))
    assert not data.identify(Decoding()).difference(other.identify(Decoding()))


def test_unicode_forms_of_a_class_are_one_class(folder):
    forms = [unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD")]
    text = lines().replace("0.png,cat", f"0.png,{forms[1]}").replace(",cat", f",{forms[0]}")
    assert read(table(folder, text)).classes == (forms[0], "dog")


def test_classes_that_look_alike_are_said(folder):
    notes = read(table(folder, lines().replace(",cat", ",Dog"))).notes
    assert any(note.startswith("the classes Dog, dog differ only in case") for note in notes)


def test_classes_that_are_equal_numbers_are_said(folder):
    text = "file,label\n" + "\n".join(
        f"{n}.png,{('1', '01', '1.0')[i % 3]}" for i, n in enumerate(FILES)
    )
    data = read(table(folder, text))
    assert data.classes == ("01", "1", "1.0")
    assert "the classes 01, 1, 1.0 are the same number and stay separate" in data.notes


@pytest.mark.parametrize("name", ["NA", "none"])
def test_class_that_may_stand_for_missing_labels_is_said(folder, name):
    data = read(table(folder, lines().replace(",cat", f",{name}")))
    assert name in data.classes
    assert f"the class {name} may stand for missing labels" in data.notes


def test_missing_groups_written_as_text_are_refused(folder):
    text = (
        lines(header="file,label,patient").replace("cat\n", "cat,a\n").replace("dog\n", "dog,NaN\n")
    )
    assert refusal(table(folder, f"{text},b")).problem == (
        'line 8 has no group: "NaN" stands for a missing cell (5 such lines)'
    )


def test_number_classes_are_in_the_order_of_their_values(folder):
    names = ["2", "10", "9"]
    text = "file,label\n" + "\n".join(f"{n}.png,{names[i % 3]}" for i, n in enumerate(FILES))
    assert read(table(folder, text)).classes == ("2", "9", "10")


def test_splits_of_the_table_are_kept(folder):
    of = {0: "train", 1: "TRAIN", 2: "val", 3: "valid", 4: "test", 5: "Testing"}
    text = "file,label,subset\n" + "\n".join(f"{n}.png,{n[:3]},{of[int(n[3])]}" for n in FILES)
    data = read(table(folder, text))
    for rows, numbers in ((data.train, (0, 1)), (data.validation, (2, 3)), (data.test, (4, 5))):
        shades = data.images[rows, 0, 0, 0] // 10
        assert sorted(shades.tolist()) == sorted([*numbers, *(6 + n for n in numbers)])
    assert data.notes[0] == (
        "12 images of 2 classes (cat 6, dog 6): train from subset=TRAIN/train (4), "
        "validation from subset=val/valid (4), test from subset=Testing/test (4)"
    )


def test_first_note_on_a_table_says_which_splits_are_drawn(folder):
    assert read(table(folder, lines())).notes[0] == (
        "12 images of 2 classes (cat 6, dog 6): validation and test are drawn from train"
    )


def test_groups_of_the_table_stay_in_one_split(folder):
    text = "file,label,patient\n" + "\n".join(f"{n}.png,{n[:3]},p{int(n[3]) // 2}" for n in FILES)
    path = table(folder, text)
    for seed in range(5):
        data = read(path, split_seed=seed)
        for rows in (data.train, data.validation, data.test):
            assert len({shade // 10 % 6 // 2 for shade in data.images[rows, 0, 0, 0]}) == 1
    assert "12 images in 3 groups that no split divides" in data.notes
    assert not any("groups" in note for note in read(path, columns={"group": ""}).notes)


def test_given_splits_that_divide_a_group_are_refused(folder):
    text = "file,label,split,patient\n" + "\n".join(
        f"{n}.png,{n[:3]},{'test' if n[3] in '05' else 'train'},p{int(n[3]) // 2}" for n in FILES
    )
    error = refusal(table(folder, text))
    assert error.problem == (
        "the splits divide 2 groups: dog1.png is in train, and cat0.png of the same group in test"
    )
    assert error.remedy == 'correct the splits, or name no groups (for a table, table.group: "")'


def test_repeated_lines_are_ignored_and_counted(folder):
    data = read(table(folder, lines() + "\n./cat0.png,cat\n"))
    assert len(data.images) == 12
    assert "1 line repeats an earlier one and is ignored" in data.notes


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (
            ("dog1.png,dog", "dog9.png,dog\ndog8.png,dog"),
            "2 files of the table cannot be found, the first in line 9: dog9.png in {folder}",
            "correct the table, or set table.root to the folder of the images",
        ),
        (
            ("dog1.png", "dog1"),
            "1 file of the table cannot be found, the first in line 9: dog1 in {folder}",
            "write names with their suffix, such as dog1.png",
        ),
        (
            ("dog1.png,dog", "dog1.png,"),
            "line 9 has no label (1 such line)",
            "fill it in or remove the line",
        ),
        (
            ("dog1.png,dog", "cat1.png,dog"),
            "lines 3 and 9 name cat1.png with a different label",
            "keep one of them",
        ),
        (
            ("dog1.png,dog", "dog1.png,dog,3"),
            "line 9 of labels.csv has 3 cells, and there are 2 columns",
            "quote cells that contain the delimiter, and fill in missing cells",
        ),
        (
            ("dog1.png", "https://example.org/dog1.png"),
            "line 9 names a URL (https://example.org/dog1.png)",
            "download the images and name their files",
        ),
        (
            ("dog1.png", '"dog1.png'),
            "the quoted cell that starts in line 9 of labels.csv spans lines 9 to 13",
            "remove the stray quote, or the line breaks in the cell",
        ),
        (
            ("cat1.png,cat\ncat2.png,cat\n", 'cat1.png,"cat\ncat2.png,cat"\n'),
            "the quoted cell that starts in line 3 of labels.csv spans lines 3 to 4",
            "remove the stray quote, or the line breaks in the cell",
        ),
        (
            ("cat1.png,cat\ncat2.png,cat\n", 'cat1.png,"cat\n"cat2.png,cat\n'),
            "the quoted cell that starts in line 3 of labels.csv spans lines 3 to 4",
            "remove the stray quote, or the line breaks in the cell",
        ),
        (
            ("dog5.png,dog", 'dog5.png,"dog'),
            "line 13 of labels.csv is not CSV (unexpected end of data)",
            "correct the quotes in this line",
        ),
        (
            ("dog1.png,dog\ndog2.png,dog", "dog1.png,nan\ndog2.png,None"),
            'line 9 has no label: "nan" stands for a missing cell (2 such lines)',
            "fill it in, remove the line, or rename the class if it is one",
        ),
        (("dog1.png", "."), "line 9 names ., which is not a file", "name an image"),
        (
            ("dog\n", "cat\n"),
            "the train split has no image of dog, and each split needs one of each class",
            "add images to it or remove the class",
        ),
    ],
)
def test_bad_line_is_refused_by_its_number(folder, change, problem, remedy):
    text = lines()
    if change[0] == "dog\n":
        text = lines(header="file,label,split").replace("cat\n", "cat,train\n")
        text = text.replace("dog\n", "dog,test\n") + ",test\ncat1.png,cat,train\n"
    else:
        text = text.replace(*change, 1)
    error = refusal(table(folder, text))
    assert error.field == "data"
    assert error.problem == problem.format(folder=folder)
    assert error.remedy == remedy


def test_unknown_split_is_refused_with_the_nearest_name(folder):
    text = lines(header="file,label,split").replace("cat\n", "cat,train\n")
    error = refusal(table(folder, text.replace("dog\n", "dog,trian\n") + ",test"))
    assert error.problem == 'in line 8 there is no split "trian"'
    assert error.remedy == (
        "did you mean train? Otherwise use train, validation (or val) and test, "
        'or ignore the column (table.split: "")'
    )


def test_missing_group_is_refused_with_the_way_to_ignore_groups(folder):
    text = lines(header="file,label,site").replace("cat\n", "cat,a\n").replace("dog\n", "dog,\n")
    error = refusal(table(folder, f"{text},"), group="site")
    assert error.problem == "line 8 has no group (6 such lines)"
    assert error.remedy == ('fill it in or remove the line, or ignore the column (table.group: "")')


def test_unknown_column_is_refused_with_the_nearest_name(folder):
    error = refusal(table(folder, lines()), label="lable")
    assert (error.field, error.value) == ("table.label", "lable")
    assert (error.problem, error.remedy) == ("there is no such column", "did you mean label?")


def test_table_without_usual_names_lists_its_columns(folder):
    error = refusal(table(folder, lines(header="photo,kind")))
    assert error.field == "table.file"
    assert error.problem.startswith("no column has a usual name (file, filename, ")
    assert error.remedy == (
        "name one of photo, kind; the first line of the table must name the columns"
    )


def test_one_hot_table_is_refused_with_its_columns(folder):
    rows = [f"{n}.png,{int(n[0] == 'c')}.0,{int(n[0] == 'd')}.0" for n in FILES]
    error = refusal(table(folder, "\n".join(["image,CAT,DOG", *rows])))
    assert str(error) == (
        "table.label = : the classes are columns of 0 and 1 (CAT, DOG); write the name of the "
        "class in one column instead"
    )


def test_one_column_for_two_purposes_is_refused(folder):
    error = refusal(table(folder, lines()), label="file")
    assert error.problem == "it is also the column of table.file"


def test_repeated_column_name_is_refused(folder):
    error = refusal(table(folder, "file,label,label\na.png,cat,cat"))
    assert (error.field, error.problem) == ("table.label", "two columns have this name")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\x03\x04\x00\x00", "labels.csv is not UTF-8 text"),
        (b"file,label\n\na.png\x00,b\n", "line 3 of labels.csv contains a NUL byte"),
        (b"# scans\nfile,label\n", "labels.csv starts with a comment (# scans)"),
        ("file,label\ncaf\u00e9.png,a".encode("latin-1"), "labels.csv is not UTF-8 text"),
        (b"", "labels.csv has no images"),
        (b"file,label\n", "labels.csv has no images"),
    ],
)
def test_file_that_is_no_table_is_refused(folder, content, problem):
    path = folder / "labels.csv"
    path.write_bytes(content)
    assert refusal(path).problem == problem


def test_only_spreadsheets_are_said_to_be_none(folder):
    path = folder / "labels.csv"
    for content, remedy in (
        (b"PK\x03\x04", "export it as CSV in UTF-8 (not as a spreadsheet)"),
        ("file,label\ncaf\u00e9.png,a".encode("cp1252"), "export it as CSV in UTF-8"),
    ):
        path.write_bytes(content)
        assert refusal(path).remedy == remedy


def test_delimiter_line_of_excel_is_read(folder):
    text = "sep=;\r\n" + lines(";").replace("\n", "\r\n")
    assert labels_by_shade(read(table(folder, text))) == EXPECTED
    error = refusal(table(folder, text.replace("dog1.png;dog", "dog1.png;")))
    assert error.problem == "line 10 has no label (1 such line)"


def test_column_without_a_name_is_listed(folder):
    text = "\n".join(f",{line}" for line in lines().splitlines())
    assert read(table(folder, text)).notes[1].endswith("; ignored: (no name)")


def test_absolute_path_of_windows_is_refused(folder):
    error = refusal(table(folder, lines().replace("dog1.png", r"C:\scans\dog1.png")))
    assert error.problem == (
        "line 9 names a path of Windows, which this system does not have (C:\\scans\\dog1.png)"
    )
    assert error.remedy == "write paths below the folder of the table, or below table.root"


def test_missing_table_and_folder_are_refused(folder):
    assert refusal(folder / "none.csv").problem == f"there is no file {folder / 'none.csv'}"
    assert refusal(folder).problem == "it is a folder"
    error = refusal(table(folder, lines()), root=str(folder / "none"))
    assert (error.field, error.problem) == ("table.root", "there is no such folder")


def test_columns_without_a_table_are_refused(tmp_path):
    spec = DataSpec("digits", table=TableColumns(label="kind"))
    with pytest.raises(BadInputError, match=r"the data is digits; give data: csv:PATH") as raised:
        load(spec, cache=tmp_path)
    assert (raised.value.field, raised.value.value) == ("table.label", "kind")


def test_path_of_a_table_is_refused_with_its_prefix(folder):
    path = table(folder, lines())
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(str(path)), cache=folder / "cache")
    assert raised.value.remedy == f"for your own images write csv:{path}"


def test_version_follows_table_columns_and_files(folder):
    path = table(folder, lines())

    def version(**columns: str) -> str:
        return open_table(str(path), TableColumns.model_validate(columns)).version()

    first = version()
    assert version() == first
    assert version(label="label") != first
    os.utime(folder / "cat3.png", ns=(1, 1))
    second = version()
    assert second != first
    table(folder, lines().replace("cat3.png,cat", "cat3.png,dog"))
    assert version() != second


def test_names_and_groups_survive_the_cache(folder):
    text = "file,label,patient\n" + "\n".join(f"{n}.png,{n[:3]},p{int(n[3]) // 2}" for n in FILES)
    path = table(folder, text)
    first, again = read(path), read(path)
    assert np.array_equal(first.train, again.train)
    assert again.notes == first.notes
