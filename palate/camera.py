"""A camera's path as Pluecker rays, six numbers for each ray of each frame, and back.

A ray through a pixel u = (x, y, 1) of a camera with intrinsics K, turned by R and standing at o (camera to world; x
right, y down, z forward) has the direction d = R K^-1 u, normalised, and the moment m = o x d, which is the same for
every point of the ray; d . m = 0. Channels are (m, d), as CameraCtrl has them (arXiv:2404.02101).
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

Rays = Float[ndarray, "frames 6 height width"]
Floats = NDArray[np.floating]


def pluecker(intrinsics: Floats, turned: Floats, stands: Floats, size: int) -> Rays:
    """Rays through the centres of size x size pixels.

    Args:
        intrinsics: K, (3, 3), in these pixels.
        turned: R, (frames, 3, 3).
        stands: o, (frames, 3).
    """
    y, x = np.mgrid[0:size, 0:size] + 0.5
    through = np.linalg.inv(intrinsics) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    direction = turned @ (through / np.linalg.norm(through, axis=0))
    moment = np.cross(stands[:, :, None], direction, axis=1)
    return np.concatenate([moment, direction], axis=1).reshape(len(stands), 6, size, size)


def stance(rays: Rays) -> tuple[Floats, Floats]:
    """Where the camera stands and the mean direction of its rays, (frames, 3) each.

    d x m = (1 - d d') o for every ray, so their sum is solved for o; exact for the rays of one point.
    """
    moment, direction = rays.reshape(len(rays), 2, 3, -1).transpose(1, 0, 2, 3)
    projected = np.eye(3) * direction.shape[-1] - direction @ direction.transpose(0, 2, 1)
    stands = np.linalg.solve(projected, np.cross(direction, moment, axis=1).sum(axis=2)[..., None])[..., 0]
    middle = direction.mean(axis=2)
    return stands, middle / np.linalg.norm(middle, axis=1, keepdims=True)
