"""Outlines of which forms consist: float64 [n, 2] of (x, y) in [-1, 1]^2; y points down."""

import math

import numpy as np

TURN = 2 * math.pi


def points(*coordinates: float) -> np.ndarray:
    """Convert x0, y0, x1, y1, ... to [n, 2]."""
    return np.array(coordinates, dtype=float).reshape(-1, 2)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return points(left, top, right, top, right, bottom, left, bottom)


def arc(radius: float, begin: float, end: float, corners: int = 14, x: float = 0, y: float = 0) -> np.ndarray:
    """Return corners on a circle around (x, y) from angle `begin` to `end` in radians, both included."""
    angles = np.linspace(begin, end, corners)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def ellipse(width: float, height: float, x: float = 0, y: float = 0, corners: int = 28) -> np.ndarray:
    """Return an ellipse with the half axes `width` and `height`."""
    return arc(1, 0, TURN * (1 - 1 / corners), corners) * [width, height] + [x, y]


def disc(radius: float, x: float = 0, y: float = 0) -> np.ndarray:
    return ellipse(radius, radius, x, y)


def regular(corners: int, radius: float = 1, first: float = -math.pi / 2, y: float = 0) -> np.ndarray:
    """Return a regular polygon whose first corner is at angle `first`."""
    return arc(radius, first, first + TURN * (1 - 1 / corners), corners, 0, y)


def star(tips: int, inner: float) -> np.ndarray:
    """Return a star of radius 1 with inner corners at radius `inner` and one tip upwards."""
    corners = regular(2 * tips)
    corners[1::2] *= inner
    return corners


def cogwheel(teeth: int, inner: float) -> np.ndarray:
    corners = regular(4 * teeth, first=0)
    corners[[k for k in range(4 * teeth) if k % 4 >= 2]] *= inner
    return corners


def turned(outline: np.ndarray, angle: float) -> np.ndarray:
    """Rotate an outline by `angle` radians (clockwise on the screen, as y points down)."""
    c, s = math.cos(angle), math.sin(angle)
    return outline @ np.array([[c, s], [-s, c]])


def heart() -> np.ndarray:
    t = np.linspace(0, TURN, 32, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -y / 16], axis=1)


def lens() -> np.ndarray:
    """Return two arcs that meet at the top and at the bottom."""
    left = arc(1.25, math.pi - 0.93, math.pi + 0.93, 12, 0.75)
    right = arc(1.25, -0.93, 0.93, 12, -0.75)
    return np.concatenate([left, right])
