"""Ground made of cells: the rectangles that a body may stand in, and the ways around walls."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1: the cells x0 <= x < x1, y0 <= y < y1"""

SIZE = 32
"""all maps measure 32 x 32 cells"""
CLEARANCE = 0.4
"""how far from walls a straight way must stay: about the body of the units that have to find one"""
FINE = 8
"""points per cell at which a straight way is looked at"""


def cells(rectangles: Iterable[Rectangle]) -> np.ndarray:
    """[x, y] whether a cell belongs to one of the rectangles."""
    ground = np.zeros((SIZE, SIZE), bool)
    for x0, y0, x1, y1 in rectangles:
        ground[x0:x1, y0:y1] = True
    return ground


def maximal(ground: np.ndarray) -> list[Rectangle]:
    """All rectangles of ground that no larger one contains. A square body fits on the ground if it fits into one of them."""
    found = []
    for y0 in range(SIZE):
        open_columns = np.ones(SIZE, bool)
        for y1 in range(y0 + 1, SIZE + 1):
            open_columns = open_columns & ground[:, y1 - 1]
            for x0, x1 in runs(open_columns):
                below = y0 > 0 and ground[x0:x1, y0 - 1].all()
                above = y1 < SIZE and ground[x0:x1, y1].all()
                if not below and not above:
                    found.append((x0, y0, x1, y1))
    return found


def connected(ground: np.ndarray) -> bool:
    """Whether one can get from every cell to every other, across edges."""
    return bool(np.isfinite(_distances(ground, diagonal=False)[0][0]).all())


def has_detours(ground: np.ndarray) -> bool:
    """Whether walking straight ahead, and along a wall where there is one, can end in a dead end. It cannot where every row and
    every column of cells is in one piece: then a monotone way leads from everywhere to everywhere.
    """
    return any(len(runs(line)) > 1 for line in (*ground, *ground.T))


def routes(ground: np.ndarray) -> np.ndarray:
    """[from cell, to cell] -> the cell to walk towards, -1 for straight on; cells are numbered x * SIZE + y."""
    return _routes(ground.tobytes())


@lru_cache(maxsize=16)
def _routes(ground_bytes: bytes) -> np.ndarray:
    ground = np.frombuffer(ground_bytes, bool).reshape(SIZE, SIZE)
    places = np.argwhere(ground)
    sight = _sight(ground, places)
    before = _distances(ground, diagonal=True)[1]  # [to, from]: the next cell on the way, as ways can be walked both ways
    start, goal = np.arange(len(places))[:, None], np.arange(len(places))[None]
    following = before.T  # [from, to]
    way = np.where(sight, goal, following)
    for _ in range(4 * SIZE):  # walk on along the way, as far as one can still see
        onwards = np.where(way == goal, way, following[way, goal])
        further = sight[start, onwards]
        if not (further & (onwards != way)).any():
            break
        way = np.where(further, onwards, way)
    numbers = places[:, 0] * SIZE + places[:, 1]
    table = np.where(way == goal, -1, numbers[way]).astype(np.int16)
    # Whoever stands or aims elsewhere is treated as at the nearest cell of the ground.
    every = np.argwhere(np.ones_like(ground))
    nearest = ((every[:, None] - places[None]) ** 2).sum(axis=-1).argmin(axis=1)
    return np.ascontiguousarray(table[nearest][:, nearest])


def _sight(ground: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[from, to] whether a body can walk straight from the centre of one cell to that of another."""
    pixels = np.kron(ground, np.ones((FINE, FINE), bool))
    wide = int(CLEARANCE * FINE)
    solid = np.pad(~pixels, wide, constant_values=True)
    shifts = [(i, j) for i in range(2 * wide + 1) for j in range(2 * wide + 1)]
    n = SIZE * FINE
    free = ~np.logical_or.reduce([solid[i : i + n, j : j + n] for i, j in shifts])
    centre = (places * FINE + FINE // 2).astype(np.float32)
    clear = np.ones((len(places), len(places)), bool)
    steps = 2 * SIZE  # two looks per cell along the longest way
    for share in np.linspace(0, 1, steps, dtype=np.float32):
        x, y = ((1 - share) * centre[:, None, axis] + share * centre[None, :, axis] for axis in (0, 1))
        clear &= free[x.astype(np.int32), y.astype(np.int32)]
    return clear


def _distances(ground: np.ndarray, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the shortest ways between all cells of the ground, and the last cell before the end of each."""
    number = np.where(ground, ground.ravel().cumsum().reshape(ground.shape) - 1, -1)
    rows, columns, lengths = [], [], []
    for dx, dy in ((1, 0), (0, 1)) + (((1, 1), (1, -1)) if diagonal else ()):
        here, there = _pairs(number, dx, dy)
        joined = (here >= 0) & (there >= 0)
        if dx and dy:  # no way between two cells that touch a wall's corner
            joined &= (_pairs(number, dx, dy, True)[0] >= 0) & (_pairs(number, dx, dy, True)[1] >= 0)
        rows.append(here[joined])
        columns.append(there[joined])
        lengths.append(np.full(int(joined.sum()), np.hypot(dx, dy)))
    graph = csr_array((np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))), shape=(int(ground.sum()),) * 2)
    distance, before = shortest_path(graph, directed=False, return_predecessors=True)
    return distance, before


def _pairs(number: np.ndarray, dx: int, dy: int, crossed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Every cell and its neighbour in a direction; crossed: the two others of the same square of four."""
    low, high = (number[:, :-1], number[:, 1:]) if dy else (number, number)
    if not dx:
        return low, high
    if dy < 0:
        low, high = high, low
    return (high[:-1], low[1:]) if crossed else (low[:-1], high[1:])


def runs(line: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
