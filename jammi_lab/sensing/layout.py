"""Where the nodes of a graph are drawn: columns by longest path from the sources, places by barycentre sweeps. The same for every picture.

No dummy nodes for long edges and no edge routing: right for a few hundred visible nodes, quick for tens of thousands.
"""

from collections.abc import Sequence

from jammi_lab.errors import DependencyCycle


def layered(size: int, edges: Sequence[tuple[int, int]], sweeps: int = 8) -> tuple[list[int], list[int]]:
    """Column and place within the column of each of `size` nodes; an edge (a, b) always goes to a later column.

    The result depends on nothing but the arguments. Raises DependencyCycle when there is no such order.
    """
    below: list[list[int]] = [[] for _ in range(size)]
    above: list[list[int]] = [[] for _ in range(size)]
    for a, b in sorted(set(edges)):
        below[a].append(b)
        above[b].append(a)
    column, order = _columns(below, above)
    columns: list[list[int]] = [[] for _ in range(max(column, default=-1) + 1)]
    for node in order:
        columns[column[node]].append(node)
    return column, _places(columns, column, above, below, sweeps)


def _columns(below: list[list[int]], above: list[list[int]]) -> tuple[list[int], list[int]]:
    """The longest way to each node, and an order in which parents come before children (Kahn)."""
    waiting = [len(parents) for parents in above]
    column = [0] * len(above)
    order = [node for node, left in enumerate(waiting) if not left]
    for node in order:  # grows while it is walked
        for child in below[node]:
            column[child] = max(column[child], column[node] + 1)
            waiting[child] -= 1
            if not waiting[child]:
                order.append(child)
    if len(order) != len(above):
        raise DependencyCycle(f"{len(above) - len(order)} of {len(above)} nodes lie on a cycle or behind one.")
    return column, order


def _places(columns: list[list[int]], column: list[int], above: list[list[int]], below: list[list[int]], sweeps: int) -> list[int]:
    """Places that bring neighbours near each other: sweeps to the right on the parents, to the left on the children, until nothing moves."""
    place, height = [0] * len(column), [0.0] * len(column)
    for nodes in columns:
        _number(nodes, place, height)
    for _ in range(sweeps):
        before = place.copy()
        for there, neighbours in ((columns, above), (columns[::-1], below)):
            for nodes in there:
                was, wanted = nodes.copy(), _wanted(nodes, neighbours, place, height)
                nodes.sort(key=wanted.__getitem__)  # equal ones stay in their order
                if nodes != was:
                    _number(nodes, place, height)
        if place == before:
            break
    return place


def _wanted(nodes: list[int], neighbours: list[list[int]], place: list[int], height: list[float]) -> dict[int, float]:
    """Where each node of a column would stand for its neighbours: the mean of their heights; one without any where it is."""
    scale, wanted = len(nodes), {}
    for node in nodes:
        near = neighbours[node]
        if len(near) == 1:  # most have one or two: no sum is called for them
            wanted[node] = height[near[0]] * scale
        elif len(near) == 2:
            wanted[node] = (height[near[0]] + height[near[1]]) / 2 * scale
        else:
            wanted[node] = sum(map(height.__getitem__, near)) / len(near) * scale if near else place[node]
    return wanted


def _number(nodes: list[int], place: list[int], height: list[float]) -> None:
    """Note the place of each node of a column, and how far down that is, from 0 to 1."""
    for i, node in enumerate(nodes):
        place[node], height[node] = i, i / len(nodes)
