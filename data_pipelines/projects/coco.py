"""COCO's keypoint annotations (CVAT, Label Studio, COCO): one .json with pictures beside it."""

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.clips import DataError, read_text
from data_pipelines.projects import assemble, files, names
from data_pipelines.projects.records import Options, Project, Recording, Row, Sheet, chosen
from ttp_jax.files import Damaged, parse_json, unlike

# Fields that name the individual -> whether a value means the same individual in all folders.
FIELDS = {"person_id": True, "track_id": False}
PARTS = {
    "images": [{"id": (float, str), "file_name": str}],
    "annotations": [
        {"image_id": (float, str), "category_id": (float, str), "keypoints?": (None, list)}
    ],
    "categories": [{"id": (float, str), "keypoints?": (None, [(float, str)])}],
}  # as a pattern of `files.unlike`
WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class _Category(NamedTuple):
    """A category with keypoints; `limbs` are pairs of their indices, as in the file."""

    name: str
    keypoints: tuple[str, ...]
    limbs: Any


class _File(NamedTuple):
    """The content of a file: pictures and categories by id, and people of these categories.

    `others` counts labels of categories that aren't listed or have no keypoint names.
    """

    pictures: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    categories: dict[str, _Category]
    people: list[dict]
    others: int


def sheet(path: Path, *, category: str = "", subject_field: str = "") -> Sheet:
    """Read annotations; crowds and people without a labelled keypoint are left out and counted.

    If a file has no v = 2 at all, it only has two kinds of keypoints, so v = 1 means visible.

    Args:
      path: the file.
      category: name of the category to read, if several have labelled keypoints.
      subject_field: field of the annotations that names the individual. If empty, the first of
        FIELDS that all annotations have.

    Raises:
      DataError: names the file, the annotation, what is wrong with it, and what to do.
    """
    file = _open(path)
    crowds = [person for person in file.people if _is_crowd(person)]
    labelled = [p for p in file.people if not _is_crowd(p) and any(_flags(p))]
    kind = _category(file, labelled, category, path)
    chosen_people = [p for p in labelled if file.categories[p["category_id"]][1:] == kind[1:]]
    field = _field(chosen_people, subject_field, path)
    people = _once(chosen_people, field, file.pictures)
    tables = [_keypoints(p["keypoints"], len(kind.keypoints), _where(path, p)) for p in people]
    binary = bool(tables) and not any((flags == 2).any() for _, flags in tables)
    rows = [
        Row(
            _where(path, person),
            file.pictures[person["image_id"]],
            places,
            flags >= (1 if binary else 2),
            str(_value(person, field)) if field else "",
            file.sizes.get(person["image_id"]),
            _box(person, _where(path, person)),
        )
        for person, (places, flags) in zip(people, tables, strict=True)
    ]
    left_out = {
        "crowds (iscrowd = 1)": len(crowds),
        "people without a labelled keypoint": len(file.people) - len(crowds) - len(labelled),
        "people of other categories": len(labelled) - len(chosen_people),
        "duplicate annotations": len(chosen_people) - len(people),
        "labels of categories without keypoint names": file.others,
    }
    notes = [f"left out, {what}: {count}." for what, count in left_out.items() if count]
    if binary:
        notes.append("no keypoint has v = 2, so v = 1 counts as visible.")
    limbs = _limbs(kind)
    if limbs is None:
        notes.append(
            "the category's skeleton is not a list of pairs of its keypoints: no limbs are drawn."
        )
    known = FIELDS.get(field, True) and bool(field)
    return Sheet(list(kind.keypoints), rows, limbs or (), notes, identity=known)


def pictures(path: Path) -> list[str]:
    """Return the names of all pictures in the file, in order; see `sheet`."""
    return list(_open(path).pictures.values())


def _where(path: Path, person: dict) -> str:
    return f"{path}, annotation {person.get('id')}"


def _once(people: list[dict], field: str, pictures: dict[str, str]) -> list[dict]:
    """Drop annotations that repeat others' keypoints in the same picture, as a merge may do."""
    found = {}
    for person in people:
        values = tuple(map(str, person["keypoints"]))
        key = (pictures[person["image_id"]], values, str(_value(person, field)))
        found.setdefault(key, person)
    return list(found.values())


def _is_crowd(person: dict) -> bool:
    return str(person.get("iscrowd") or 0).strip().lower() not in ("0", "0.0", "false")


def _key(value: float | str) -> str:
    """Return an id as text, because a file may have it as a number here and as a string there."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _open(path: Path) -> _File:
    """Parse a file, and check that its parts refer to each other."""
    text = read_text(path)
    try:
        content = parse_json(text, path)
    except Damaged as error:
        raise DataError(
            f"{path} is not valid JSON, or cut off ({error.reason}): export it again."
        ) from error
    try:
        if wrong := unlike(content, PARTS):
            raise ValueError(wrong)
        images = content["images"]
        names = {_key(image["id"]): str(image["file_name"]) for image in images}
        sizes = {
            _key(image["id"]): (int(image["height"]), int(image["width"]))
            for image in images
            if image.get("height") and image.get("width")
        }
        categories = {
            _key(c["id"]): _Category(
                str(c.get("name")), tuple(map(str, c["keypoints"])), c.get("skeleton")
            )
            for c in content["categories"]
            if c.get("keypoints")
        }
        everyone = [
            p | {"image_id": _key(p["image_id"]), "category_id": _key(p["category_id"])}
            for p in content["annotations"]
        ]
        people = [p for p in everyone if p["category_id"] in categories]
        others = sum(any(_flags(p)) for p in everyone if p["category_id"] not in categories)
        strays = [
            f"{_where(path, person)} refers to image {person['image_id']}"
            for person in people
            if any(_flags(person)) and person["image_id"] not in names
        ]
    except WRONG as error:
        raise DataError(
            f"{path} holds no COCO keypoint annotations ({error}): expected an object with "
            "images (id, file_name), annotations (image_id, category_id, keypoints) and categories "
            "(id, keypoints). Files of results have no keypoint names and can't be read."
        ) from error
    if any(names[_key(image["id"])] != str(image["file_name"]) for image in images):
        raise DataError(f"{path}: two images have the same id: export it again.")
    _check_categories(content["categories"], categories, path)
    if strays:
        raise DataError(f"{strays[0]}, which the file doesn't list: export it again.")
    return _File(names, sizes, categories, people, others)


def _check_categories(listed: list[dict], kept: dict[str, _Category], path: Path) -> None:
    """Raise DataError for keypoints with the same name, or two categories with the same id."""
    for category in listed:
        keypoints = tuple(map(str, category.get("keypoints") or ()))
        if keypoints and keypoints != kept[_key(category["id"])].keypoints:
            raise DataError(
                f"{path}: two categories have the id {category['id']} but different keypoints: "
                "export it again."
            )
        if twice := sorted({name for name in keypoints if keypoints.count(name) > 1}):
            raise DataError(
                f"{path}: category {category.get('name')} has the keypoint {', '.join(twice)} "
                "twice: rename one of them in the file."
            )


def _flags(person: dict) -> Sequence:
    return (person.get("keypoints") or [])[2::3]


def _category(file: _File, people: list[dict], wanted: str, path: Path) -> _Category:
    """Return the category whose keypoints to read; several may share them."""
    used = dict.fromkeys(person["category_id"] for person in people)
    kinds = [file.categories[key] for key in used]
    if wanted:
        kinds = [kind for kind in file.categories.values() if kind.name == wanted]
        if not kinds:
            known = ", ".join(kind.name for kind in file.categories.values()) or "none"
            raise DataError(
                f"{path} has no category {wanted} with keypoints: expected one of {known}."
            )
    if not kinds:
        raise DataError(
            f"{path} has no labelled keypoint (v > 0) of {len(file.people)} annotations with "
            "keypoints: label some, or export again."
        )
    if any(kind[1:] != kinds[0][1:] for kind in kinds):
        names = ", ".join(kind.name for kind in kinds)
        raise DataError(
            f"{path}: {len(kinds)} categories have labelled keypoints ({names}), expected one: "
            "label one kind, with one skeleton, or choose one with --config.data.category."
        )
    return kinds[0]


def _value(person: dict, field: str) -> Any:
    """Return a field of an annotation, or of the attributes that CVAT nests in it."""
    attributes = person.get("attributes")
    inner = attributes.get(field) if isinstance(attributes, dict) else None
    return person.get(field, inner)


def _field(people: list[dict], wanted: str, path: Path) -> str:
    """Return the field that names the individuals; "" if there is none."""
    for field in [wanted] if wanted else FIELDS:
        without = [person for person in people if _value(person, field) is None]
        if not without:
            return field if people else ""
        if wanted or len(without) < len(people):
            raise DataError(
                f"{_where(path, without[0])} has no field {field}, expected the individual's: fill "
                "it in all annotations, or remove it from all of them."
            )
    return ""


def _keypoints(values: Any, count: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [k, 2], NaN if not labelled, and flags v [k] of one person."""
    try:
        table = np.array(values, np.float64).reshape(count, 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where} has {len(values)} values in keypoints, expected {3 * count} numbers: x, y, v "
            f"of {count} keypoints. Export it again."
        ) from error
    places, flags = table[:, :2], table[:, 2]
    if not np.isin(flags, (0, 1, 2)).all():
        raise DataError(
            f"{where} has v {flags.tolist()}, expected 0 (not labelled), 1 (hidden) or 2 (visible)."
        )
    if np.isnan(places[flags > 0]).any():
        raise DataError(f"{where} has a labelled keypoint (v > 0) at NaN: set its v to 0.")
    return np.where(flags[:, None] > 0, places, np.nan), flags


def _box(person: dict, where: str) -> np.ndarray | None:
    """Return the annotation's box as x1, y1, x2, y2; None if it has none."""
    if not person.get("bbox"):
        return None
    try:
        x, y, width, height = (float(value) for value in person["bbox"])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: bbox is {person['bbox']!r}, expected four numbers x, y, width, height."
        ) from error
    return np.array([x, y, x + width, y + height])


def _limbs(kind: _Category) -> list[tuple[str, str]] | None:
    """Return the category's limbs as pairs of names; None if they can't be understood."""
    count = len(kind.keypoints)
    try:
        ends = [(int(a), int(b)) for a, b in kind.limbs or ()]
    except (TypeError, ValueError, OverflowError):
        return None
    first = min([1, *(end for limb in ends for end in limb)])  # COCO counts from 1, others from 0
    if first < 0 or any(not 0 <= end - first < count for limb in ends for end in limb):
        return None
    return [(kind.keypoints[a - first], kind.keypoints[b - first]) for a, b in ends if a != b]


# --- A project -----------------------------------------------------------------------------------


def is_one(path: Path) -> bool:
    """Return whether a .json file holds an object that mentions annotations with keypoints."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    start = text.removeprefix(codecs.BOM_UTF8).lstrip()[:1]  # editors on Windows write this mark
    return start == b"{" and b'"annotations"' in text and b'"keypoints"' in text


def read(path: Path, options: Options) -> Project:
    """Read a file of annotations, whose pictures are beside it or in a neighbouring folder.

    Args:
      path: the JSON file.
      options: what to read and how.

    Raises:
      DataError: names the file, what is wrong with it, and what to do.
    """
    whole = sheet(path, category=options.category, subject_field=options.subject_field)
    whole = whole._replace(rows=chosen(whole.rows, options.individuals, path))
    listed = pictures(path)
    root = _root(listed, path, options)
    titles = names.apart(names.folders(row.picture) for row in whole.rows)
    groups: dict[str, list[Row]] = {}
    for row in whole.rows:
        groups.setdefault(titles[names.folders(row.picture)], []).append(row)
    labelled = {row.picture for row in whole.rows}
    others = [
        titles.get(names.folders(name))
        for name in listed
        if name not in labelled and files.locate(name, [root]) is not None
    ]
    recordings = [
        Recording(
            folder or root.resolve().name,
            whole._replace(rows=rows),
            files.finder(rows, [], [root]),
            unlabelled=others.count(folder),
            continuous=False,
        )
        for folder, rows in groups.items()
    ]
    notes = []
    if not (options.media or root.resolve().is_relative_to(path.parent.resolve())):
        notes.append(f"the pictures are read from {root.resolve()}, not from beside {path.name}.")
    return assemble.project(path, "COCO", recordings, options, notes=notes)


def _root(listed: Sequence[str], path: Path, options: Options) -> Path:
    """Return the folder that contains most of the pictures."""
    near = [path.parent, path.parent.parent]
    folders = [Path(options.media).expanduser()] if options.media else near
    folders += [each for folder in folders for each in files.entries(folder) if each.is_dir()]
    counts = [
        sum(files.locate(name, [folder]) is not None for name in listed) for folder in folders
    ]
    best = max(counts)
    if not best:
        looked = options.media or f"{path.parent}, {path.parent.parent}"
        raise DataError(
            f"{path}: none of its {len(listed)} pictures ({', '.join(listed[:1])}, ...) was found "
            f"in {looked} or a subfolder: name their folder with --config.data.media."
        )
    return folders[counts.index(best)]
