"""Where the boxes of a directed acyclic graph go, and the paths of its edges.

The layered method of Sugiyama, Tagawa and Toda (1981): a row for each box by its longest path from a start,
edges over several rows cut up by invisible vertices, rows ordered by barycentres so that few edges cross, and
places in a row after Brandes and Köpf (2002). Boxes are kept apart within rows and rows from each other, and
an edge moves sideways only between rows: so no box touches another, and no edge a box that it passes.

Why not a library: grandalf, the layered layout in pure Python, sends edges through boxes of unequal sizes,
has no places on a box for several tensors, and is GPL or EPL; fast-sugiyama knows no sizes; Graphviz is a
program to install.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

_GAP = 26  # between boxes of a row
_EDGE_GAP = 14  # beside an edge that passes
_ROW_GAP = (16, 72)  # between rows: the least, and the most that edges which lean far may ask for
_PORT_GAP = 12  # between arrow heads at one box
_SWEEPS = 24


@dataclass
class Layout:
    """Boxes by centre `x` and top `y`; `paths[i]` runs from (x, y) to (x, y) along edge i.

    Steps of a path with equal x are straight; the others are leaning, and lie between two rows.
    """

    x: list
    y: list
    paths: list
    width: float
    height: float


def layout(sizes, edges, starts=None, bodies=None, ends=None):
    """Places boxes from the top down.

    Args:
        sizes: (width, height) that each box needs, with anything written around it.
        edges: (tail, head) indices into `sizes`; heads come below tails. Raises `graphlib.CycleError`
            when there is a cycle.
        starts: for each edge, how far right of the tail's centre, and below its top, the path starts;
            default: the middle of the lower side.
        bodies: for each box, the width within which arrows may end; default: its width.
        ends: for each edge, how far right of the head's centre it ends, or `None`: wherever is best.
    """
    starts = starts or [(0, sizes[tail][1]) for tail, _ in edges]
    bodies = bodies or [w for w, _ in sizes]
    ends = ends or [None] * len(edges)
    rank = _ranks(len(sizes), edges)
    widths, chains, rows = _cut(sizes, edges, rank)
    up, down = [[] for _ in widths], [[] for _ in widths]
    for chain in chains:
        for u, v in pairwise(chain):
            down[u].append(v)
            up[v].append(u)
    _order(rows, up, down)
    x = _coordinates(rows, up, down, widths, len(sizes))
    left = min((x[v] - widths[v] / 2 for v in range(len(x))), default=0)
    x = [round(a - left, 2) for a in x]
    origins = [x[c[-2]] + (s[0] if len(c) == 2 else 0) for c, s in zip(chains, starts, strict=True)]
    ports = _ports(edges, origins, x, bodies, ends)

    # The path's x in each row that it visits: its start, its invisible vertices, its arrow head.
    columns = [
        [x[edge[0]] + start[0], *[x[v] for v in chain[1:-1]], port]
        for edge, start, chain, port in zip(edges, starts, chains, ports, strict=True)
    ]
    lean = [0.0] * (len(rows) + 1)
    for edge, xs in zip(edges, columns, strict=True):
        for i, (a, b) in enumerate(pairwise(xs)):
            lean[rank[edge[0]] + i] = max(lean[rank[edge[0]] + i], abs(a - b))
    tops, bottoms, y = [], [], 0.0
    for row, sideways in zip(rows, lean, strict=False):
        tops.append(y)
        y += max((sizes[v][1] for v in row if v < len(sizes)), default=0)
        bottoms.append(y)
        y += min(_ROW_GAP[0] + 0.25 * sideways, _ROW_GAP[1])
    paths = []
    for (tail, _), start, xs in zip(edges, starts, columns, strict=True):
        r = rank[tail]
        points = [(xs[0], tops[r] + start[1])]
        for i, a in enumerate(xs):
            points += [(a, tops[r + i]), (a, bottoms[r + i])]
        # From within the tail's row to the top of the head's.
        paths.append([points[0], *points[2:-1]])
    return Layout(
        x=x[: len(sizes)],
        y=[tops[rank[v]] for v in range(len(sizes))],
        paths=paths,
        width=max((a + w / 2 for a, w in zip(x, widths, strict=True)), default=0),
        height=bottoms[-1] if bottoms else 0,
    )


def _ranks(count, edges):
    above, below = [set() for _ in range(count)], [set() for _ in range(count)]
    for tail, head in edges:
        above[head].add(tail)
        below[tail].add(head)
    rank = [0] * count
    for v in TopologicalSorter(dict(enumerate(above))).static_order():
        rank[v] = max((rank[u] + 1 for u in above[v]), default=0)
    for v in range(count):
        if not above[v] and below[v]:  # an input stands right above what needs it
            rank[v] = min(rank[u] for u in below[v]) - 1
    return rank


def _cut(sizes, edges, rank):
    """Adds a thin vertex for each row that an edge passes: (widths, vertices of each edge, rows)."""
    widths = [w for w, _ in sizes]
    rows = [[] for _ in range(max(rank, default=-1) + 1)]
    for v, r in enumerate(rank):
        rows[r].append(v)
    chains = []
    for tail, head in edges:
        chain = [tail]
        for r in range(rank[tail] + 1, rank[head]):
            chain.append(len(widths))
            rows[r].append(len(widths))
            widths.append(2)
        chains.append([*chain, head])
    return widths, chains, rows


def _order(rows, up, down):
    """Sorts each row in place so that few edges cross."""
    position = {}

    def settle():
        position.update((v, i) for row in rows for i, v in enumerate(row))

    # Depth first from the starts, in the order given: what belongs together begins side by side.
    seen, found = set(), []
    stack = sorted((v for row in rows for v in row if not up[v]), reverse=True)
    while stack:
        v = stack.pop()
        if v not in seen and all(u in seen for u in up[v]):
            seen.add(v)
            found.append(v)
            stack.extend(reversed(down[v]))
    place = {v: i for i, v in enumerate(found)}
    for row in rows:
        row.sort(key=place.__getitem__)
    settle()
    best, fewest, idle = [list(row) for row in rows], _crossings(rows, down, position), 0
    for sweep in range(_SWEEPS):
        if not fewest or idle == 6:
            break
        downward = sweep % 2 == 0
        near = up if downward else down
        for row in rows if downward else reversed(rows):

            def centre(v, near=near):
                return sum(position[u] for u in near[v]) / len(near[v]) if near[v] else position[v]

            row.sort(key=centre)
            position.update((v, i) for i, v in enumerate(row))
        crossings = _crossings(rows, down, position)
        idle += 1
        if crossings < fewest:
            best, fewest, idle = [list(row) for row in rows], crossings, 0
    for row, order in zip(rows, best, strict=True):
        row[:] = order


def _crossings(rows, down, position):
    total = 0
    for row in rows:
        ends = []
        for v in row:
            heads = sorted(position[u] for u in down[v])
            total += sum(len(ends) - bisect_right(ends, p) for p in heads)
            for p in heads:
                insort(ends, p)
    return total


# -------------------------------------------------------------------------------------------- places in a row


def _coordinates(rows, up, down, widths, real):
    """The centre of each vertex: the mean of the two middle ones of four placements.

    Each placement makes straight columns of vertices, preferring upper or lower neighbours, and left or right
    ones, and pushes them together.
    """
    position = {v: i for row in rows for i, v in enumerate(row)}
    conflicts = _conflicts(rows, up, position, real)
    results = []
    for downward in (True, False):
        for leftward in (True, False):
            turned = [row if leftward else row[::-1] for row in (rows if downward else rows[::-1])]
            x = _push(turned, _columns(turned, up if downward else down, conflicts), widths, real)
            results.append(x if leftward else [-a for a in x])

    def span(x):
        edges = [(a - w / 2, a + w / 2) for a, w in zip(x, widths, strict=True)]
        return min((a for a, _ in edges), default=0), max((b for _, b in edges), default=0)

    low, high = min((span(x) for x in results), key=lambda s: s[1] - s[0])
    shifted = []
    for i, x in enumerate(results):
        a, b = span(x)
        shift = low - a if i % 2 == 0 else high - b
        shifted.append([v + shift for v in x])
    return [sum(sorted(four)[1:3]) / 2 for four in zip(*shifted, strict=True)]


def _conflicts(rows, up, position, real):
    """Edges (as pairs of vertices) that cross the inner part of a long edge; that one stays straight."""
    found = set()
    for above, row in pairwise(rows):
        left = start = 0
        for i, v in enumerate(row):
            inner = next((u for u in up[v] if u >= real), None) if v >= real else None
            if inner is None and i < len(row) - 1:
                continue
            right = position[inner] if inner is not None else len(above)
            for w in row[start : i + 1]:
                for u in up[w]:
                    if not left <= position[u] <= right and not (u >= real and w >= real):
                        found.add((u, w))
            left, start = right, i + 1
    return found


def _columns(rows, near, conflicts):
    """The column of each vertex, named by its first vertex: each vertex joins its middle neighbour's."""
    position = {v: i for row in rows for i, v in enumerate(row)}
    root = list(range(len(near)))
    for row in rows:
        last = -1
        for v in row:
            found = sorted(near[v], key=position.__getitem__)
            for i in sorted({(len(found) - 1) // 2, len(found) // 2}) if found else []:
                u = found[i]
                if root[v] != v or position[u] <= last:
                    continue
                if (u, v) not in conflicts and (v, u) not in conflicts:
                    root[v] = root[u]
                    last = position[u]
    return root


def _push(rows, root, widths, real):
    """Columns as far left as their neighbours allow, then each as far right as it can without moving any."""
    apart = [{} for _ in widths]  # apart[column][column to its left] = distance
    follow = [{} for _ in widths]
    for row in rows:
        for u, v in pairwise(row):
            gap = _GAP if u < real and v < real else _EDGE_GAP
            distance = (widths[u] + widths[v]) / 2 + gap
            a, b = root[u], root[v]
            apart[b][a] = follow[a][b] = max(distance, apart[b].get(a, 0))
    order = list(TopologicalSorter({v: apart[v] for v in set(root)}).static_order())
    x = [0.0] * len(widths)
    for v in order:
        x[v] = max((x[u] + d for u, d in apart[v].items()), default=0)
    for v in reversed(order):
        x[v] = max(x[v], min((x[u] - d for u, d in follow[v].items()), default=x[v]))
    return [x[root[v]] for v in range(len(widths))]


def _ports(edges, origins, x, bodies, ends):
    """The x at which each edge's arrow ends: below where it comes from, inside the box, apart from others."""
    ports = [0.0 if end is None else x[head] + end for (_, head), end in zip(edges, ends, strict=True)]
    for head in {head for _, head in edges}:
        arriving = [i for i, edge in enumerate(edges) if edge[1] == head and ends[i] is None]
        arriving.sort(key=origins.__getitem__)
        room = max(bodies[head] - 16, 0)
        gap = min(_PORT_GAP, room / max(len(arriving) - 1, 1))
        low, high = x[head] - room / 2, x[head] + room / 2
        for k, i in enumerate(arriving):
            before = ports[arriving[k - 1]] + gap if k else low
            latest = high - gap * (len(arriving) - 1 - k)
            ports[i] = min(max(origins[i], before), latest)
    return ports
