"""Regressions of a few hundred rows, standardised, as they are common in the papers on small networks."""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_diabetes, make_friedman1, make_friedman2, make_friedman3

Columns = tuple[np.ndarray, np.ndarray]  # inputs and targets, a row each


class Regression(NamedTuple):
    """The rows, and how many hidden units a network for them has."""

    x: np.ndarray
    t: np.ndarray
    hidden: int


def regression_sets() -> dict[str, Regression]:
    """By name: a sine, three functions of Friedman 1991, two surfaces, four of Hwang et al. 1994, diabetes."""
    x = np.linspace(-1, 1, 200)[:, None]
    made = {"a sine, 1-16-1": Regression(x, np.sin(3 * x) + 0.3 * np.cos(9 * x), 16)}
    friedman: dict[str, Columns] = {
        "Friedman 1, 5-10-1": make_friedman1(200, 5, random_state=0),
        "Friedman 2, 4-10-1": make_friedman2(200, random_state=0),
        "Friedman 3, 4-10-1": make_friedman3(200, random_state=0),
    }
    made |= {name: standardised(*columns, 10) for name, columns in friedman.items()}
    at = np.random.default_rng(0).uniform(size=(300, 2))
    made["Franke's surface, 2-10-1"] = standardised(at, franke_surface(*at.T), 10)
    made["peaks, 2-10-1"] = standardised(at, peaks(*(6 * at.T - 3)), 10)
    at = np.random.default_rng(1).uniform(size=(225, 2))
    made |= {f"Hwang's {name}, 2-10-1": standardised(at, z, 10) for name, z in hwang_functions(*at.T).items()}
    x, t = load_diabetes(return_X_y=True)
    return made | {"diabetes, 10-5-1": standardised(x, t, 5)}


def standardised(x: np.ndarray, t: np.ndarray, hidden: int) -> Regression:
    """Columns of mean 0 and deviation 1."""
    t = t[:, None]
    return Regression((x - x.mean(0)) / x.std(0), (t - t.mean(0)) / t.std(0), hidden)


def franke_surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Two hills and a dip; Franke 1979, a test of interpolation."""
    u, v = 9 * x, 9 * y
    hills = 0.75 * np.exp(-((u - 2) ** 2 + (v - 2) ** 2) / 4) + 0.75 * np.exp(-((u + 1) ** 2) / 49 - (v + 1) / 10)
    return hills + 0.5 * np.exp(-((u - 7) ** 2 + (v - 3) ** 2) / 4) - 0.2 * np.exp(-((u - 4) ** 2) - (v - 7) ** 2)


def peaks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Three hills and two dips; the surface that MATLAB draws, for x and y from -3 to 3."""
    high = 3 * (1 - x) ** 2 * np.exp(-(x**2) - (y + 1) ** 2)
    return high - 10 * (x / 5 - x**3 - y**5) * np.exp(-(x**2) - y**2) - np.exp(-((x + 1) ** 2) - y**2) / 3


def hwang_functions(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Four of the five functions of Hwang, Lay, Maechler, Martin & Schimert 1994, IEEE Trans. Neural Networks 5."""
    r = (x - 0.5) ** 2 + (y - 0.5) ** 2
    steep = np.exp(x) * np.sin(13 * (x - 0.6) ** 2) * np.exp(-y) * np.sin(7 * y)
    waves = np.exp(2 * x - 1) * np.sin(3 * np.pi * (x - 0.6) ** 2) + np.exp(3 * y - 1.5) * np.sin(
        4 * np.pi * (y - 0.9) ** 2
    )
    return {
        "simple interaction": 10.391 * ((x - 0.4) * (y - 0.6) + 0.36),
        "radial function": 24.234 * r * (0.75 - r),
        "additive function": 1.3356 * (1.5 * (1 - x) + waves),
        "complicated interaction": 1.9 * (1.35 + steep),
    }
