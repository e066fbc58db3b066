"""Which prediction is paid for by which truth: the assignment problem.

scipy solves it in C, and would be half of what an installation weighs and of the time that the
reward takes to import; answers are a few rows and columns.
"""

import math
from collections.abc import Sequence


def best_assignment(gains: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The pairs (row, column) of the assignment with the highest total, in the order of rows.

    Every row has one column or, where there are more rows than columns, every column one row.
    Of several such assignments it is that of scipy's `linear_sum_assignment`.

    >>> best_assignment([[1.0, 2.0], [0.0, 4.0], [3.0, 1.0]])
    [(1, 1), (2, 0)]

    Args:
        gains: what each pair is worth; of at least one row and column, all of them finite.
    """
    if len(gains) > len(gains[0]):
        rows = _cheapest([[-gain for gain in column] for column in zip(*gains, strict=True)])
        return sorted((row, column) for column, row in enumerate(rows))
    return list(enumerate(_cheapest([[-gain for gain in row] for row in gains])))


def _cheapest(costs: list[list[float]]) -> list[int]:
    """The column of every row at the lowest total, for no more rows than columns.

    Shortest augmenting paths, as in D. F. Crouse, "On implementing 2D rectangular assignment
    algorithms" (2016). The order in which columns are tried decides among equals; it is scipy's.
    """
    width = len(costs[0])
    of_row, of_column = [-1] * len(costs), [-1] * width
    row_prices, column_prices = [0.0] * len(costs), [0.0] * width
    for start in range(len(costs)):
        distances, path = [math.inf] * width, [-1] * width
        left = list(reversed(range(width)))
        rows, columns = [], []
        row, sink, distance = start, -1, 0.0
        while sink < 0:  # Dijkstra's algorithm, from row to row through the columns they hold
            rows.append(row)
            nearest, place = math.inf, -1
            for k, column in enumerate(left):
                # In this order, for the same rounding as scipy's.
                reduced = distance + costs[row][column] - row_prices[row] - column_prices[column]
                if reduced < distances[column]:
                    distances[column], path[column] = reduced, row
                far = distances[column]
                if far < nearest or (far == nearest and of_column[column] < 0):
                    nearest, place = far, k
            distance, column = nearest, left[place]
            left[place] = left[-1]
            left.pop()
            columns.append(column)
            if of_column[column] < 0:
                sink = column
            else:
                row = of_column[column]
        row_prices[start] += distance
        for row in rows[1:]:
            row_prices[row] += distance - distances[of_row[row]]
        for column in columns:
            column_prices[column] -= distance - distances[column]
        row, column = -1, sink
        while row != start:  # the path backwards: each row on it takes the next column
            row = path[column]
            of_column[column] = row
            of_row[row], column = column, of_row[row]
    return of_row
