"""Kubernetes quantities, such as `512Mi`, as numbers. Grammar: k8s.io/apimachinery, `pkg/api/resource/quantity.go`."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def parse_quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for.

    Raises:
        ValueError: it is none.

    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity, such as 512Mi or 0.5")
    number, exponent, suffix = Decimal(match[1]), match[2], match[3]
    if exponent is not None:
        return number.scaleb(int(exponent))
    if suffix in _BINARY:
        return number * (1 << 10 * (_BINARY.index(suffix) + 1))
    return number.scaleb(_DECIMAL[suffix]) if suffix else number
