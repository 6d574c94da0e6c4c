"""The figure that pictures are drawn on. It is imported on use, since matplotlib may be missing."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure of matplotlib that a notebook shows by itself, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        """The picture, as a notebook asks for it."""
        file = io.BytesIO()
        FigureCanvasAgg(self).print_figure(file, format="png", bbox_inches="tight", dpi=100)
        return file.getvalue()
