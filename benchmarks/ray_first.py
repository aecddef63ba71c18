"""The pipeline that a Ray user would write first: whole frames through Ray Data, everything else in one actor class.

python benchmarks/ray_first.py MODEL OUT VIDEO...
"""

from __future__ import annotations

import os
import sys

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy

from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.models.facecycle import normalize
from fcvideo.models.store import load_model


class EmbedFaces:
    def __init__(self, model: str, device: str) -> None:
        self.device = device
        self.detect = FaceDetector(min_face_px=40)
        self.model = load_model(model).to(device)
        config = self.model.config
        self.side_px = config.image_side
        self.framing = Framing.of(config)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.detect(list(batch["frame"]))
        crops, rows, boxes = [], [], []
        for row, (frame, faces) in enumerate(zip(batch["frame"], found, strict=True)):
            for box in faces.boxes:
                crops.append(crop_face(frame, crop_affine(box, self.side_px, self.framing), self.side_px))
                rows.append(row)
                boxes.append(box)
        images = np.array(crops, np.uint8).reshape(-1, self.side_px, self.side_px, 3)
        with torch.inference_mode():
            embedding = self.model.embed(normalize(torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)))
        assert embedding.cycle_error is not None
        return {
            "video": batch["path"][rows],
            "frame_index": batch["frame_index"][rows],
            "box": np.array(boxes, np.float32).reshape(-1, 4),
            "expression": embedding.expression.cpu().numpy(),
            "identity": embedding.identity.cpu().numpy(),
            "cycle_error": embedding.cycle_error.cpu().numpy(),
        }


def main(model: str, out: str, *videos: str) -> None:
    cores, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    ray.init("local", num_cpus=cores, log_to_driver=False, include_dashboard=False)
    ray.data.read_videos(list(videos), include_paths=True).map_batches(
        EmbedFaces,
        fn_constructor_args=(model, "cuda" if gpus else "cpu"),
        batch_size=32,
        compute=ActorPoolStrategy(size=gpus or cores),  # half a core each leaves Ray cores for reading
        num_cpus=0.5,
        num_gpus=1 if gpus else None,
    ).write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
