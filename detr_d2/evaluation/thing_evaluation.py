"""Box and mask AP of the things of a panoptic dataset, by Detectron2's COCO evaluator."""

import os

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ..data.files import write_json
from ..data.panoptic_map import boxes_of_segments, is_of_model, read_segment_map


class ThingEvaluator(COCOEvaluator):
    """COCO's AP of the `instances` that are things.

    The ground truth is the instances JSON where the dataset's metadata names one that exists
    (`json_file`), and is otherwise read off the panoptic PNGs.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...],
        output_dir: str,
        ignore_model_labels: bool = False,
    ):
        """
        Args:
            tasks: "bbox", "segm".
            output_dir: gets the ground truth and the predictions as JSON.
            ignore_model_labels: see `things_ground_truth`.
        """
        metadata = MetadataCatalog.get(dataset_name)
        classes = metadata.thing_dataset_id_to_contiguous_id
        json_file = metadata.get("json_file")
        if not (json_file and PathManager.isfile(json_file)):
            json_file = os.path.join(output_dir, "things_ground_truth.json")
            if comm.is_main_process():
                PathManager.mkdirs(output_dir)
                write_json(json_file, things_ground_truth(dataset_name, ignore_model_labels))
            comm.synchronize()

        # The evaluator takes all classes of its dataset for things, numbered without gaps.
        things = f"{dataset_name}, things"
        if things in MetadataCatalog.list():
            MetadataCatalog.remove(things)
        self._number_of_class = {c: n for n, c in enumerate(sorted(classes.values()))}
        MetadataCatalog.get(things).set(
            json_file=json_file,
            thing_classes=[metadata.thing_classes[c] for c in self._number_of_class],
            thing_dataset_id_to_contiguous_id={
                id_: self._number_of_class[c] for id_, c in classes.items()
            },
        )
        super().__init__(things, tasks, output_dir=output_dir)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take in the things among the instances of each image."""
        super().process(inputs, [{"instances": self._things(o["instances"])} for o in outputs])

    def _things(self, instances):
        numbers = [self._number_of_class.get(c, -1) for c in instances.pred_classes.tolist()]
        numbers = instances.pred_classes.new_tensor(numbers)
        things = instances[numbers >= 0]
        things.pred_classes = numbers[numbers >= 0]
        return things


def things_ground_truth(dataset_name: str, ignore_model_labels: bool = False) -> dict:
    """COCO's instances format of the things of a panoptic dataset, from its PNGs.

    Args:
        ignore_model_labels: things that a model made are as crowd regions: what is found there
            counts neither for nor against.
    """
    metadata = MetadataCatalog.get(dataset_name)
    ids = {c: id_ for id_, c in metadata.thing_dataset_id_to_contiguous_id.items()}
    images: list[dict] = []
    annotations: list[dict] = []
    for dataset_dict in tqdm(DatasetCatalog.get(dataset_name), f"Reading {dataset_name}"):
        infos = dataset_dict["segments_info"]
        segment_map = read_segment_map(dataset_dict)
        height, width = segment_map.shape
        images.append({"id": dataset_dict["image_id"], "height": height, "width": width})
        things = [t for t, info in enumerate(infos) if info["category_id"] in ids]
        masks = segment_map[..., None] == np.array(things, dtype=segment_map.dtype) + 1
        runs = coco_mask.encode(np.asfortranarray(masks, dtype=np.uint8))
        boxes = boxes_of_segments(segment_map, len(infos))[1]
        for segment, run in zip(things, runs):
            x0, y0, x1, y1 = boxes[segment].tolist()
            ignored = ignore_model_labels and is_of_model(infos[segment])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": dataset_dict["image_id"],
                    "category_id": ids[infos[segment]["category_id"]],
                    "iscrowd": 1 if ignored else infos[segment].get("iscrowd", 0),
                    "area": int(coco_mask.area(run)),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": {"size": run["size"], "counts": run["counts"].decode()},
                }
            )
    categories = [{"id": id_, "name": metadata.thing_classes[c]} for c, id_ in ids.items()]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}
