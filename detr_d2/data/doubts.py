"""What is allowed in a dataset, and seldom meant."""

from collections import Counter, defaultdict

from ..classes import normalised


def doubts(categories: list[dict], annotations: list[dict]) -> list[str]:
    """What is allowed, and seldom meant, in a panoptic JSON.

    Args:
        annotations: whose segments have `category_id`, and `iscrowd` where they are crowd.
    """
    segments = [s for annotation in annotations for s in annotation["segments_info"]]
    total = Counter(s["category_id"] for s in segments)
    crowd = Counter(s["category_id"] for s in segments if s.get("iscrowd", 0))
    things = [c for c in categories if c["isthing"]]
    found = [
        f"The classes {' and '.join(names)} differ in case or spaces alone, which checkpoints do "
        "not tell apart: rename one, or unite them, with tools/prepare_dataset.py panoptic --merge."
        for names in _nearly_equal([c["name"] for c in categories])
    ]
    if not things:
        several = sum(_repeats_a_class(annotation) for annotation in annotations)
        more = f", though {several} images have several segments of a class" if several else ""
        found.append(
            f"No class is a thing{more}: where objects are to be told apart, name their classes "
            "with tools/prepare_dataset.py panoptic --things."
        )
    only_crowd = [c["name"] for c in things if 0 < total[c["id"]] == crowd[c["id"]]]
    if only_crowd:
        all_of_them = len(only_crowd) == sum(total[c["id"]] > 0 for c in things)
        of = "" if all_of_them else f" of {', '.join(only_crowd)}"
        found.append(
            f"All objects{of} are crowd, which is neither found nor missed in an evaluation: where "
            "they are objects (tools write iscrowd 1 for brushes), convert with --ignore-iscrowd."
        )
    return found


def _nearly_equal(names: list[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[normalised(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def unused_classes(categories: list[dict], annotations: list[dict]) -> list[str]:
    """Names of the classes that no segment is of."""
    used = {s["category_id"] for a in annotations for s in a["segments_info"]}
    return [c["name"] for c in categories if c["id"] not in used]


def _repeats_a_class(annotation: dict) -> bool:
    classes = [segment["category_id"] for segment in annotation["segments_info"]]
    return len(set(classes)) < len(classes)
