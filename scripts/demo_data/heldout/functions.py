"""Held-out functions for fill-in-the-middle; names and variables differ from those of training."""

FUNCTIONS = (
    "def add(a, b):\n    sum = a + b\n    return sum",
    "def subtract(p, q):\n    difference = p - q\n    return difference",
    "def multiply(width, height):\n    area = width * height\n    return area",
    "def divide(u, v):\n    ratio = u / v\n    return ratio",
    "def square(d):\n    return d * d",
    "def biggest(u, v):\n    if u > v:\n        return u\n    return v",
    "def total_price(prices):\n    cost = 0\n    for price in prices:\n        cost += price\n    return cost",
    "def double_all(elements):\n    return [element * 2 for element in elements]",
    "def count_elements(elements):\n    amount = len(elements)\n    return amount",
    "def smallest_of(elements):\n    ordered = sorted(elements)\n    return ordered[0]",
    "def greet(person):\n    print(person)\n    return person",
    "def area_of(side: int) -> int:\n    return side * side",
    "def perimeter(width: int, height: int) -> int:\n    edge = width + height\n    return edge * 2",
    "def reset(speed, limit=50):\n    if speed < limit:\n        return limit\n    return speed",
    "def difference(p, q):\n    \"\"\"Return the difference of p and q.\"\"\"\n    return p - q",
)  # fmt: skip
