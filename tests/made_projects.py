"""Small labelled projects, written with pandas, sleap-io and json as the labelling tools do."""

import json
from fractions import Fraction

import numpy as np
import pandas
from PIL import Image

SIZE = (48, 64)  # height, width
JOINTS = ["nose", "ear_left", "ear_right", "tail"]


def picture(path, seed=0, size=SIZE):
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(path)


def places(*shape, seed=0):
    """Places [..., 2] in a picture, on hundredths."""
    height, width = SIZE
    return np.random.default_rng(seed).uniform(4, (width - 5, height - 5), (*shape, 2)).round(2)


def table(index, names=JOINTS, individuals=None, scorer="me", seed=0, three=False):
    """A table of labels as pandas holds it for DeepLabCut; one joint is not labelled."""
    levels = ["scorer", "bodyparts", "coords"]
    columns = [(scorer, name, axis) for name in names for axis in "xy"]
    if individuals:
        levels.insert(1, "individuals")
        columns = [(s, who, name, axis) for who in individuals for s, name, axis in columns]
    values = places(len(index), len(columns) // 2, seed=seed).reshape(len(index), -1)
    values[0, :2] = np.nan
    rows = (
        pandas.MultiIndex.from_tuples([tuple(row.split("/")) for row in index]) if three else index
    )
    return pandas.DataFrame(
        values, index=rows, columns=pandas.MultiIndex.from_tuples(columns, names=levels)
    )


def deeplabcut(root, recordings=("a", "b"), frames=(3, 10, 21), config="", kinds=("csv",), **how):
    """A project of DeepLabCut; returns the table of each recording."""
    tables = {}
    for number, name in enumerate(recordings):
        folder = root / "labeled-data" / name
        index = [f"labeled-data/{name}/img{frame:03d}.png" for frame in frames]
        for place in index:
            picture(folder / place.split("/")[-1], seed=number)
        tables[name] = table(index, seed=number, **how)
        if "csv" in kinds:
            tables[name].to_csv(folder / "CollectedData_me.csv")
        if "h5" in kinds:
            tables[name].to_hdf(folder / "CollectedData_me.h5", key="df_with_missing", mode="w")
    if config:
        (root / "config.yaml").write_text(config)
    return tables


def lightning_pose(root, folders=("a", "b"), frames=(3, 10, 21), name="CollectedData.csv", seed=0):
    """A project of Lightning Pose; returns its table."""
    index = [f"labeled-data/{folder}/img{frame:03d}.png" for folder in folders for frame in frames]
    for place in index:
        picture(root / place)
    labels = table(index, seed=seed)
    labels.to_csv(root / name)
    return labels


def annotations(pictures, people=1, seed=0, **fields):
    """COCO's annotations of some people in each picture."""
    xy = places(len(pictures), people, len(JOINTS), seed=seed)
    images = [
        {"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for i, name in enumerate(pictures)
    ]
    labels = []
    for i in range(len(pictures)):
        for person in range(people):
            rows = np.concatenate([xy[i, person], np.full((len(JOINTS), 1), 2.0)], -1)
            labels.append(
                {
                    "id": len(labels),
                    "image_id": i,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [2, 2, 40, 30],
                    "keypoints": rows.ravel().tolist(),
                }
                | {field: values[person] for field, values in fields.items()}
            )
    kind = {"id": 1, "name": "mouse", "keypoints": JOINTS, "skeleton": [[1, 4]]}
    return {"images": images, "annotations": labels, "categories": [kind]}


def coco(root, pictures=("a/img03.png", "a/img10.png", "b/img04.png"), **how):
    """A file of COCO's annotations with its pictures; returns both path and content."""
    for name in pictures:
        picture(root / name)
    content = annotations(pictures, **how)
    path = root / "labels.json"
    path.write_text(json.dumps(content))
    return path, content


def video(path, count=6, size=SIZE, aspect=(1, 1)):
    """Write a short video of such pixels; returns the frames that went in."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(1).integers(0, 256, (count, *size, 3)).astype(np.uint8)
    frames = np.repeat(np.repeat(frames[:, ::16, ::16], 16, 1), 16, 2)
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return frames


def sleap(path, videos, frames=(0, 2, 5), tracks=(), embed=False, predicted=0, seed=0):
    """Write a SLEAP file of user instances, one for each track (or one); returns its labels."""
    import sleap_io as sio

    skeleton = sio.Skeleton(list(JOINTS), edges=[("nose", "tail")])
    known = [sio.Track(name) for name in tracks] or [None]
    found = []
    for number, name in enumerate(videos):
        clip = sio.load_video(str(name))
        xy = places(len(frames), len(known), len(JOINTS), seed=seed + number)
        xy[0, 0, 1] = np.nan
        for row, frame in zip(xy, frames, strict=True):
            instances = [
                sio.Instance.from_numpy(points, skeleton=skeleton, track=track)
                for points, track in zip(row, known, strict=True)
            ]
            instances += [
                sio.PredictedInstance.from_numpy(row[0] + 1, skeleton=skeleton, score=0.5)
                for _ in range(predicted)
            ]
            found.append(sio.LabeledFrame(video=clip, frame_idx=frame, instances=instances))
    labels = sio.Labels(found)
    labels.save(str(path), embed="user" if embed else False)
    return labels
